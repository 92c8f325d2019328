"""Where the emulator is known to differ from the kernel, and why. Short enough to print; each goes when it is mended."""

KNOWN: dict[str, str] = {
    "change/partial_sync_keeps_counters_legacy": "the legacy iptables-restore sets the policies' counters of a table that "
    "it changes to 0; the nft one, which is followed, leaves them",
    "icmp/echo_with_options": "the IPv4 options of an echo request are not echoed",
    "matches/header_cut_short_nft": "rules are evaluated as the legacy tables do, where a match on ports drops a "
    "packet whose transport header is cut short; the nft back end reads the ports alone and goes on",
    "matches/header_cut_short_nft/ipv6": "rules are evaluated as the legacy tables do, where a match on ports drops a "
    "packet whose transport header is cut short; the nft back end reads the ports alone and goes on",
}
