# Debian starts the name server that it installs, at port 53: ours is another unit, and this one never runs. One that was
# there before is its operator's.
mask_knot() {
    test "$(dpkg-query -W -f '${db:Status-Status}' knot 2> /dev/null)" != installed || return 0
    test ! -L /etc/systemd/system/knot.service || return 0
    mkdir -p /etc/sovereign
    echo knot.service > /etc/sovereign/masked
    systemctl --quiet mask knot.service
}
