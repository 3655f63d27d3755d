# Removes configurations that no unit names. $1: the folder they lie in.
set -eu
for config in "$1"/config-*.json; do
    grep -qsF "$config" /etc/systemd/system/sovereign-*.service || rm -f -- "$config"
done
