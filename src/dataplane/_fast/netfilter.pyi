from enum import IntEnum

class HookEntryKind(IntEnum):
    ENTRY_TABLE = 0
    ENTRY_DEFRAG = 1
    ENTRY_CONNTRACK = 2
    ENTRY_NAT = 3
    ENTRY_CONFIRM = 4
    ENTRY_IPVS_ANSWER = 5
    ENTRY_IPVS_REQUEST = 6
