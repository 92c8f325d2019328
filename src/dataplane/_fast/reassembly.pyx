"""ReassemblyKind as a Python enum; the queues are in reassembly.pxd."""
