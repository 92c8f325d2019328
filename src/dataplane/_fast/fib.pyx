"""RouteType as a Python enum; the tables are in fib.pxd."""
