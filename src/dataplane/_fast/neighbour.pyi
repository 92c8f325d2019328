from enum import IntEnum

class NeighbourState(IntEnum):
    NUD_NONE = 0
    NUD_INCOMPLETE = 1
    NUD_REACHABLE = 2
    NUD_STALE = 4
    NUD_DELAY = 8
    NUD_PROBE = 16
    NUD_FAILED = 32
    NUD_NOARP = 64
    NUD_PERMANENT = 128
