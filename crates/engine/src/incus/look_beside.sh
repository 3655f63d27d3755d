# `look` at the agent, at the name server, at the renewer, and at which packages are not installed. $1, $2: the agent's folder, and how
# the names of its files begin. $3, $4: the same of the name server. $5, $6: of the renewer. All else: the packages.
look "$1" "$2"
echo next
look "$3" "$4"
echo next
look "$5" "$6"
shift 6
for package in "$@"; do
    test "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null)" = installed || echo "lacks $package"
done
exit 0
