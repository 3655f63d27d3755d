# Writes the database's data out beside the dump that is there, which stays as it is when both are equal, so that it is
# not read again. The disk is not filled by it: a database whose disk is full stands still. Says which program the host's
# edge runs. $1: the dump's folder. $2: what else needs a folder. $3: the edge's service. $4: the project. $5: the
# database's instance. Then: the command that writes the data out.
set -eu
umask 077
folder=$1 beside=$2 service=$3 project=$4 instance=$5
shift 5
mkdir -p -- "$folder" "$(dirname -- "$beside")"
rm -f -- "$folder".*.new # of a run that was cut off
new=$folder.$$.new
trap 'rm -f -- "$new"' EXIT
{ read -r _; read -r _ all _ free _; } << END
$(df -P -B 1 -- "$folder")
END
# As much as backups leave free everywhere.
reserve=$((all / 20))
[ "$reserve" -lt 536870912 ] || reserve=536870912
no_room() {
    echo "there is no room to write the database out: $free bytes are free, and $reserve have to stay free" >&2
    exit 1
}
blocks=$(((free - reserve) / 512))
last=$(stat -c %s -- "$folder/ghost.sql" 2> /dev/null || echo 0)
[ "$blocks" -gt "$((last / 512))" ] || no_room
# Should it have grown, it ends there.
ended=0
(ulimit -f "$blocks" && incus --project "$project" exec --mode non-interactive "$instance" -- "$@") \
    < /dev/null > "$new" || ended=$?
[ "$(stat -c %s -- "$new")" -lt "$((blocks * 512))" ] || no_room
[ "$ended" = 0 ] || exit "$ended"
tail -n 1 -- "$new" | grep -q '^-- Dump completed' || {
    echo "what the database wrote out has no end" >&2
    exit 1
}
if ! cmp -s -- "$new" "$folder/ghost.sql"; then
    sync -- "$new"
    mv -fT -- "$new" "$folder/ghost.sql"
fi
sed -n 's/^ExecStart=\([^ ]*\).*/\1/p' "/etc/systemd/system/$service" 2> /dev/null || true # no edge
