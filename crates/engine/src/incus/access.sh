# Lines of an edge's access log. First says a file's number and where in it they begin, or, when it is asked for the last
# lines, where they end. $1: how many bytes at most. $2, $3: the file that was read last, and up to where; or nothing, and
# how many of the last lines. $4: what is in each of those. $5: the log. All else: what it was before, the newest first.
set -u
export LC_ALL=C
most=$1 file=$2 at=$3 with=$4 log=$5
shift 5
test -f "$log" && exec 3< "$log" || exit 0
number() { stat -L -c %i "$1"; }
size() { stat -L -c %s "$1"; }
now=$(number /dev/fd/3)
if test -z "$file"; then
    end=$(size /dev/fd/3)
    # Half a line is read when it is whole.
    if test "$(head -c "$end" /dev/fd/3 | tail -c 1 | wc -l)" = 0; then
        end=$((end - $(head -c "$end" /dev/fd/3 | tail -n 1 | wc -c)))
    fi
    echo "$now $end"
    older=
    for name in "$@"; do
        # The log itself may have been rotated meanwhile.
        if test -f "$name" && test "$(number "$name")" != "$now"; then older="$name $older"; fi
    done
    # No name has a space in it.
    { test -z "$older" || cat $older; head -c "$end" /dev/fd/3; } | grep -a -F -e "$with" | tail -n "$at" | tail -c "$most"
    exit 0
fi
for name in "$@"; do
    # Rotated away, and not read to its end.
    if test "$now" != "$file" && test -f "$name" && test "$(number "$name")" = "$file" && test "$(size "$name")" -gt "$at"
    then
        echo "$file $at"
        tail -c "+$((at + 1))" "$name" | head -c "$most"
        exit 0
    fi
done
# Another file, or one that somebody has emptied.
if test "$now" != "$file" || test "$(size /dev/fd/3)" -lt "$at"; then at=0; fi
echo "$now $at"
tail -c "+$((at + 1))" /dev/fd/3 | head -c "$most"
