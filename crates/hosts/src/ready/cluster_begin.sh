# Makes a cluster of one of this host's Incus. $1: its name; $2: its address in its network.
set -eu
if test "$(incus query /1.0 | grep -c '"server_clustered": true')" = 0; then
    incus config set core.https_address="$2"
    timeout 120 incus -q cluster enable "$1" > /dev/null
    echo changed
fi
# What lets somebody in is of use for as long as that takes.
incus config set cluster.join_token_expiry=10M core.remote_token_expiry=10M
