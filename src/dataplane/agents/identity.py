"""What real machines draw by chance, made to follow from what it belongs to: so every run has the same cluster."""

from hashlib import sha256


def stable_mac(*identity: str) -> int:
    """A locally administered unicast MAC address."""
    value = int.from_bytes(sha256("\0".join(identity).encode()).digest()[:6])
    return value & ~(0x03 << 40) | 0x02 << 40


def hexadecimal(identity: str, start: int = 0) -> str:
    """Eight hexadecimal digits; start: other ones, up to 55."""
    return sha256(identity.encode()).hexdigest()[start : start + 8]
