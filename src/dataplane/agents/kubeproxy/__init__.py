"""kube-proxy: Services and EndpointSlices into the rules of a node."""
