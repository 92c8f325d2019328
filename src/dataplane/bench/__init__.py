"""Measurements of the model, and of this machine's kernel beside it.

figures    percentiles, medians of repeats and their spread
machine    what the numbers were measured on
services   a cluster of so many Services and endpoints
router     a node's rules between two interfaces, as a HostConfig
traffic    first packets, conversations, established packets
walked     how many rules a packet is held against
emulated   packets through the model
namespace, kernel   packets through this machine's kernel
modes      kube-proxy's modes over the number of Services
core, pods   what the other measurements share
conntrack, vxlan, path, replay   the other cores
plot       the picture
"""
