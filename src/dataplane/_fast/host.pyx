"""Building one host of the walk from plain values, and reading its counters.

dataplane.datapath.compile calls these methods once per host; no packet passes here.
"""

cimport cython
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, qsort
from libc.string cimport memcpy, memset

import numpy as np

from dataplane._fast.address cimport address_words, words_address
from dataplane._fast.chance cimport CHOICE_COUNT, chance_seed
from dataplane._fast.conntrack cimport ConnectionTable
from dataplane._fast.fdb cimport FdbEntry, Remote, fdb_add_remote, fdb_create, fdb_find, fdb_free
from dataplane._fast.fib cimport (
    LocalAddress, NextHop, PolicyRule, Route, fib_add_hop, fib_add_route, fib_free, fib_index, fib_index_addresses,
)
from dataplane._fast.group cimport group_order, group_set
from dataplane._fast.interface cimport Interface, LINK_LOOPBACK
from dataplane._fast.ipvs cimport Balancer
from dataplane._fast.neighbour cimport Neighbour, neighbour_create, neighbours_free
from dataplane._fast.netfilter cimport HookEntry, HookList
from dataplane._fast.network cimport Group, Host, Vxlan
from dataplane._fast.reassembly cimport REASSEMBLY_COUNT, REASSEMBLY_IP4, Reassembly, reassembly_free
from dataplane._fast.reason cimport REASON_COUNT
from dataplane._fast.rule_event cimport RuleEvent, RuleTap
from dataplane._fast.rules cimport CompiledRules

from dataplane._fast.neighbour import NeighbourState
from dataplane._fast.reason import Reason
from dataplane._fast.rules import EVENT_DTYPE

# What a host's log holds until it is read: events, and bytes of their packets.
cdef enum:
    LOG_EVENTS = 1 << 16
    LOG_BYTES = 1 << 24


