"""TableKind as a Python enum; the rows are in ruleset.pxd."""
