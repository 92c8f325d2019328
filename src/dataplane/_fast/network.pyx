"""Stage and TimerKind as Python enums; the structs are in network.pxd."""
