# What differs between two builds, or between two machines, or that no instance needs. $1 is the root; the last thing
# that happens to it before it becomes an archive.
set -eu
cd "$1"

# Of the machine that built it. An empty machine-id is made by systemd at the first start.
rm -f etc/hostname etc/resolv.conf var/lib/dbus/machine-id
: >etc/machine-id
rm -f etc/ssh/ssh_host_*

# Where packages came from in this build: nowhere that exists elsewhere.
rm -f etc/apt/sources.list etc/apt/apt.conf.d/99mmdebstrap etc/dpkg/dpkg.cfg.d/99mmdebstrap
rm -rf var/lib/apt/lists var/cache/apt var/lib/apt/extended_states var/lib/apt/mirrors
[ ! -d etc/apt ] || mkdir -p var/lib/apt/lists/partial var/cache/apt/archives/partial

# Records of the build, caches, and what was before the last change.
find var/log -type f -delete
rm -rf var/cache/ldconfig/aux-cache var/cache/debconf/*-old var/cache/man var/lib/dpkg/*-old var/lib/systemd/catalog
rm -f etc/passwd- etc/group- etc/shadow- etc/gshadow- etc/subuid- etc/subgid- etc/.pwd.lock
rm -f var/lib/systemd/random-seed var/lib/systemd/credential.secret root/.bash_history
# mmdebstrap removes what is its own: without its settings in tmp, apt would go to work on the machine that builds.
find tmp var/tmp run -mindepth 1 ! -name 'mmdebstrap.*' -delete
find . -xdev -name __pycache__ -type d -prune -exec rm -rf {} +
