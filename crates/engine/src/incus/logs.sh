# The end of what units have written, and then where that is. $1: the units. $2: how many lines. $3: after which place,
# or nothing. $4: how many bytes.
set -u
export LC_ALL=C
{
    journalctl --no-pager --quiet --output=cat --show-cursor --unit="$1" --lines="$2" ${3:+--after-cursor="$3"}
    echo "-- ended: $?"
} | tail -c "$4"
