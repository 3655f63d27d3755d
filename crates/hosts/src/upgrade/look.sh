# What a host has to upgrade, in its own mirrors' words: a line of `package`, its name, its version, and the one to come.
# Changes nothing but the lists of what there is. Exit code 75: it reaches no mirror.
set -eu
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
patient="-o Acquire::http::Timeout=15 -o Acquire::https::Timeout=15 -o Acquire::Retries=1 -o DPkg::Lock::Timeout=120"
# One that is not reached is no reason to believe that there is nothing new.
apt-get -q $patient -o APT::Update::Error-Mode=any update < /dev/null > /dev/null 2>&1 || exit 75
# Which mirrors there are, apt says of those only whose lists it has.
test -n "$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages')" || exit 75
apt-get -q --simulate --with-new-pkgs upgrade < /dev/null | awk '
    $1 == "Inst" {
        from = "-"
        at = 3
        if ($3 ~ /^\[/) { from = substr($3, 2, length($3) - 2); at = 4 }
        print "package", $2, from, substr($at, 2)
    }'
