# What is to be known of a host, in lines of a key, a tab and a value. Changes nothing.
LC_ALL=C
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
exec 2> /dev/null

say() {
    key=$1
    shift
    printf '%s\t%s\n' "$key" "$(printf '%s' "$*" | tr '\n\t' '  ')"
}
has() { command -v "$1" > /dev/null; }
yes_or_no() { "$@" > /dev/null && echo yes || echo no; }

printf 'sovereign-facts\t1\n'
say clock "$(date +%s.%N)"
say uid "$(id -u)"
say architecture "$(uname -m)"
say kernel "$(uname -r)"
(
    . /etc/os-release
    say os-id "$ID"
    say os-version "$VERSION_ID"
    say os-codename "$VERSION_CODENAME"
    say os-name "$PRETTY_NAME"
)
say cores "$(nproc)"
say memory-kib "$(awk '/^MemTotal:/ { print $2 }' /proc/meminfo)"
say memory-available-kib "$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo)"
say disk-free "$(df -B1 --output=avail /var/lib | tail -n 1 | tr -d ' ')"
say systemd "$(yes_or_no test -d /run/systemd/system)"
say virtualization "$(systemd-detect-virt)"
say clock-synchronized "$(timedatectl show -p NTPSynchronized --value)"

modules=/lib/modules/$(uname -r)
comes_as_module() { grep -qs "/$1\.ko" "$modules/modules.dep" "$modules/modules.builtin"; }
has_filesystem() { grep -qsw "$1" /proc/filesystems || comes_as_module "$1"; }
has_nftables() { grep -qs nft_do_chain /proc/kallsyms || comes_as_module nf_tables; }
say user-namespaces "$(yes_or_no unshare --user true)"
say cgroup2 "$(yes_or_no test "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs)"
say nftables "$(yes_or_no has_nftables)"
say overlay "$(yes_or_no has_filesystem overlay)"
say btrfs "$(yes_or_no has_filesystem btrfs)"
say inotify-instances "$(cat /proc/sys/fs/inotify/max_user_instances)"

say disks "$(lsblk -J -b -o NAME,PATH,SIZE,TYPE,RO,FSTYPE,PTTYPE,MOUNTPOINTS)"
# In a container lsblk tells disks that nobody there can read, as if they were empty.
for disk in /sys/block/*; do
    test -b "/dev/${disk##*/}" && say device "/dev/${disk##*/}"
done
say sees-ports "$(yes_or_no has ss)"
ss -H -lntup | head -n 500 | while read -r line; do say listens "$line"; done
say ssh-connection "$SSH_CONNECTION"

{ has dockerd || test -S /run/docker.sock; } && say manager docker
{ has kubelet || has k3s || test -d /etc/kubernetes || test -d /var/lib/rancher; } && say manager kubernetes
{ has lxd || test -d /var/snap/lxd; } && say manager lxd
test -d /etc/pve && say manager proxmox
{ has ufw && ufw status | grep -qi '^status: active'; } && say firewall ufw
systemctl -q is-active firewalld && say firewall firewalld
{ has nft && nft list tables | head -n 100; } | while read -r _ family name; do say table "$family $name"; done

for package in incus incus-base incus-client btrfs-progs nftables dnsmasq-base udev knot knot-dnssecutils \
    knot-module-geoip tor-geoipdb; do
    dpkg-query -W -f '${db:Status-Status}\t${Version}\n' "$package" | while read -r status version; do
        test "$status" = installed && say package "$package $version"
    done
done
if has incus && test -e /var/lib/incus/database; then
    test -e /var/lib/incus/cluster.crt && say incus-clustered yes
    server=$(timeout 20 incus query /1.0 | tr -d '\n')
    say incus-server "$server"
    # A cluster without a quorum answers nothing, and each question would take as long as the one before.
    if test -n "$server" && timeout 20 incus query /1.0/projects > /dev/null; then
        test -e /var/lib/incus/cluster.crt &&
            say incus-members "$(timeout 20 incus query '/1.0/cluster/members?recursion=1' | tr -d '\n')"
        say incus-pools "$(timeout 20 incus storage list -f csv -c n | tr '\n' ' ')"
        say incus-projects "$(timeout 20 incus project list -f csv -c n | sed 's/ (current)$//' | tr '\n' ' ')"
    fi
fi
test -f /etc/sovereign/host.json && say marker "$(head -c 65536 /etc/sovereign/host.json)"
printf 'end\n'
