"""The names of kube-proxy's iptables chains.

A chain that belongs to one service port or one endpoint bears a hash of what it serves, so that every node and every
sync finds the same name: the first 16 characters of the base32 form of SHA-256.
"""

from base64 import b32encode
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


def digest(text: str) -> str:
    """The 16 characters that tell chains apart; they stand for 80 bits, hence 10 bytes are enough."""
    return b32encode(sha256(text.encode()).digest()[:10]).decode("ascii")


def service_suffix(name: str, protocol: str) -> str:
    """The suffix that the chains of one service port share.

    name: "namespace/name:port name", without the colon where the port has no name; protocol: lower case.
    """
    return digest(name + protocol)


def endpoint_chain(name: str, protocol: str, endpoint: str) -> str:
    """KUBE-SEP-...; endpoint: "10.0.0.1:80" or "[fd00::1]:80", verbatim as the EndpointSlice has the address."""
    return ENDPOINT + digest(name + protocol + endpoint)
