# Rules that are in effect take effect at every start.
set -eu
umask 022
cat > /etc/systemd/system/sovereign-nftables.service << 'UNIT'
[Unit]
Description=Packet filter of Sovereign Stack
Documentation=file:/etc/sovereign/nftables.conf
DefaultDependencies=no
Before=network-pre.target shutdown.target
Wants=network-pre.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/nft -f /etc/sovereign/nftables.conf
ExecReload=/usr/sbin/nft -f /etc/sovereign/nftables.conf
ExecStop=/usr/sbin/nft delete table inet sovereign

[Install]
WantedBy=sysinit.target
UNIT
mv -f /etc/sovereign/nftables.new /etc/sovereign/nftables.conf
systemctl daemon-reload
systemctl -q enable sovereign-nftables.service
systemctl reload-or-restart sovereign-nftables.service
nft list table inet sovereign > /dev/null
