# Containers of one user share what the kernel gives a user: each runs an init that needs some of it.
set -eu
file=/etc/sysctl.d/60-sovereign.conf
text='# Written by sovereign: every container runs an init of its own.
fs.inotify.max_user_instances = 8192'
test "$(cat "$file" 2> /dev/null)" = "$text" || { printf '%s\n' "$text" > "$file"; echo changed; }
# In a container it is the machine around it that decides.
sysctl -q -p "$file" > /dev/null 2>&1 || echo "the kernel does not take $file" >&2
