# Whoever changed the rules can still come in.
systemctl stop sovereign-undo.timer sovereign-undo.service 2> /dev/null
systemctl reset-failed sovereign-undo.service 2> /dev/null
test -e /etc/sovereign/nftables.conf && nft list table inet sovereign > /dev/null
