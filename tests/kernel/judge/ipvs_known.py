"""Where the emulator's IPVS is known to differ from the kernel's, and why. Each goes when it is mended."""

KNOWN: dict[str, str] = {}
