from enum import IntEnum

class RuleEventKind(IntEnum):
    EVENT_RULE = 0
    EVENT_POLICY = 1
    EVENT_RETURN = 2
    EVENT_HOTDROP = 3
    EVENT_LOG = 4
    EVENT_NFLOG = 5
