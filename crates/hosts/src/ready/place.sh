# Starts Incus and sees to the place for the pool. $1: the disk, or nothing; $2: `wipe` when its data may go; $3: bytes of
# a loop file. Whatever follows finds $pool, and in $place what its pool is to be on, as `key: value`.
set -eu
disk=$1 may=$2 size=$3
pool=sovereign
systemctl enable --now incus.socket incus-startup.service > /dev/null 2>&1 || systemctl start incus.socket
timeout 120 incus admin waitready --timeout 110
see_to_the_place() {
    intent=/etc/sovereign/disk
    if test -n "$disk"; then
        test -b "$disk" || { echo "there is no disk $disk" >&2; exit 1; }
        # What a killed run of ours wrote there is no data.
        if test "$(cat "$intent" 2> /dev/null)" != "$disk"; then
            if test "$may" != wipe && test -n "$(wipefs --noheadings "$disk")"; then
                echo "$disk has data" >&2
                exit 1
            fi
            printf '%s\n' "$disk" > "$intent"
            sync "$intent"
        fi
        wipefs --all --quiet "$disk"
        place="source: $disk"
    elif test "$(stat -f -c %T /var/lib/incus)" = btrfs; then
        # No file system in a file on a file system of the same kind.
        rmdir /var/lib/sovereign/pool 2> /dev/null || btrfs subvolume delete /var/lib/sovereign/pool > /dev/null 2>&1 || true
        mkdir -p /var/lib/sovereign
        place="source: /var/lib/sovereign/pool"
    else
        place="size: ${size}B"
    fi
}
