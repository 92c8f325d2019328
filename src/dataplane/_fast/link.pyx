"""Link-layer headers; see link.pxd, which holds the inline functions."""
