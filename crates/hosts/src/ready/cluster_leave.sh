# Takes a host out of this host's cluster. $1: its name; $2: `purge` when what is on it may go; $3: `gone` when it is not
# there any more. Exit code 4: the cluster's database does not answer; 3: something is on it.
set -eu
members=$(timeout 40 incus query /1.0/cluster/members) || exit 4
case $members in *"/$1\""*) ;; *) exit 0 ;; esac
instances=$(timeout 40 incus list --all-projects -f csv -c enL | awk -F, -v host="$1" '$3 == host { print $1 "," $2 }')
volumes=$(timeout 40 incus storage volume list sovereign --all-projects -f csv -c enL type=custom |
    awk -F, -v host="$1" '$3 == host && $2 !~ /\// { print $1 "," $2 }') # snapshots go with their volume
if test "$2" != purge && test -n "$instances$volumes"; then
    for what in $instances; do echo "instance ${what#*,} is still there" >&2; done
    for what in $volumes; do echo "volume ${what#*,} is still there" >&2; done
    exit 3
fi
if test "$3" = gone; then
    timeout 120 incus -q cluster remove --force --yes "$1" < /dev/null > /dev/null
else
    for what in $instances; do timeout 120 incus delete --force --project "${what%%,*}" "${what#*,}" < /dev/null; done
    for what in $volumes; do
        timeout 120 incus storage volume delete sovereign "${what#*,}" --project "${what%%,*}" --target "$1" < /dev/null > /dev/null
    done
    timeout 120 incus -q cluster remove --yes "$1" < /dev/null > /dev/null
fi
echo changed
