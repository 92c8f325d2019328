"""Status as a Python enum; the engine is in the .pxd files."""
