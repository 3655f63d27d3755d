#!/bin/sh
# A bare Debian 12 host: a container of an Incus of our own, with an SSH server and little more, reached over a bridge.
#   bare.sh up FOLDER CACHE     prints its address; FOLDER/id is the key that it lets in
#   bare.sh down FOLDER         leaves nothing
set -eu
what=$1 folder=$2
number=$(printf '%s' "$folder" | cksum | cut -d ' ' -f 1)
bridge=bare$number
network=10.$((number % 50 + 200)).$((number / 50 % 250)).1/24
INCUS_DIR=$folder/incus
export INCUS_DIR

incus() { command incus -q "$@" < /dev/null; }

image() {
    # What a bare host has; the package list of a build is no secret that a name must keep.
    packages=systemd,systemd-sysv,dbus,iproute2,openssh-server,udev,procps
    root=$1/bare-$(printf '%s' "1 $packages" | cksum | cut -d ' ' -f 1).tar
    test -e "$root" && return
    # apt tells mirrors of those only whose lists it has; images of machines often come without.
    lists=$folder/lists
    mkdir -p "$lists/partial"
    apt-get -qq -o "Dir::State::lists=$lists" -o Acquire::Check-Valid-Until=false update > /dev/null
    mirror=$(apt-get -o "Dir::State::lists=$lists" indextargets --format '$(SITE)' "Created-By: Packages" "Codename: bookworm" "Component: main" | head -n 1)
    test -n "$mirror" || { echo "apt has no mirror of Debian 12 here" >&2; exit 1; }
    settings='[Match]\nName=eth0\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\n[DHCPv4]\nClientIdentifier=mac\n'
    mmdebstrap --quiet --variant=minbase --include="$packages" --aptopt='Acquire::Check-Valid-Until "false"' \
        --customize-hook="printf '$settings' > \"\$1/etc/systemd/network/80-eth0.network\"" \
        --customize-hook='chroot "$1" systemctl -q enable systemd-networkd' \
        --customize-hook='rm -f "$1"/etc/ssh/ssh_host_*; : > "$1/etc/machine-id"; echo bare > "$1/etc/hostname"' \
        --customize-hook='echo root:1000000:100000000 | tee "$1/etc/subuid" > "$1/etc/subgid"' \
        bookworm "$root.new.tar" "deb $mirror bookworm main"
    mv "$root.new.tar" "$root"
}

up() {
    mkdir -p "$1" "$INCUS_DIR"
    image "$1"
    chmod 711 "$folder" "$INCUS_DIR"
    # Containers share one user's allowance for it, and each runs an init.
    sysctl -q -w fs.inotify.max_user_instances=8192
    setsid /usr/libexec/incus/incusd --group root > "$folder/log" 2>&1 < /dev/null &
    echo $! > "$folder/pid"
    command incus admin waitready --timeout 60
    incus network create "$bridge" ipv4.address="$network" ipv4.nat=true ipv6.address=none
    incus storage create pool btrfs size=20GiB
    printf 'architecture: x86_64\ncreation_date: 1700000000\n' > "$folder/metadata.yaml"
    tar -C "$folder" -cf "$folder/metadata.tar" metadata.yaml
    incus image import "$folder/metadata.tar" "$root" --alias bare
    incus create bare host -s pool -n "$bridge" -c security.nesting=true \
        -c raw.lxc='lxc.init.cmd = /sbin/init systemd.unified_cgroup_hierarchy=1'
    incus start host
    for _ in $(seq 600); do
        address=$(incus list host -f csv -c 4 | cut -d ' ' -f 1)
        test -n "$address" && break
        sleep 0.1
    done
    ssh-keygen -q -t ed25519 -N '' -f "$folder/id"
    command incus -q exec host -- sh -c 'mkdir -m 700 /root/.ssh; cat > /root/.ssh/authorized_keys; ssh-keygen -qA; systemctl restart ssh' < "$folder/id.pub"
    echo "$address"
}

down() {
    incus delete -f host || true
    incus image delete bare || true
    incus storage delete pool || true
    incus network delete "$bridge" || true
    command incus admin shutdown --timeout 30 || kill "$(cat "$folder/pid")" || true
    umount -l "$INCUS_DIR/guestapi" "$INCUS_DIR/devIncus" "$INCUS_DIR/shmounts" 2> /dev/null || true
    rm -rf "$folder"
}

case $what in
up) up "$3" ;;
down) down ;;
esac
