# And which of these packages are not installed. All after $2: their names.
shift 2
for package in "$@"; do
    test "$(dpkg-query -W -f '${db:Status-Status}' "$package")" = installed || echo "lacks $package"
done
exit 0
