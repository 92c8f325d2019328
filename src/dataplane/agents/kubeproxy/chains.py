"""The names of kube-proxy's iptables chains.

A chain that belongs to one service port or one endpoint bears a hash of what it serves, so that every node and every
sync finds the same name: the first 16 characters of the base32 form of SHA-256.
"""

from hashlib import sha256

SERVICES = "KUBE-SERVICES"
EXTERNAL_SERVICES = "KUBE-EXTERNAL-SERVICES"
NODE_PORTS = "KUBE-NODEPORTS"
POSTROUTING = "KUBE-POSTROUTING"
MARK_MASQ = "KUBE-MARK-MASQ"
FORWARD = "KUBE-FORWARD"
PROXY_FIREWALL = "KUBE-PROXY-FIREWALL"
FIREWALL = "KUBE-FIREWALL"
CANARY = "KUBE-PROXY-CANARY"

CLUSTER = "KUBE-SVC-"
LOCAL = "KUBE-SVL-"
SOURCE_RANGES = "KUBE-FW-"
EXTERNAL = "KUBE-EXT-"
ENDPOINT = "KUBE-SEP-"


_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_PAIRS = [first + second for first in _DIGITS for second in _DIGITS]


def digest(text: str) -> str:
    """The 16 characters that tell chains apart: the first 80 bits of the hash."""
    value = sha256(text.encode()).digest()
    # A cluster has an endpoint chain for each of its endpoints, and base64.b32encode is written in Python: two
    # characters at a time are twice as fast.
    high, low, pair = int.from_bytes(value[:5]), int.from_bytes(value[5:10]), _PAIRS
    return (
        f"{pair[high >> 30]}{pair[high >> 20 & 1023]}{pair[high >> 10 & 1023]}{pair[high & 1023]}"
        f"{pair[low >> 30]}{pair[low >> 20 & 1023]}{pair[low >> 10 & 1023]}{pair[low & 1023]}"
    )


def service_suffix(name: str, protocol: str) -> str:
    """The suffix that the chains of one service port share.

    name: "namespace/name:port name", without the colon where the port has no name; protocol: lower case.
    """
    return digest(name + protocol)


def endpoint_chain(name: str, protocol: str, endpoint: str) -> str:
    """KUBE-SEP-...; endpoint: "10.0.0.1:80" or "[fd00::1]:80", verbatim as the EndpointSlice has the address."""
    return ENDPOINT + digest(name + protocol + endpoint)
