# Rules that lie for the next start take effect now. On standard input: the unit that sees to them.
set -eu
umask 022
cat > /etc/systemd/system/sovereign-nftables.service
systemctl daemon-reload
systemctl -q enable sovereign-nftables.service
systemctl reload-or-restart sovereign-nftables.service
nft list table inet sovereign > /dev/null
