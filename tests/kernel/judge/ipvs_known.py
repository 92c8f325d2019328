"""Where the engine of IPVS is known to differ from the kernel, and why; each goes when it is mended."""

REASONS: dict[str, tuple[str, ...]] = {}
KNOWN: dict[str, str] = {name: reason for reason, names in REASONS.items() for name in names}
