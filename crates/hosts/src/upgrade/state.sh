# How a host has booted, and why it would have to boot again: lines of `boot`, `container`, and `reboot` with a reason.
set -u
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
# The number of the kernel's boot is the same in all containers on it; when process 1 began is not.
echo "boot $(cat /proc/sys/kernel/random/boot_id)-$(sed 's/.*) //' /proc/1/stat | cut -d ' ' -f 20)"
if systemd-detect-virt --container --quiet; then
    echo container
else
    newest=$(ls -1 /boot/vmlinuz-* 2> /dev/null | sed 's|.*/vmlinuz-||' | sort -V | tail -n 1)
    running=$(uname -r)
    test -z "$newest" || test "$newest" = "$running" || echo "reboot kernel $newest is installed, and $running runs"
fi
if test -e /run/reboot-required; then
    echo "reboot Debian asks for it: $(sort -u /run/reboot-required.pkgs 2> /dev/null | head -n 20 | tr '\n' ' ')"
fi
# What process 1 began goes on with the C library that it began with, and so does process 1.
own=$(readlink /proc/1/ns/user)
old=
for maps in /proc/[0-9]*/maps; do
    process=${maps%/maps}
    test "$process" = /proc/1 || test "$(sed 's/.*) . //;s/ .*//' "$process/stat" 2> /dev/null)" = 1 || continue
    test "$(readlink "$process/ns/user" 2> /dev/null)" = "$own" || continue
    if grep -qE '/(libc\.so\.6|libc-2\.[0-9]+\.so|ld-linux[^ ]*|systemd) \(deleted\)$' "$maps" 2> /dev/null; then
        old="$old $(cat "$process/comm")"
    fi
done
test -z "$old" || echo "reboot these run with a C library that was replaced:$(printf '%s\n' $old | sort -u | head -n 10 | sed 's/^/ /' | tr -d '\n')"
