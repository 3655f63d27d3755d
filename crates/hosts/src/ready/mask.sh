# Debian starts what it installs: a name server at port 53, where ours is another unit, and tor, of which nothing but the
# geography that comes with it is wanted. They never run. What was there before is its operator's.
mask() {
    test "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2> /dev/null)" != installed || return 0
    shift
    mkdir -p /etc/sovereign
    for unit in "$@"; do
        test ! -L "/etc/systemd/system/$unit" || continue
        echo "$unit" >> /etc/sovereign/masked
        systemctl --quiet mask "$unit"
    done
}
mask_all() {
    mask knot knot.service
    mask tor tor.service tor@default.service
}
