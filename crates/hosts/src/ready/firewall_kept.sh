# Rules that are in effect take effect at every start. On standard input: the unit that sees to that.
set -eu
umask 022
cat > /etc/systemd/system/sovereign-nftables.service
mv -f /etc/sovereign/nftables.new /etc/sovereign/nftables.conf
systemctl daemon-reload
systemctl -q enable sovereign-nftables.service
systemctl reload-or-restart sovereign-nftables.service
nft list table inet sovereign > /dev/null
