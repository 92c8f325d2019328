from enum import IntEnum

class Choice(IntEnum):
    CHOICE_STATISTIC = 0
    CHOICE_PORT = 1
    CHOICE_TUNNEL_PORT = 2
    CHOICE_IP_ID = 3
    CHOICE_FLOW_LABEL = 4
    CHOICE_FRAGMENT_ID = 5
    CHOICE_OTHER = 6
    CHOICE_COUNT = 7
