from enum import IntEnum

class ReassemblyKind(IntEnum):
    REASSEMBLY_IP4 = 0
    REASSEMBLY_IP6 = 1
    REASSEMBLY_TRACKED6 = 2
    REASSEMBLY_COUNT = 3
