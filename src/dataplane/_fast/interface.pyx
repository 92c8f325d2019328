"""LinkKind as a Python enum; the structs are in interface.pxd."""
