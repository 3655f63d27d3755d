# What units of a host's own and the instances use. $1: how the folders of instances begin. All else: the services.
set -u
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
instances=$1
shift
# The memory of processes, whose ids come in: what each has for itself, and its share of what it has with others, in KiB.
memory() {
    sed 's|.*|/proc/&/smaps_rollup|' | xargs -r cat 2> /dev/null | awk '/^Pss:/ { sum += $2 } END { print sum + 0 }'
}
echo "now $(date +%s)"
for service in "$@"; do
    systemctl show --timestamp=unix --property=MainPID,NRestarts,ActiveEnterTimestamp,CPUUsageNSec "$service" |
        sed "s/^/service $service /"
    # A name server's Knot is a process of its service too.
    group=$(systemctl show --property=ControlGroup --value "$service")
    echo "service $service Memory=$(cat "/sys/fs/cgroup${group:-/nothing}/cgroup.procs" 2> /dev/null | memory)"
done
cd /sys/fs/cgroup || exit 0
for folder in "$instances"*; do
    test -f "$folder/cpu.stat" || continue
    processor=$(awk '/^usage_usec/ { print $2 }' "$folder/cpu.stat")
    echo "instance ${folder#"$instances"} ${processor:-0} $(find "$folder" -name cgroup.procs -exec cat {} + 2> /dev/null | memory)"
done
