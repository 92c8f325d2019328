"""Reason and Verdict as Python enums; the list itself is in reason.pxd."""
