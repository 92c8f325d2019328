"""The lists themselves are in recent.pxd."""
