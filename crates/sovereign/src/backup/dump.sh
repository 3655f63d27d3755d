# Writes the database's data out beside the dump that is there, which stays as it is when both are equal, so that it is
# not read again. Says which program the host's edge runs. $1: the dump's folder. $2: what else needs a folder. $3: the
# edge's service. $4: the project. $5: the database's instance. Then: the command that writes the data out.
set -eu
umask 077
folder=$1 beside=$2 service=$3 project=$4 instance=$5
shift 5
mkdir -p -- "$folder" "$(dirname -- "$beside")"
rm -f -- "$folder".*.new # of a run that was cut off
new=$folder.$$.new
trap 'rm -f -- "$new"' EXIT
incus --project "$project" exec --mode non-interactive "$instance" -- "$@" < /dev/null > "$new"
tail -n 1 -- "$new" | grep -q '^-- Dump completed' || {
    echo "what the database wrote out has no end" >&2
    exit 1
}
if ! cmp -s -- "$new" "$folder/ghost.sql"; then
    sync -- "$new"
    mv -fT -- "$new" "$folder/ghost.sql"
fi
sed -n 's/^ExecStart=\([^ ]*\).*/\1/p' "/etc/systemd/system/$service" 2> /dev/null || true # no edge
