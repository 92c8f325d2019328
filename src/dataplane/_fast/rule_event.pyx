"""RuleEventKind as a Python enum; the tap itself is in rule_event.pxd."""
