"""Where the engine of IPVS is known to differ from the kernel, and why; each goes when it is mended."""

REASONS: dict[str, tuple[str, ...]] = {
    "the order of choice after a change or a reset": ("ipvs/changes/mh_moves_little",),
    "what is answered for a service or server that is gone": ("ipvs/changes/removed_service",),
    "connections of removed servers end at once in the kernel, with their tracked ones; ours at their next packet": (
        "ipvs/kubernetes/endpoint_goes_gracefully",
        "ipvs/kubernetes/endpoint_goes_gracefully/ipv6",
    ),
    "fragments of IPv6 are not put together for IPVS": ("ipvs/forwarding/fragments/ipv6",),
    "-m ipvs is not a match that is read": (
        "ipvs/netfilter/match_ipvs",
        "ipvs/netfilter/match_ipvs/ipv6",
    ),
    "what a server above its threshold does to the choice, and the ICMP error when none is left": (
        "ipvs/thresholds/raised",
        "ipvs/thresholds/the_others_take_over",
        "ipvs/thresholds/the_others_take_over/ipv6",
        "ipvs/thresholds/upper_alone",
        "ipvs/thresholds/upper_and_lower",
        "ipvs/thresholds/with_sh",
        "ipvs/thresholds/with_sh_fallback",
        "ipvs/thresholds/with_wlc",
    ),
    "the listing of IPv6 marks": (
        "ipvs/marks/every_port/ipv6",
        "ipvs/persistence/of_a_mark/ipv6",
    ),
}
KNOWN: dict[str, str] = {name: reason for reason, names in REASONS.items() for name in names}
