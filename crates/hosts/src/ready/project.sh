# The project that everything of the stack's is in. $1: the stack.
set -eu
project=sovereign
if ! incus project show "$project" > /dev/null 2>&1; then
    incus project create "$project" -c features.images=true -c features.profiles=true -c features.storage.volumes=true
    echo changed
fi
# Once more and each time: a run may have been killed between the two.
incus project set "$project" restricted=true user.sovereign.stack="$1"
incus profile device get default root pool --project "$project" > /dev/null 2>&1 ||
    incus profile device add default root disk path=/ pool=sovereign --project "$project" > /dev/null
# Alone its API listens on its socket and nowhere else.
test -e /var/lib/incus/cluster.crt || incus config unset core.https_address
# It starts with the host. By itself it starts when somebody asks, or when a copy of its database says that something is to
# run; that copy is older than the last change when the power fails.
wants=/etc/systemd/system/multi-user.target.wants/incus.service
if ! test -L "$wants"; then
    systemctl -q add-wants multi-user.target incus.service
    echo changed
fi
# It asks nobody outside for lists of images and of machine types: what it needs is sent to it.
incus config set core.proxy_http=http://127.0.0.1:9 core.proxy_https=http://127.0.0.1:9 images.auto_update_interval=0
