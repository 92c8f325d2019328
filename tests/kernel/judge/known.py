"""Where the emulator is known to differ from the kernel, and why. Short enough to print; each goes when it is mended."""

KNOWN: dict[str, str] = {
    "conntrack_udp/udplite": "Linux judges UDP-Lite's checksum by UDP's pseudo header, so that right ones are INVALID; we look at none",
    "icmp/echo_with_options": "the IPv4 options of an echo request are not echoed",
}
