# Undoes what was done. $1: the beginning of comments in authorized_keys; $2: `purge` when data may go.
set -u
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
failed=0
attempt() { "$@" > /dev/null || { echo "$*: failed" >&2; failed=1; }; }
has() { command -v "$1" > /dev/null; }

if has incus && timeout 120 incus admin waitready --timeout 110 2> /dev/null; then
    if incus project show sovereign > /dev/null 2>&1; then
        for instance in $(incus list --project sovereign -f csv -c n); do
            test "$2" = purge || { echo "instance $instance is still there" >&2; exit 3; }
            attempt incus delete --force --project sovereign "$instance"
        done
        # Snapshots are listed too, and go with their volume.
        for volume in $(incus storage volume list sovereign --project sovereign -f csv -c n type=custom | awk '!/\//'); do
            test "$2" = purge || { echo "volume $volume is still there" >&2; exit 3; }
            attempt incus storage volume delete sovereign "$volume" --project sovereign
        done
        for image in $(incus image list --project sovereign -f csv -c F); do
            attempt incus image delete --project sovereign "$image"
        done
        incus profile device remove default root --project sovereign > /dev/null 2>&1
        attempt incus project delete sovereign
        if incus network show sovereign0 > /dev/null 2>&1; then attempt incus network delete sovereign0; fi
    fi
    if incus storage show sovereign > /dev/null 2>&1; then attempt incus storage delete sovereign; fi
    # It was no cluster. Where the package stays and nothing else is in it, it is none again.
    if test -e /var/lib/incus/cluster.crt && ! grep -qsx incus-base /etc/sovereign/packages && test $failed = 0 &&
        test -z "$(incus storage list -f csv)$(incus list --all-projects -f csv)"; then
        attempt timeout 100 systemctl stop incus.socket incus.service
        attempt rm -rf /var/lib/incus/database /var/lib/incus/cluster.crt /var/lib/incus/cluster.key
        attempt systemctl start incus.socket incus.service
    fi
    for key in core.proxy_http core.proxy_https images.auto_update_interval; do incus config unset $key 2> /dev/null; done
    # Its disk was empty, or was emptied on purpose: it is empty again, and can be given once more.
    if test -s /etc/sovereign/disk && test $failed = 0; then attempt wipefs --all --quiet "$(cat /etc/sovereign/disk)"; fi
fi
attempt rm -f /etc/systemd/system/multi-user.target.wants/incus.service
# What listens goes first, and by itself: a connection would start its service again, and with it the other sockets.
for unit in /etc/systemd/system/sovereign-*.socket; do
    test ! -e "$unit" || attempt systemctl stop --job-mode=ignore-dependencies "$(basename "$unit")"
done
for unit in /etc/systemd/system/sovereign-*.socket /etc/systemd/system/sovereign-*.*.service; do
    test -e "$unit" || continue
    attempt systemctl disable --now "$(basename "$unit")" 2> /dev/null
    attempt rm -f "$unit"
done
attempt rm -rf /opt/sovereign
for user in sovereign-renewer sovereign-names sovereign-agent sovereign; do
    if id -u "$user" > /dev/null 2>&1; then attempt userdel "$user"; fi
done
if test -e /etc/systemd/system/sovereign-nftables.service; then
    attempt systemctl disable --now sovereign-nftables.service 2> /dev/null
    attempt rm -f /etc/systemd/system/sovereign-nftables.service /etc/sovereign/nftables.conf
    attempt systemctl daemon-reload
fi
if test -e /etc/systemd/system/sovereign-instances.service; then
    attempt systemctl disable sovereign-instances.service 2> /dev/null
    attempt rm -f /etc/systemd/system/sovereign-instances.service /etc/sovereign/instances.nft
    attempt systemctl daemon-reload
    for family in bridge inet; do nft delete table $family sovereign_instances 2> /dev/null; done
fi
attempt rm -f /etc/sysctl.d/60-sovereign.conf
test $failed = 0 || exit 1
list=/etc/sovereign/packages
if test -s $list; then
    # What came with us goes with us. What somebody else needs by now stays, and that is said.
    present=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' $(cat $list) 2> /dev/null | awk '$1 != "not-installed" { print $2 }')
    others=$(apt-get --simulate purge $present < /dev/null | awk '$1 == "Purg" || $1 == "Remv" { print $2 }' | grep -vxFf $list)
    if test -n "$others"; then
        echo "packages stay, because others need them: $(echo $others)" >&2
    elif test -n "$present"; then
        # The package leaves a daemon at work that has nothing left to work on.
        if grep -qx incus-base $list; then
            timeout 100 systemctl stop incus.socket incus-user.socket incus.service 2> /dev/null ||
                systemctl kill --signal=KILL incus.service
        fi
        attempt apt-get -q -y -o DPkg::Lock::Timeout=120 purge $present < /dev/null
        hash -r
        if ! has incus; then
            for mounted in guestapi devIncus shmounts; do umount -l "/var/lib/incus/$mounted" 2> /dev/null; done
            attempt rm -rf /var/lib/incus /var/log/incus /var/cache/incus
        fi
    fi
fi
test $failed = 0 || exit 1
for unit in $(cat /etc/sovereign/masked 2> /dev/null); do attempt systemctl --quiet unmask "$unit"; done
attempt rm -rf /etc/apt/sources.list.d/sovereign-backports.sources /var/lib/sovereign
# The marker before the keys: without them nobody could come back and finish this.
attempt rm -rf /etc/sovereign
test $failed = 0 || exit 1
file=$HOME/.ssh/authorized_keys
if test -e "$file"; then
    beside=$file.sovereign
    awk -v ours="$1" 'index($NF, ours) != 1' "$file" > "$beside" && chown --reference="$file" "$beside" &&
        chmod --reference="$file" "$beside" && sync "$beside" && mv -f "$beside" "$file" || failed=1
fi
rm -f /run/sovereign-host.lock
exit $failed
