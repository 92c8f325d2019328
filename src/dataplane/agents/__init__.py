"""The agents of a cluster: each turns its objects into the ordinary Linux configuration of a host."""
