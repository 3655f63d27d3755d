# Removes keys that a name server is given no more. $1: the folder they lie in, $2 and on: those that stay.
set -eu
folder=$1
shift
for key in "$folder"/key-*.pem "$folder"/transfer-*.conf; do
    for kept; do
        [ "$key" != "$kept" ] || continue 2
    done
    rm -f -- "$key"
done
