# Upgrades all packages: from the host's own mirrors, or those in the folder $1, which is removed then.
set -eu
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
# What a killed run left half-done.
dpkg --configure -a < /dev/null > /dev/null
mkdir -p /etc/sovereign
# To a file: whoever listens may be gone before it is done, and that must not stop it half-way.
log=/etc/sovereign/apt.log
keep="-o DPkg::Lock::Timeout=120 -o Dpkg::Options::=--force-confold -o Dpkg::Options::=--force-confdef"
if test -n "${1:-}"; then
    apt-get -q -y $keep --no-install-recommends install "$1"/*.deb < /dev/null > $log 2>&1 || { tail -n 4 $log >&2; exit 1; }
    rm -r -- "$1"
else
    apt-get -q -y $keep --with-new-pkgs upgrade < /dev/null > $log 2>&1 || { tail -n 4 $log >&2; exit 1; }
fi
apt-get -q clean < /dev/null > /dev/null
echo changed
