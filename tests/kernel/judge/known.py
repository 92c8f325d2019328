"""Where the emulator is known to differ from the kernel, and why. Short enough to print; each goes when it is mended."""

KNOWN: dict[str, str] = {
    "forwarding/ipv6_redirect_is_sent_to_a_neighbour/ipv6": "IPv6 redirects are not sent",
    "nat/hairpin_to_the_client_itself/ipv6": "IPv6 redirects are not sent",
    "icmp/echo_with_options": "the IPv4 options of an echo request are not echoed",
    "icmp/large_echo_is_fragmented_both_ways": "fragments are not put together",
    "nat_errors/error_in_fragments": "fragments are not put together",
}
