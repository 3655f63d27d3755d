# Makes the pool.
if ! incus storage show "$pool" > /dev/null 2>&1; then
    see_to_the_place
    incus admin init --preseed >&2 << PRESEED
storage_pools:
- name: $pool
  driver: btrfs
  config:
    $place
PRESEED
    echo changed
fi
