# Removes what the stack proves itself with at providers and is not named. $1: the folder it lies in; then those that stay.
set -eu
folder=$1
shift
for secret in "$folder"/provider-*.secret; do
    stays=no
    for named in "$@"; do
        [ "$secret" != "$named" ] || stays=yes
    done
    [ "$stays" = yes ] || rm -f -- "$secret"
done
