# What lies in $1, and with "swap" the next in its place, if the newest is still number $3. The rest is on standard input.
set -eu
folder=$1

newest() {
    newest=0
    for file in "$folder"/lease.*; do
        number=${file##*.}
        case $number in
        "" | *[!0-9]* | 0* | ????????????????*) continue ;;
        esac
        if [ "$number" -gt "$newest" ]; then newest=$number; fi
    done
}

boot=$(cat /proc/sys/kernel/random/boot_id)
outcome=seen
if [ "$2" = swap ]; then
    outcome=lost
    umask 077
    mkdir -p -- "$folder"
    # Whoever else is here takes its own away meanwhile; what cannot be removed now is removed another time.
    find "$folder" -maxdepth 1 -ignore_readdir_race -name '.new.*' -mmin +10 -delete || true
    beside=$(mktemp -- "$folder/.new.XXXXXXXX")
    trap 'rm -f -- "$beside"' EXIT
    read -r up _ < /proc/uptime
    {
        echo "$up $boot $4"
        cat
    } > "$beside"
    newest
    next=$(($3 + 1))
    # A number is given once: whoever is too late finds it taken, or a higher one, since the newest is never removed.
    if [ "$newest" = "$3" ] && ln -- "$beside" "$folder/lease.$next" 2> /dev/null; then
        newest
        if [ "$newest" = "$next" ]; then
            outcome=won
            for file in "$folder"/lease.*; do
                number=${file##*.}
                case $number in
                "" | *[!0-9]* | 0* | ????????????????*) continue ;;
                esac
                if [ "$number" -lt "$next" ]; then rm -f -- "$file"; fi
            done
        fi
    fi
fi

tries=0
while :; do
    newest
    if [ "$newest" = 0 ]; then
        text=
        break
    fi
    # Between being found and being read it may have been replaced.
    if text=$(cat -- "$folder/lease.$newest" 2> /dev/null); then break; fi
    tries=$((tries + 1))
    if [ "$tries" -gt 20 ]; then
        echo "the lease in $folder cannot be read" >&2
        exit 1
    fi
done
read -r up _ < /proc/uptime
printf '%s %s %s %s\n%s\n' "$outcome" "$up" "$boot" "$newest" "$text"
