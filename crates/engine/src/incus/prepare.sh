# The user of edges and the folders of one. $1: the user. $2: where programs lie. $3: where state lies. $4: the edge's folder.
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
install -d -o "$1" -g "$1" -m 0700 "$4/store" "$4/run" "$4/log"
