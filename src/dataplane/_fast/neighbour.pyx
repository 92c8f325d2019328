"""NeighbourState as a Python enum; the table is in neighbour.pxd."""
