# The folder of the socket that a renewer asks a daemon at: the daemon's own, and what is made in it is of the renewer's group. $1: the
# renewer's user. $2: the daemon's. $3: the folder.
set -eu
id -u "$1" > /dev/null 2>&1 ||
    useradd --system --user-group --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin "$1"
install -d -o "$2" -g "$1" -m 2750 "$3"
