"""Where the engine of IPVS is known to differ from the kernel, and why; each goes when it is mended."""

REASONS: dict[str, tuple[str, ...]] = {
    "an error about a tunnel's outer packet counts twice among what goes out, with 28 bytes more": (
        "ipvs/icmp/of_a_tunnel",
    ),
}
KNOWN: dict[str, str] = {name: reason for reason, names in REASONS.items() for name in names}
