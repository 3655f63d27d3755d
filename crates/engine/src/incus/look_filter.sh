# What is in effect, and what nft makes of the files in a network of their own: what of it only looks different depends on
# the version of nft. The order of tables is that of their making.
cd /etc/systemd/system
sha256sum -- sovereign-nftables.service sovereign-instances.service /etc/sovereign/nftables.conf \
    /etc/sovereign/instances.nft | sed 's/^/text /'
echo "ssh-port ${SSH_CONNECTION##* }"
sum='nft -s list ruleset | awk "/^table / { name = \$2 \" \" \$3; ours = \$3 ~ /^sovereign/ } ours { print name \"\t\" \$0 }" |
    sort -s -t "	" -k 1,1 | sha256sum | cut -d " " -f 1'
echo "loaded $(sh -c "$sum")"
made=$(unshare --net sh -c "for file in /etc/sovereign/nftables.conf /etc/sovereign/instances.nft; do
    test ! -f \$file || nft -f \$file || exit 1
done
$sum") && echo "made $made"
exit 0
