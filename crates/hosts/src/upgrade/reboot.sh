# Ends what serves readers and then boots again, a moment after this has answered. What listens is given up first, and only
# by systemd: the services have it too, and take what comes until they stop. So whoever comes then is refused at once
# and can go to another host, and is not left waiting for one that is about to be gone. One that does not stop is no reason
# to stay half down.
set -u
for unit in /etc/systemd/system/sovereign-*.socket; do
    test ! -e "$unit" || systemctl stop --job-mode=ignore-dependencies "$(basename "$unit")"
done
for unit in /etc/systemd/system/sovereign-*.*.service; do
    test ! -e "$unit" || systemctl stop "$(basename "$unit")"
done
systemd-run --quiet --on-active=1s systemctl reboot
