"""HookEntryKind as a Python enum; the structs are in netfilter.pxd."""
