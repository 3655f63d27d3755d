# Installs the packages in the folder $1, which were brought along, and removes the folder. `mask_all` is said
# before.
set -eu
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
dpkg --configure -a < /dev/null > /dev/null
mkdir -p /etc/sovereign
for file in "$1"/*.deb; do dpkg-deb -f "$file" Package; done > "$1/names"
for package in $(cat "$1/names"); do
    test "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null)" = installed || echo "$package"
done >> /etc/sovereign/packages
sort -u -o /etc/sovereign/packages /etc/sovereign/packages
mask_all
log=/etc/sovereign/apt.log
apt-get -q -y -o DPkg::Lock::Timeout=120 --no-install-recommends -o Dpkg::Options::=--force-confold \
    install "$1"/*.deb < /dev/null > $log 2>&1 || { tail -n 4 $log >&2; exit 1; }
rm -r -- "$1"
echo changed
