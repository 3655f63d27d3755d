# The user of a unit and its folder. $1: the user. $2: where programs lie. $3: where state lies. $4: the unit's folder. $5:
# the mode of folders in it that are the unit's own. All else: those.
set -eu
id -u "$1" > /dev/null 2>&1 ||
    useradd --system --user-group --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin "$1"
install -d -m 0755 "$2" "$3"
# Each folder on the way, or the last one's mode would be given to none of them.
way=$3
for part in $(echo "${4#"$3"/}" | tr / ' '); do
    way=$way/$part
    test -d "$way" || install -d -m 0755 "$way"
done
chown root:"$1" "$4"
chmod 0750 "$4"
user=$1
mode=$5
cd "$4"
shift 5
install -d -o "$user" -g "$user" -m "$mode" "$@"
