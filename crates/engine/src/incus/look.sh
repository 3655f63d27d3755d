# What of a unit of a stack's is on a host. $1: its folder. $2: how the names of its files begin, with a dot at the end.
set -u
LC_ALL=C
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
exec 2> /dev/null
if cd "$1"; then
    for file in chain.pem key.pem config.json link-*.pem webhook-*.key key-*.pem; do
        test ! -f "$file" || echo "file $(sha256sum < "$file" | cut -d ' ' -f 1) $file"
    done
    for list in "$1"/files/*/*/.list; do
        test ! -f "$list" || echo "folder ${list%/.list}"
    done
fi
cd /etc/systemd/system
echo "current $(readlink "${2}service" || echo none)"
sha256sum -- "$2"*.service "$2"*.socket | sed 's/^/text /'
systemctl show --property=Id,ActiveState -- "$2"*.service "$2"*.socket | awk '
    function told() { if (id != "") print (id ~ /[.]socket$/ ? "socket " : "service ") state " " id; id = "" }
    /^Id=/ { id = substr($0, 4) }
    /^ActiveState=/ { state = substr($0, 13) }
    /^$/ { told() }
    END { told() }'
