"""Choice as a Python enum; the generator itself is in chance.pxd."""
