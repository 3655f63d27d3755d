# Joins a cluster, with the pool on this host. $4: this host's name; $5: its address in its network. On standard input:
# what lets it in, which is in no argument and no file.
read -r token
if incus query /1.0 | grep -q '"server_clustered": true'; then exit 0; fi
# A pool of its own would be in the way. It has nothing, or it is kept.
if incus storage show "$pool" > /dev/null 2>&1; then
    for what in $(incus list --all-projects -f csv -c n) $(incus storage volume list "$pool" --all-projects -f csv -c n type=custom); do
        echo "$what is still there" >&2
        exit 3
    done
    if incus project show sovereign > /dev/null 2>&1; then
        for image in $(incus image list --project sovereign -f csv -c F); do incus image delete --project sovereign "$image"; done
        incus profile device remove default root --project sovereign > /dev/null 2>&1 || true
        incus project delete sovereign > /dev/null
    fi
    incus storage delete "$pool" > /dev/null
fi
# What is left of joining when it was cut off.
rm -f /var/lib/incus/cluster.crt /var/lib/incus/cluster.key
see_to_the_place
timeout 300 incus admin init --preseed >&2 << PRESEED || { incus config unset core.https_address; exit 1; }
cluster:
  enabled: true
  server_name: $4
  server_address: "$5"
  cluster_token: $token
  member_config:
  - entity: storage-pool
    name: $pool
    key: ${place%%: *}
    value: ${place#*: }
PRESEED
echo changed
