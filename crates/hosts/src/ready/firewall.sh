# The rules on standard input take effect, now and at every start. Undone after a minute unless `firewall_kept.sh` runs.
set -eu
umask 022
new=/etc/sovereign/nftables.new
cat > "$new"
unit=/etc/systemd/system/sovereign-nftables.service
nft -c -f "$new"
if cmp -s "$new" /etc/sovereign/nftables.conf && systemctl -q is-active sovereign-nftables.service &&
    nft list table inet sovereign > /dev/null 2>&1; then
    rm "$new"
    exit 0
fi
cat > "$unit" << 'UNIT'
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
systemctl daemon-reload
systemctl stop sovereign-undo.timer 2> /dev/null || true
systemd-run -q --unit=sovereign-undo --on-active=60 /bin/sh -c \
    'systemctl disable --now sovereign-nftables.service; nft delete table inet sovereign; rm -f /etc/sovereign/nftables.conf'
mv -f "$new" /etc/sovereign/nftables.conf
systemctl -q enable sovereign-nftables.service
systemctl restart sovereign-nftables.service
nft list table inet sovereign > /dev/null
echo changed
