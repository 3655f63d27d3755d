# Prints what lets a host into this host's cluster. $1: its name. It is in no cluster; an entry of that name is one of a
# host that was set up anew, or was killed while it joined. Exit code 4: the cluster's database does not answer.
set -eu
members=$(timeout 40 incus query /1.0/cluster/members) || exit 4
case $members in *"/$1\""*)
    left=$(timeout 40 incus list --all-projects -f csv -c nL | awk -F, -v host="$1" '$2 == host { print $1 }')
    test -z "$left" || { echo "the cluster has instances on an earlier $1:" $left >&2; exit 3; }
    timeout 120 incus -q cluster remove --force --yes "$1" < /dev/null > /dev/null
    ;;
esac
timeout 60 incus -q cluster add "$1" < /dev/null | tail -n 1
