# What is to be compared on a host, in lines of a key, a tab and a value. Changes nothing. $1: the folder of the stack's
# state. $2: the folder of its edge. On standard input: the rules for packets as they should be. `whole` is said before.
LC_ALL=C
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
exec 2> /dev/null

say() {
    key=$1
    shift
    printf '%s\t%s\n' "$key" "$(printf '%s' "$*" | tr '\n\t' '  ')"
}
# Lines of standard input, each below a key and a name.
each() { tr '\t' ' ' | awk -v before="$1	$2	" '{ print before $0 }'; }

printf 'sovereign-audit\t1\n'

# What nft makes of rules depends on its version: so the same nft lists what is in effect, and what it makes of the wanted
# ones in a network of their own, which is gone with the command.
tables() {
    nft list tables | head -n 200 | while read -r _ family name; do
        say table "$family $name"
        case $name in
            sovereign*) nft -s list table "$family" "$name" | head -n 20000 | each "$1" "$family $name" ;;
        esac
    done
}
tables loaded
wanted=$(cat)
export wanted
list='printf "%s\n" "$wanted" | nft -f - || exit 1
nft list tables | while read -r _ family name; do
    nft -s list table "$family" "$name" | tr "\t" " " | awk -v before="wanted	$family $name	" "{ print before \$0 }"
done'
unshare --net sh -c "$list" && say compares yes
# What is loaded at the next start.
for file in /etc/sovereign/nftables.conf /etc/sovereign/instances.nft; do
    test -f "$file" && each at-boot "$file" < "$file"
done

{
    find /etc/systemd/system /run/systemd/system /etc/systemd/system.control /run/systemd/transient \
        -maxdepth 1 -name 'sovereign-*' -printf '%f\n'
    systemctl list-units --all --plain --no-legend 'sovereign-*' | awk '{ print $1 }'
} | grep -v '\.d$' | sort -u | head -n 500 | while read -r unit; do
    file=/etc/systemd/system/$unit
    if test -L "$file"; then
        say link "$unit $(readlink "$file")"
    elif test -f "$file"; then
        each text "$unit" < "$file"
    fi
    systemctl show -p FragmentPath,DropInPaths,NeedDaemonReload,ActiveState,UnitFileState,MainPID -- "$unit" |
        each show "$unit"
    process=$(systemctl show -p MainPID --value -- "$unit")
    test "${process:-0}" = 0 ||
        say runs "$unit $(sha256sum < "/proc/$process/exe" | cut -d ' ' -f 1) $(readlink "/proc/$process/exe")"
done

# Files of sites are as many as they are: each set of them is looked at as a whole.
for files in "$2"/files/*/*; do
    test -d "$files" || continue
    odd=$(find "$files" ! \( -user root -group sovereign \( -type d -perm 750 -o -type f -perm 640 \) \) | head -n 1)
    if ! whole "$files" "$(basename "$files")" || test -n "$odd"; then say changed "$files"; fi
done

# What an edge keeps, units write and open themselves is as many files as there are pages; a copy of an archive as many as there are
# packs, in a folder that nobody but root enters.
place=$(dirname "$2")
find /opt/sovereign /etc/sovereign "$1" -xdev \( -path "$2/store/*" -o -path "$2/run/*" -o -path "$2/log/*" \
    -o -path "$2/files/*/*/*" -o -path "$2/renewal/*" -o -path "$place/name-server/renewal/*" \
    -o -path "$place/renewer/run/*" -o -path "$place/renewer/certificates/*" -o -path "$place/agent/run/*" -o -path "$place/name-server/run/*" \
    -o -path "$place/name-server/knot/*" -o -path "$place/archive/*" -o -path "$place/sites/*" \
    -o -path "$place/set-up/*" \) -prune \
    -o -printf '%m %u %g %y %p\n' | head -n 5000 | while read -r line; do say file "$line"; done
find /var/lib/sovereign /root/.ssh /root/.ssh/authorized_keys /root/.ssh/authorized_keys2 -maxdepth 0 \
    -printf '%m %u %g %y %p\n' | while read -r line; do say file "$line"; done
for program in /opt/sovereign/*/sovereign; do
    test -f "$program" && say program "$(sha256sum < "$program" | cut -d ' ' -f 1) $program"
done
cat /root/.ssh/authorized_keys /root/.ssh/authorized_keys2 | head -n 1000 | while read -r line; do
    say authorized "$line"
done
printf 'end\n'
