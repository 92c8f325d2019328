"""Where the emulator is known to differ from the kernel, and why. Short enough to print; each goes when it is mended."""

KNOWN: dict[str, str] = {
    "change/partial_sync_keeps_counters_legacy": "the legacy iptables-restore sets the policies' counters of a table that "
    "it changes to 0; the nft one, which is followed, leaves them",
    "matches/header_cut_short_nft": "rules are evaluated as the legacy tables do, where a match on ports drops a "
    "packet whose transport header is cut short; the nft back end reads the ports alone and goes on",
    "matches/header_cut_short_nft/ipv6": "rules are evaluated as the legacy tables do, where a match on ports drops a "
    "packet whose transport header is cut short; the nft back end reads the ports alone and goes on",
}

# What random cases leave out or mask, for it would differ and says nothing new each time. `soak.py` prints the list.
RANDOM_KNOWN: dict[str, str] = {
    "outer checksum of a wrapped TCP reset": "the kernel leaves the inner sum of its own TCP to the device; NAT of the "
    "outer header then spoils the outer UDP checksum, and ours stays right",
    "errors that quote a tunnel's outer packet": "they name its source port, a hash with a secret of the kernel's",
    "the time of day": "in timestamp options and ICMP timestamp replies; that a time was written is compared",
    "the nft back end": "it reads the ports of a transport header that is cut short, and goes on; random cases load the "
    "legacy tables",
    "routes with `mtu lock`": "`ip -json route` does not print the lock",
}
