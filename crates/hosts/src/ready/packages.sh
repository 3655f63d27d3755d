# Installs $@ from the host's own mirrors. Exit code 75: it cannot get them there. `mask_all` is said before.
set -eu
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
installed() { test "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2> /dev/null)" = installed; }
. /etc/os-release
missing=
for package in "$@"; do installed "$package" || missing="$missing $package"; done
test -n "$missing" || exit 0
# What a killed run left half-done.
dpkg --configure -a < /dev/null > /dev/null
backports=$VERSION_CODENAME-backports
wanted=
for package in $missing; do
    case $VERSION_ID:$package in
    12:incus*) wanted="$wanted $package/$backports" ;;
    *) wanted="$wanted $package" ;;
    esac
done
patient="-o Acquire::http::Timeout=15 -o Acquire::https::Timeout=15 -o Acquire::Retries=1 -o DPkg::Lock::Timeout=120"
apt-get -q $patient update < /dev/null > /dev/null 2>&1 || exit 75
if test "$VERSION_ID" = 12 && ! apt-cache policy | grep -q "n=$backports"; then
    # From where Debian itself comes.
    site=$(apt-get indextargets --format '$(SITE)$(CODENAME)' "Created-By: Packages" "Codename: $VERSION_CODENAME" "Component: main" "Origin: Debian" | head -n 1)
    site=${site%"$VERSION_CODENAME"}
    test -n "$site" || exit 75
    # Written whole, or a killed run would leave what apt cannot read.
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n' "$site" "$backports" "$keyring" \
        > /etc/apt/sources.list.d/sovereign-backports.new
    mv -f /etc/apt/sources.list.d/sovereign-backports.new /etc/apt/sources.list.d/sovereign-backports.sources
    apt-get -q $patient update < /dev/null > /dev/null 2>&1 || exit 75
fi
apt-get -q $patient --simulate --no-install-recommends install $wanted < /dev/null > /dev/null 2>&1 || exit 75
# What is removed again is what came. Written before, so that a run that is killed leaves no package behind unknown.
mkdir -p /etc/sovereign
apt-get -q --simulate --no-install-recommends install $wanted < /dev/null | awk '$1 == "Inst" && $3 !~ /^\[/ { print $2 }' >> /etc/sovereign/packages
sort -u -o /etc/sovereign/packages /etc/sovereign/packages
mask_all
# To a file: whoever listens may be gone before it is done, and that must not stop it half-way.
log=/etc/sovereign/apt.log
apt-get -q -y $patient --no-install-recommends -o Dpkg::Options::=--force-confold install $wanted < /dev/null > $log 2>&1 ||
    { tail -n 4 $log >&2; exit 1; }
for package in "$@"; do installed "$package" || { echo "$package is not installed" >&2; exit 1; }; done
echo changed
