# Removes programs that no unit names. $1: where programs lie.
set -eu
for program in "$1"/*/; do
    digest=$(basename "$program")
    grep -qs "$digest" /etc/systemd/system/sovereign-*.service || rm -r -- "$program"
done
