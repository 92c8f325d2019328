"""The real kernel as judge: a namespace is set up by the real tools, fed frames, and what it does is written down.

scenario.py    the list of scenarios, by name
node.py        the node that a scenario sets up, feeds and looks at
talk.py        the far ends: peers that send, TCP conversations
namespace.py   network namespaces, this process on one processor, the fence behind which all work is done
ports.py       a TAP device: what is written comes in, what comes out is read
baseline.py    the sysctls that every node starts from
drops.py       the kernel's own reason for each dropped packet
dump.py        what the real tools print, taken as the files of a host's dump
recording.py   what went in, what came out, and the state after each step
choices.py     what the kernel chose at random, read from what it sent
emulated.py    the same recording made by the emulator
compare.py     two recordings held against each other
uml.py         the kernel with IPVS: user-mode Linux boots, works through scenarios, and writes their recordings
uml_guest.py   the program inside it; uml_host.c is what it needs of this machine
ipvs_node.py   a node with virtual services; ipvs_state.py, what the kernel says of them
balanced.py    one service and its servers, for scenarios; kube_node.py, a node under kube-proxy in IPVS mode
show.py        two recordings next to each other, for people
"""
