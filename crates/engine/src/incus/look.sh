# What of a stack's edge is on a host. $1: its folder. $2: how the names of its units begin, with a dot at the end.
set -u
if cd "$1" 2> /dev/null; then
    for file in chain.pem key.pem config.json link-*.pem webhook-*.key; do
        test ! -f "$file" || echo "file $(sha256sum < "$file" | cut -d ' ' -f 1) $file"
    done
fi
cd /etc/systemd/system
echo "current $(readlink "${2}service" 2> /dev/null || echo none)"
for service in "$2"*.service; do
    test ! -f "$service" -o -L "$service" || echo "service $(systemctl is-active "$service") $service"
done
