# What a stack's edge and the instances use. $1: the service of the edge. $2: how the folders of instances begin.
set -u
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
# The memory of processes, whose ids come in: what each has for itself, and its share of what it has with others, in KiB.
memory() {
    sed 's|.*|/proc/&/smaps_rollup|' | xargs -r cat 2> /dev/null | awk '/^Pss:/ { sum += $2 } END { print sum + 0 }'
}
echo "now $(date +%s)"
systemctl show --timestamp=unix --property=MainPID,NRestarts,ActiveEnterTimestamp,CPUUsageNSec "$1" | sed 's/^/edge /'
echo "edge Memory=$(systemctl show --property=MainPID --value "$1" | grep -vx 0 | memory)"
cd /sys/fs/cgroup || exit 0
for folder in "$2"*; do
    test -f "$folder/cpu.stat" || continue
    processor=$(awk '/^usage_usec/ { print $2 }' "$folder/cpu.stat")
    echo "instance ${folder#"$2"} ${processor:-0} $(find "$folder" -name cgroup.procs -exec cat {} + 2> /dev/null | memory)"
done
