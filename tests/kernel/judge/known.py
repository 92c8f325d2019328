"""Where the emulator is known to differ from the kernel, and why. Short enough to print; each goes when it is mended."""

KNOWN: dict[str, str] = {
    "change/partial_sync_keeps_counters_legacy": "the legacy iptables-restore sets the policies' counters of a table that "
    "it changes to 0; the nft one, which is followed, leaves them",
    "conntrack_udp/udplite": "Linux judges UDP-Lite's checksum by UDP's pseudo header, so that right ones are INVALID; we look at none",
    "forwarding/ipv6_redirect_is_sent_to_a_neighbour/ipv6": "IPv6 redirects are not sent",
    "nat/hairpin_to_the_client_itself/ipv6": "IPv6 redirects are not sent",
    "icmp/echo_with_options": "the IPv4 options of an echo request are not echoed",
}
