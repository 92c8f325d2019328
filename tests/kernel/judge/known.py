"""Where the emulator is known to differ from the kernel, and why. Short enough to print; each goes when it is mended."""

KNOWN: dict[str, str] = {}

# What random cases leave out or mask, for it would differ and says nothing new each time. `soak.py` prints the list.
RANDOM_KNOWN: dict[str, str] = {
    "outer checksum of a wrapped TCP reset": "the kernel leaves the inner sum of its own TCP to the device; NAT of the "
    "outer header then spoils the outer UDP checksum, and ours stays right",
    "errors that quote a tunnel's outer packet": "they name its source port, a hash with a secret of the kernel's",
    "the time of day": "in timestamp options and ICMP timestamp replies; that a time was written is compared",
    "segment routing": "its headers are read as those of an unknown routing type, which is what a host without it does but for "
    "errors about what follows them",
    "changes of rules that begin or end connection tracking": "a host tracks as the rules ask that it starts with",
    "routes with `mtu lock`": "`ip -json route` does not print the lock",
}