@cython.final
cdef class CompiledHost:
    """One network namespace, ready to be walked.

    Interfaces are addressed by slot, their position in `interface_names`. Addresses are `ipaddress` objects; times ns.
    Raises MemoryError when memory is out.
    """

    def __cinit__(self, str name, object interface_names, object seed=0):
        cdef int32_t slot
        cdef int kind
        self.name = name
        self.interface_names = tuple(interface_names)
        self.recorded = []
        self.host = <Host *>calloc(1, sizeof(Host))
        if self.host == NULL:
            raise MemoryError
        self.host.interface_count = len(self.interface_names)
        self.host.interfaces = <Interface *>calloc(self.host.interface_count or 1, sizeof(Interface))
        if self.host.interfaces == NULL:
            raise MemoryError
        self.host.loopback = -1
        self.host.group_count = -1
        self.host.netfilter.log.limit = LOG_EVENTS
        self.host.netfilter.log.bytes_limit = LOG_BYTES
        for slot in range(self.host.interface_count):
            self.host.interfaces[slot].slot = slot
            self.host.interfaces[slot].master = -1
            self.host.interfaces[slot].peer_host = -1
            self.host.interfaces[slot].peer_slot = -1
            self.host.interfaces[slot].place = -1
        self.host.fib.interfaces = self.host.interfaces
        self.host.fib.interface_count = self.host.interface_count
        self.host.fib.seed = (seed * 2654435761 + 1) & 0xFFFFFFFF
        self.host.fdb.limit = 1 << 16
        self.host.vxlan_fdb.limit = 1 << 16
        self.host.neighbours.limit = 1024
        for kind in range(REASSEMBLY_COUNT):
            if kind == REASSEMBLY_IP4:
                self.reassembly(kind, timeout=30_000_000_000, distance=64)
            else:
                self.reassembly(kind, timeout=60_000_000_000)
        chance_seed(&self.host.chance, seed & 0xFFFFFFFFFFFFFFFF)
        self.host.ip_id = self.host.chance.state & 0xFFFF

    def __dealloc__(self):
        cdef int kind
        if self.host == NULL:
            return
        fib_free(&self.host.fib)
        neighbours_free(&self.host.neighbours)
        fdb_free(&self.host.fdb)
        fdb_free(&self.host.vxlan_fdb)
        for kind in range(REASSEMBLY_COUNT):
            reassembly_free(&self.host.reassembly[kind])
        free(self.host.interfaces)
        free(self.host.vxlans)
        free(self.host.buckets)
        free(self.host.listening)
        free(self.host.groups)
        free(self.host.netfilter.log.events)
        free(self.host.netfilter.log.bytes)
        free(self.host)

    def interface(
        self, int slot, *, int index, int kind, bint up, uint64_t mac=0, uint32_t mtu=1500, bint noarp=False,
        bint promisc=False, int master=-1, bint hairpin=False, bint learning=True, bint flood=True,
        bint multicast_flood=True, bint broadcast_flood=True, bint isolated=False, bint forwarding_state=True,
        bint learning_state=False,
        int64_t ageing=300_000_000_000, bint call_iptables=False, bint call_ip6tables=False,
        int group_forward_mask=0, bint snooping=False, bint forwarding=False, int rp_filter=0, bint accept_local=False,
        bint accept_source_route=False, bint route_localnet=False, int arp_ignore=0, int arp_announce=0, bint arp_filter=False,
        int arp_accept=0, bint proxy_arp=False, bint proxy_arp_pvlan=False, bint send_redirects=True, bint src_valid_mark=False,
        bint forwarding6=False, bint router6=False,
        bint disabled6=False, bint proxy_ndp=False, bint fragmented_nd=False, uint32_t hop_limit6=64, uint32_t mtu6=0,
        reachable=(30_000_000_000, 30_000_000_000), delay_probe=(5_000_000_000, 5_000_000_000),
        retransmit=(1_000_000_000, 1_000_000_000), multicast_probes=(3, 3), queue_bytes=(212_992, 212_992),
        unicast_probes=(3, 3),
    ):
        """Set one interface. Values of net.ipv4.conf are given as the kernel combines them with `all`; pairs are those of
        IPv4 and IPv6."""
        cdef int family
        cdef Interface *i = &self.host.interfaces[slot]
        i.index = index
        i.kind = kind
        i.up = up
        i.mac = mac
        i.mtu = mtu
        i.noarp = noarp
        i.promisc = promisc
        i.master = master
        i.hairpin = hairpin
        i.learning = learning
        i.flood = flood
        i.multicast_flood = multicast_flood
        i.broadcast_flood = broadcast_flood
        i.isolated = isolated
        i.forwarding_state = forwarding_state
        i.learning_state = learning_state
        i.ageing = ageing
        i.call_iptables = call_iptables
        i.call_ip6tables = call_ip6tables
        i.group_forward_mask = group_forward_mask
        i.snooping = snooping
        i.forwarding = forwarding
        i.rp_filter = rp_filter
        i.accept_local = accept_local
        i.accept_source_route = accept_source_route
        i.route_localnet = route_localnet
        i.arp_ignore = arp_ignore
        i.arp_announce = arp_announce
        i.arp_filter = arp_filter
        i.arp_accept = arp_accept
        i.proxy_arp = proxy_arp
        i.proxy_arp_pvlan = proxy_arp_pvlan
        i.send_redirects = send_redirects
        i.src_valid_mark = src_valid_mark
        i.forwarding6 = forwarding6
        i.router6 = router6
        i.disabled6 = disabled6
        i.proxy_ndp = proxy_ndp
        i.fragmented_nd = fragmented_nd
        i.hop_limit6 = hop_limit6
        i.mtu6 = mtu6 or mtu
        for family in range(2):
            i.reachable[family] = reachable[family]
            i.delay_probe[family] = delay_probe[family]
            i.retransmit[family] = retransmit[family]
            i.multicast_probes[family] = multicast_probes[family]
            i.queue_bytes[family] = queue_bytes[family]
            i.unicast_probes[family] = unicast_probes[family]
        if kind == LINK_LOOPBACK and self.host.loopback < 0:
            self.host.loopback = slot

    def settings(
        self, *, int default_ttl=64, bint icmp_use_inbound_address=False, bint icmp_echo_ignore_all=False,
        bint icmp_echo_ignore_broadcasts=True, bint bridge_iptables=False, bint bridge_ip6tables=False,
        bint bridge_arptables=False, bint fwmark_reflect=False, bint accept_all=False, uint32_t icmp_ratemask=6168,
        int64_t icmp_ratelimit=1_000_000_000, uint32_t icmp_messages_per_second=10000,
        uint32_t icmp_messages_burst=10000, int64_t icmp_ratelimit6=1_000_000_000, int port_low=32768,
        int port_high=60999, int neighbour_limit=1024, bint auto_flow_labels=True,
        bint forward_use_pmtu=False, uint8_t no_pmtu_disc=0, bint early_demux=True,
    ):
        """Set what is the host's as a whole. With `accept_all` every port has a listener that says nothing."""
        cdef Host *h = self.host
        h.default_ttl = default_ttl
        h.icmp_use_inbound_address = icmp_use_inbound_address
        h.icmp_echo_ignore_all = icmp_echo_ignore_all
        h.icmp_echo_ignore_broadcasts = icmp_echo_ignore_broadcasts
        h.bridge_iptables = bridge_iptables
        h.bridge_ip6tables = bridge_ip6tables
        h.bridge_arptables = bridge_arptables
        h.fwmark_reflect = fwmark_reflect
        h.accept_all = accept_all
        h.icmp_ratemask = icmp_ratemask
        h.icmp_ratelimit = icmp_ratelimit
        h.icmp_messages_per_second = icmp_messages_per_second
        h.icmp_messages_burst = icmp_messages_burst
        h.icmp_ratelimit6 = icmp_ratelimit6
        h.port_low = port_low
        h.port_high = port_high
        h.auto_flow_labels = auto_flow_labels
        h.forward_use_pmtu = forward_use_pmtu
        h.no_pmtu_disc = no_pmtu_disc
        h.early_demux = early_demux
        h.neighbours.limit = neighbour_limit

    def reassembly(self, int kind, *, int64_t timeout, uint64_t high_threshold=4 << 20, uint32_t distance=0):
        """Set how long fragments wait (ns), the memory that they may take (bytes, as the kernel charges it) and how many
        others of one sender may come between two of a datagram (0: any); `kind` is a ReassemblyKind."""
        cdef Reassembly *table = &self.host.reassembly[kind]
        if not 0 <= kind < REASSEMBLY_COUNT:
            raise ValueError(f"no reassembly of kind {kind}")
        table.kind = kind
        table.timeout = timeout
        table.high_threshold = high_threshold
        table.distance = distance

    def listen(self, bint udp, int port):
        """Let a socket of the host listen at a TCP or UDP port: what reaches it is taken, and nothing is answered."""
        cdef int bit = port + (65536 if udp else 0)
        if not 0 <= port < 65536:
            raise ValueError(f"no port {port}")
        if self.host.listening == NULL:
            self.host.listening = <uint8_t *>calloc(1, 2 * 65536 // 8)
            if self.host.listening == NULL:
                raise MemoryError
        self.host.listening[bit >> 3] |= 1 << (bit & 7)

    def addresses(self, rows):
        """Set the addresses: (slot, address, prefix length, scope, secondary, deprecated), in the kernel's order."""
        cdef list values = list(rows)
        cdef LocalAddress *local
        cdef int32_t i
        free(self.host.fib.addresses)
        self.host.fib.addresses = <LocalAddress *>calloc(len(values) or 1, sizeof(LocalAddress))
        if self.host.fib.addresses == NULL:
            raise MemoryError
        self.host.fib.address_count = len(values)
        for i, (slot, address, length, scope, secondary, deprecated) in enumerate(values):
            local = &self.host.fib.addresses[i]
            local.slot = slot
            local.family = address_words(address, local.address)
            local.prefix_length = length
            local.scope = scope
            local.secondary = secondary
            local.deprecated = deprecated
            if local.family == 4:
                self.host.interfaces[local.slot].has_ip4 = 1
        if not fib_index_addresses(&self.host.fib):
            raise MemoryError

    def route(self, network, *, uint32_t table, int kind, uint32_t metric=0, uint32_t mtu=0, int scope=0, int tos=0,
              source=None, hops=()):
        """Add a route; `hops` are (slot or -1, gateway or None, weight, onlink). Same prefix: in order of trial."""
        cdef Route row
        cdef NextHop hop
        memset(&row, 0, sizeof(row))
        row.family = address_words(network.network_address, row.prefix)
        row.length = network.prefixlen
        row.table = table
        row.type = kind
        row.metric = metric
        row.mtu = mtu
        row.scope = scope
        row.tos = tos
        if source is not None:
            row.has_prefsrc = 1
            address_words(source, row.prefsrc)
        row.first_hop = self.host.fib.hop_count
        for slot, gateway, weight, onlink in hops:
            memset(&hop, 0, sizeof(hop))
            hop.slot = slot
            hop.gateway_family = address_words(gateway, hop.gateway)
            hop.weight = weight
            hop.onlink = onlink
            if fib_add_hop(&self.host.fib, &hop) < 0:
                raise MemoryError
            row.hop_count += 1
        if fib_add_route(&self.host.fib, &row) < 0:
            raise MemoryError

    def multipath(self, uint32_t seed, int policy4, int policy6):
        """How equal routes are shared out: net.ipv4.fib_multipath_hash_seed (0: the host's own), hash policies."""
        if seed:
            self.host.fib.seed = seed
        self.host.fib.hash_policy4 = policy4
        self.host.fib.hash_policy6 = policy6

    def policy_rules(self, rows, bint custom):
        """Set the policy rules, by priority: dicts of the fields of PolicyRule (net, not words)."""
        cdef list values = list(rows)
        cdef PolicyRule *rule
        cdef int32_t i
        free(self.host.fib.rules)
        self.host.fib.rules = <PolicyRule *>calloc(len(values) or 1, sizeof(PolicyRule))
        if self.host.fib.rules == NULL:
            raise MemoryError
        self.host.fib.rule_count = len(values)
        self.host.fib.custom_rules = custom
        for i, value in enumerate(values):
            rule = &self.host.fib.rules[i]
            rule.family = value["family"]
            if value["source"] is not None:
                address_words(value["source"].network_address, rule.source)
                rule.source_length = value["source"].prefixlen
            if value["destination"] is not None:
                address_words(value["destination"].network_address, rule.destination)
                rule.destination_length = value["destination"].prefixlen
            rule.mark = value["mark"]
            rule.mask = value["mask"]
            rule.table = value["table"]
            rule.iif = value["iif"]
            rule.oif = value["oif"]
            rule.action = value["action"]
            rule.invert = value["invert"]
            rule.tos = value["tos"]
            rule.local_in = value["local_in"]
            rule.following = value["following"]
            rule.suppressed = value["suppressed"]
            rule.proto = value["proto"]
            rule.sport_low, rule.sport_high = value["sports"]
            rule.dport_low, rule.dport_high = value["dports"]

    def routes_done(self):
        """Index the routes; call once after the last one."""
        if fib_index(&self.host.fib) < 0:
            raise MemoryError

    def neighbour(self, int slot, address, *, mac=None, int state, bint proxy=False, bint router=False):
        """Add a neighbour entry; `state` is a NeighbourState."""
        cdef uint32_t words[4]
        cdef int family = address_words(address, words)
        cdef Neighbour *n = neighbour_create(&self.host.neighbours, family, words, slot)
        if n == NULL:
            raise MemoryError
        n.mac = 0 if mac is None else mac
        n.state = state
        n.proxy = proxy
        n.router = router

    def groups(self, joined):
        """Tell the multicast groups that interfaces have joined: (slot, address) of each."""
        cdef uint32_t words[4]
        cdef int family
        cdef Group *made
        rows = [row for row in joined if 0 <= row[0] < self.host.interface_count]
        made = <Group *>calloc(len(rows) + 1, sizeof(Group))
        if made == NULL:
            raise MemoryError
        free(self.host.groups)
        self.host.groups = made
        self.host.group_count = 0
        for slot, address in rows:
            family = address_words(address, words)
            group_set(&made[self.host.group_count], slot, family, words)
            self.host.group_count += 1
        qsort(made, <size_t>self.host.group_count, sizeof(Group), group_order)

    def bridge_entry(
        self, int bridge, int port, uint64_t mac, *, bint local=False, bint fixed=True, bint sticky=False, int vlan=0,
    ):
        cdef FdbEntry *e = fdb_find(&self.host.fdb, bridge, mac, vlan)
        if e == NULL:
            e = fdb_create(&self.host.fdb, bridge, mac, vlan)
        if e == NULL:
            raise MemoryError
        e.port = port
        e.local = local
        e.fixed = fixed
        e.sticky = sticky

    def vxlan(
        self, int slot, *, uint32_t vni, int port, int lower=-1, local=None, int family=4, bint learning=True, int ttl=0,
        bint ttl_inherit=False, int tos=0, bint tos_inherit=False, int df=0, bint checksum=True, bint checksum6=True,
        bint no_checksum6=False, bint group_policy=False, uint32_t label=0,
        int port_low=0, int port_high=0, int64_t ageing=300_000_000_000, bint proxy=False,
    ):
        """Add a VXLAN device for the interface at `slot`."""
        cdef Vxlan *grown = <Vxlan *>calloc(self.host.vxlan_count + 1, sizeof(Vxlan))
        cdef Vxlan *v
        if grown == NULL:
            raise MemoryError
        if self.host.vxlan_count:
            memcpy(grown, self.host.vxlans, self.host.vxlan_count * sizeof(Vxlan))
        free(self.host.vxlans)
        self.host.vxlans = grown
        v = &grown[self.host.vxlan_count]
        self.host.vxlan_count += 1
        v.slot = slot
        v.lower = lower
        v.vni = vni
        v.port = port
        v.port_low = port_low
        v.port_high = port_high
        v.learning = learning
        v.ttl = ttl
        v.ttl_inherit = ttl_inherit
        v.tos = tos
        v.tos_inherit = tos_inherit
        v.df = df
        v.checksum = checksum
        v.checksum6 = checksum6
        v.no_checksum6 = no_checksum6
        v.group_policy = group_policy
        v.label = label
        v.ageing = ageing
        v.proxy = proxy
        v.family = family
        if local is not None:
            v.family = address_words(local, v.local)
            v.has_local = 1

    def vxlan_entry(self, int slot, uint64_t mac, remote, *, int port=0, uint32_t vni=0, int lower=-1, bint fixed=True):
        """Add a remote behind `mac` (0: frames to unknown addresses)."""
        cdef FdbEntry *e = fdb_find(&self.host.vxlan_fdb, slot, mac, 0)
        cdef Remote *r
        if e == NULL:
            e = fdb_create(&self.host.vxlan_fdb, slot, mac, 0)
        if e == NULL:
            raise MemoryError
        e.fixed = fixed
        r = fdb_add_remote(e)
        if r == NULL:
            raise MemoryError
        r.family = address_words(remote, r.address)
        if r.family == 4 and r.address[0] == 0:
            r.family = 0
        r.port = port
        r.vni = vni
        r.slot = lower

    def hook(self, int family, int hook, int kind, int table, int priority):
        """Register an entry, behind those of its priority."""
        cdef HookList *entries = &self.host.netfilter.hooks[0 if family == 4 else 1][hook]
        cdef HookEntry *entry
        cdef int at
        if entries.count == 16:
            raise ValueError("a hook takes 16 entries")
        at = entries.count
        while at and entries.entries[at - 1].priority > priority:
            entries.entries[at] = entries.entries[at - 1]
            at -= 1
        entry = &entries.entries[at]
        entries.count += 1
        entry.kind = kind
        entry.table = table
        entry.priority = priority

    def hooked(self, int family, int hook, int kind):
        """Whether an entry of a kind is registered."""
        cdef HookList *entries = &self.host.netfilter.hooks[0 if family == 4 else 1][hook]
        cdef int i
        for i in range(entries.count):
            if entries.entries[i].kind == kind:
                return True
        return False

    def rules(self, int family, CompiledRules rules):
        self.host.netfilter.rules[0 if family == 4 else 1] = &rules.rules
        if family == 4:
            self.rules4 = rules
        else:
            self.rules6 = rules

    def tracking(self, ConnectionTable connections):
        self.host.netfilter.conntrack = &connections.table
        self.connections = connections
        if self.balancer is not None:
            self.balancer.tracks(connections)

    def balancing(self, Balancer balancer):
        """Give the host its virtual services."""
        self.host.ipvs = &balancer.ipvs
        self.balancer = balancer
        if self.connections is not None:
            balancer.tracks(self.connections)

    def choices(self, int kind, values):
        """Put recorded choices of one kind in place of the generator until they are used up."""
        cdef uint32_t[::1] view
        array = np.ascontiguousarray(np.asarray(list(values), dtype=np.uint32))
        if not 0 <= kind < CHOICE_COUNT:
            raise ValueError(f"no choice of kind {kind}")
        self.recorded.append(array)
        self.host.chance.recorded[kind].next = 0
        self.host.chance.recorded[kind].count = len(array)
        if len(array):
            view = array
            self.host.chance.recorded[kind].values = &view[0]

    # ---- reading ---------------------------------------------------------------------------------------------------

    def logged(self):
        """Take what LOG, NFLOG and TRACE wrote down: (rows of EVENT_DTYPE, the packets' bytes, events that were lost
        because the log was full). The log is empty then."""
        cdef RuleTap *log = &self.host.netfilter.log
        cdef RuleEvent[::1] view
        rows = np.zeros(log.count, EVENT_DTYPE)
        if log.count:
            view = rows
            memcpy(&view[0], log.events, log.count * sizeof(RuleEvent))
        kept = (<char *>log.bytes)[:log.bytes_used] if log.bytes_used else b""
        lost = log.lost
        log.count = log.bytes_used = log.lost = 0
        return rows, kept, lost

    def drops(self):
        """Packets dropped, by Reason; only reasons that occurred."""
        cdef int i
        return {Reason(i): self.host.drops[i] for i in range(REASON_COUNT) if self.host.drops[i]}

    def refused(self):
        """Entries that full tables refused: (of bridges, of VXLAN devices)."""
        return self.host.fdb.refused, self.host.vxlan_fdb.refused

    def fragments(self, int kind):
        """What waits to be put together and what became of the rest: (datagrams, bytes charged for them, completed,
        failed, failed because time ran out)."""
        cdef Reassembly *table = &self.host.reassembly[kind]
        if not 0 <= kind < REASSEMBLY_COUNT:
            raise ValueError(f"no reassembly of kind {kind}")
        return (table.count, table.memory, table.completed, table.failed, table.timed_out)

    def interface_counters(self, int slot):
        """(rx packets, bytes, errors, dropped, tx packets, bytes, errors, dropped)."""
        cdef Interface *i = &self.host.interfaces[slot]
        return (
            i.rx_packets, i.rx_bytes, i.rx_errors, i.rx_dropped, i.tx_packets, i.tx_bytes, i.tx_errors, i.tx_dropped,
        )

    def neighbour_rows(self):
        """(slot, address, MAC, NeighbourState, proxy) of every entry, ordered."""
        cdef uint32_t i
        cdef Neighbour *n
        rows = []
        if self.host.neighbours.buckets != NULL:
            for i in range(self.host.neighbours.mask + 1):
                n = self.host.neighbours.buckets[i]
                while n != NULL:
                    rows.append((n.slot, words_address(n.address, n.family), n.mac, NeighbourState(n.state), bool(n.proxy)))
                    n = n.next
        return sorted(rows, key=lambda row: (row[0], row[1].version, row[1]))

    def bridge_rows(self):
        """(bridge slot, port slot, MAC, local, fixed, updated ns) of every entry, ordered."""
        cdef uint32_t i
        cdef FdbEntry *e
        rows = []
        if self.host.fdb.buckets != NULL:
            for i in range(self.host.fdb.mask + 1):
                e = self.host.fdb.buckets[i]
                while e != NULL:
                    rows.append((e.device, e.port, e.mac, bool(e.local), bool(e.fixed), e.updated))
                    e = e.next
        return sorted(rows)
