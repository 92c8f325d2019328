"""Field, PacketType, CtInfo and Hook as Python enums; the packet itself is in packet.pxd."""
