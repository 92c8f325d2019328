"""Where the emulator is known to differ from the kernel, and why. Short enough to print; each goes when it is mended."""

KNOWN: dict[str, str] = {
    "icmp/echo_with_options": "the IPv4 options of an echo request are not echoed",
}
