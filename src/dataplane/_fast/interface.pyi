from enum import IntEnum

class LinkKind(IntEnum):
    LINK_PHYSICAL = 0
    LINK_LOOPBACK = 1
    LINK_DUMMY = 2
    LINK_VETH = 3
    LINK_TAP = 4
    LINK_TUN = 5
    LINK_BRIDGE = 6
    LINK_VXLAN = 7
    LINK_OTHER = 8
