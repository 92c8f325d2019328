"""External load balancers: what stands outside the cluster for its Services of type LoadBalancer."""
