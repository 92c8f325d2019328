"""Compiled rules as Python objects: the frozen program, and one host's counters and states over it."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memset

cimport cython
import numpy as np

from dataplane._fast.chance cimport CHOICE_STATISTIC, Chance, chance_seed
from dataplane._fast.conncount cimport Conncount, conncount_clear
from dataplane._fast.conntrack cimport Conn
from dataplane._fast.fib cimport Fib, NextHop, Route, fib_add_hop, fib_add_route, fib_free, fib_index
from dataplane._fast.hashlimit cimport HashlimitTable, hashlimit_clear
from dataplane._fast.interface cimport Interface
from dataplane._fast.ipset cimport CompiledSets
from dataplane._fast.packet cimport (
    FIELD_BRIDGED, FIELD_MARK, FIELD_PHYSIN, FIELD_PHYSOUT, FIELD_PKTTYPE, Hook, Packet, packet_interfaces, packet_read,
)
from dataplane._fast.recent cimport RECENT_LIMIT, RecentEntry, RecentList, recent_clear
from dataplane._fast.rule_event cimport RuleEvent, RuleTap
from dataplane._fast.rule_context cimport RuleContext
from dataplane._fast.ruleset cimport (
    Chain, OP_CONNLIMIT, OP_HASHLIMIT, OP_PAYLOAD, OP_RECENT, OP_SET, OP_WORD, Op, Rule, Run, TARGET_GOTO, TARGET_JUMP,
    TARGET_REJECT, Table, TableKind, Target,
)

cdef Op an_op
cdef Rule a_rule
cdef Run a_run
cdef Target a_target
cdef Chain a_chain
cdef Table a_table
cdef RuleEvent an_event

# Derived from the structs, so that they cannot drift apart.
OP_DTYPE = np.asarray(<Op[:1]>(&an_op)).dtype
RULE_DTYPE = np.asarray(<Rule[:1]>(&a_rule)).dtype
RUN_DTYPE = np.asarray(<Run[:1]>(&a_run)).dtype
TARGET_DTYPE = np.asarray(<Target[:1]>(&a_target)).dtype
CHAIN_DTYPE = np.asarray(<Chain[:1]>(&a_chain)).dtype
TABLE_DTYPE = np.asarray(<Table[:1]>(&a_table)).dtype
EVENT_DTYPE = np.asarray(<RuleEvent[:1]>(&an_event)).dtype


cdef object frozen(object values, object dtype):
    """A read-only copy, never empty: a pointer into it can always be taken."""
    array = np.zeros(max(len(values), 1), dtype)
    array[:len(values)] = values
    array.flags.writeable = False
    return array


cdef int check(object holds, str what) except -1:
    if not bool(np.all(holds)):
        raise ValueError(f"rules that do not fit together: {what}")
    return 0


class RuleProgram:
    """The rows of one family's rules, read-only, with what they refer to checked.

    Arrays as in ruleset.pxd: ops, rules, runs, keys, targets, chains, tables (5, by TableKind), pool (uint32), state
    (uint64, the first values). recents: (name, stamps, four words of mask) of each list that `recent` rules share.
    hashlimits: (name, words) of each table that `hashlimit` rules share, words as `HashlimitTable` has them: four of
    the destination mask, four of the source mask, ports, cost, full, expire, limit. conncounts: how many rules count
    connections. set_names: of the host's sets, by index. depth: of the deepest chain of jumps. chain_names: (table,
    chain) of each chain. Raises ValueError.
    """

    def __init__(
        self, *, ops, rules, runs, keys, targets, chains, tables, pool, state, recents, hashlimits, int conncounts,
        set_names, int depth, chain_names,
    ):
        self.rule_count = len(rules)
        self.chain_count = len(chains)
        self.chain_names = tuple(chain_names)
        self.recents = tuple(recents)
        self.hashlimits = tuple(hashlimits)
        self.conncounts = conncounts
        self.set_names = tuple(set_names)
        self.depth = depth
        self.state_count = len(state)
        check(len(tables) == 5, "tables")
        check(len(self.chain_names) == len(chains), "names")
        # Rows may refer to nothing that is not there: the engine follows indices without looking.
        last = rules["first_op"].astype(np.int64) + rules["op_count"]
        check((rules["first_op"] >= 0) & (last <= len(ops)), "tests of a rule")
        check(rules["skip"] <= rules["op_count"], "tests that a rule skips")
        check(rules["field"] < 28, "word of a rule")
        check(rules["run"] < len(runs), "run of a rule")
        jumps = (rules["target"] == <int>TARGET_JUMP) | (rules["target"] == <int>TARGET_GOTO)
        check((rules["argument"][jumps] >= 0) & (rules["argument"][jumps] < len(chains)), "chain of a jump")
        others = rules["target"] >= <int>TARGET_REJECT
        check((rules["argument"][others] >= 0) & (rules["argument"][others] < len(targets)), "target of a rule")
        last = chains["first_rule"].astype(np.int64) + chains["rule_count"]
        check((chains["first_rule"] >= 0) & (last <= len(rules)), "rules of a chain")
        last = runs["first_key"].astype(np.int64) + runs["key_count"]
        check((runs["first_key"] >= 0) & (last <= len(keys)) & (runs["end"] <= len(rules)), "keys of a run")
        check(runs["field"] < 28, "word of a run")
        check((keys & 0xFFFFFFFF) < max(len(rules), 1), "rule of a key")
        for hook in range(5):
            check(tables[f"base{hook}"] < len(chains), "chain at a hook")
        words = ops[(ops["kind"] != <int>OP_WORD) & (ops["kind"] != <int>OP_PAYLOAD)]
        check(words["a"] <= len(pool), "constants of a test")
        check((words["c"] <= len(state)), "state of a test")
        for kind, count in (
            (<int>OP_RECENT, len(self.recents)),
            (<int>OP_HASHLIMIT, len(self.hashlimits)),
            (<int>OP_CONNLIMIT, conncounts),
        ):
            for index in ops["c"][ops["kind"] == kind]:
                check(index < len(state) and state[index] < count, "memory of a test")
        for at in ops["a"][ops["kind"] == <int>OP_SET]:
            check(at < len(pool) and pool[at] < len(self.set_names), "set of a test")
        self.ops = frozen(ops, OP_DTYPE)
        self.rules = frozen(rules, RULE_DTYPE)
        self.runs = frozen(runs, RUN_DTYPE)
        self.keys = frozen(keys, np.uint64)
        self.targets = frozen(targets, TARGET_DTYPE)
        self.chains = frozen(chains, CHAIN_DTYPE)
        self.tables = frozen(tables, TABLE_DTYPE)
        self.pool = frozen(pool, np.uint32)
        self.state = frozen(state, np.uint64)


@cython.final
cdef class CompiledRules:
    """One host's rules of one family: a program, and this host's counters and states.

    sets: the host's sets, by the names that the program has; needed where it has any.
    counters: uint64 (rules, 2) of packets and bytes, in the order of iptables-save. policies: the same for chains; only
    those of base chains move.
    """

    def __cinit__(self, program, CompiledSets sets=None):
        cdef const Op[::1] ops = program.ops
        cdef const Rule[::1] rules = program.rules
        cdef const Run[::1] runs = program.runs
        cdef const uint64_t[::1] keys = program.keys
        cdef const Target[::1] targets = program.targets
        cdef const Chain[::1] chains = program.chains
        cdef const Table[::1] tables = program.tables
        cdef const uint32_t[::1] pool = program.pool
        cdef uint64_t[:, ::1] counters, policies
        cdef uint64_t[::1] state
        cdef int32_t[::1] stack
        cdef RecentList *list
        cdef HashlimitTable *table
        cdef int32_t i, word
        if program.set_names and (sets is None or sets.names != program.set_names):
            raise ValueError("these are not the sets that the rules were compiled for")
        self.sets = sets
        self.rules.sets = sets.sets if sets is not None else NULL
        self.program = program
        self.counters = np.zeros((max(program.rule_count, 1), 2), np.uint64)[:program.rule_count]
        self.policies = np.zeros((max(program.chain_count, 1), 2), np.uint64)[:program.chain_count]
        self.state = program.state.copy()
        self.stack = np.zeros(2 * program.depth + 2, np.int32)
        counters = self.counters.base
        policies = self.policies.base
        state = self.state
        stack = self.stack
        self.rules.ops = &ops[0]
        self.rules.rules = &rules[0]
        self.rules.runs = &runs[0]
        self.rules.keys = &keys[0]
        self.rules.targets = &targets[0]
        self.rules.chains = &chains[0]
        self.rules.pool = &pool[0]
        for i in range(5):
            self.rules.tables[i] = tables[i]
        self.rules.counters = &counters[0, 0]
        self.rules.policies = &policies[0, 0]
        self.rules.state = &state[0]
        self.rules.stack = &stack[0]
        self.recent_names = tuple(name for name, *_ in program.recents)
        self.recent_count = len(program.recents)
        self.rules.recent = <RecentList *>calloc(self.recent_count + 1, sizeof(RecentList))
        if self.rules.recent == NULL:
            raise MemoryError
        for i, (_, stamps, m0, m1, m2, m3) in enumerate(program.recents):
            list = &self.rules.recent[i]
            list.stamps = stamps
            list.limit = RECENT_LIMIT
            list.mask[0], list.mask[1], list.mask[2], list.mask[3] = m0, m1, m2, m3
        self.hashlimit_count = len(program.hashlimits)
        self.rules.hashlimits = <HashlimitTable *>calloc(self.hashlimit_count + 1, sizeof(HashlimitTable))
        self.conncount_count = program.conncounts
        self.rules.conncounts = <Conncount *>calloc(self.conncount_count + 1, sizeof(Conncount))
        if self.rules.hashlimits == NULL or self.rules.conncounts == NULL:
            raise MemoryError
        for i, (_, words) in enumerate(program.hashlimits):
            table = &self.rules.hashlimits[i]
            for word in range(4):
                table.destination[word] = words[word]
                table.source[word] = words[4 + word]
            (
                table.ports, table.cost, table.full, table.expire, table.limit, table.burst, table.interval, table.mode,
            ) = words[8:]

    def __dealloc__(self):
        cdef int32_t i
        if self.rules.recent != NULL:
            for i in range(self.recent_count):
                recent_clear(&self.rules.recent[i])
            free(self.rules.recent)
        if self.rules.hashlimits != NULL:
            for i in range(self.hashlimit_count):
                hashlimit_clear(&self.rules.hashlimits[i])
            free(self.rules.hashlimits)
        if self.rules.conncounts != NULL:
            for i in range(self.conncount_count):
                conncount_clear(&self.rules.conncounts[i])
            free(self.rules.conncounts)

    def adopt(
        self, *, ops, rules, runs, keys, targets, chains, tables, pool, state, counters, policies, int depth, recents=(),
        forgotten=(), hashlimits=(), int conncounts=0,
    ):
        """Go on with other rows: the rules have changed while the host runs.

        The arrays are taken as they are and must not move while they are in use; what they refer to has been checked by
        who made them. recents: (index, name, stamps, four words of mask) of lists to begin. forgotten: indexes of lists
        that no rule uses any more. hashlimits: (index, words) of tables to begin. conncounts: how many there are now.
        """
        cdef Op[::1] op_rows = ops
        cdef Rule[::1] rule_rows = rules
        cdef Run[::1] run_rows = runs
        cdef uint64_t[::1] key_rows = keys
        cdef Target[::1] target_rows = targets
        cdef Chain[::1] chain_rows = chains
        cdef Table[::1] table_rows = tables
        cdef uint32_t[::1] words = pool
        cdef uint64_t[::1] states = state
        cdef uint64_t[:, ::1] counted = counters
        cdef uint64_t[:, ::1] policy_counts = policies
        cdef int32_t[::1] stack
        cdef RecentList *lists
        cdef HashlimitTable *limits
        cdef Conncount *counts
        cdef RecentList *list
        cdef HashlimitTable *table
        cdef int32_t i, word, wanted
        wanted = max([index + 1 for index, *_ in recents], default=0)
        if wanted > self.recent_count:
            lists = <RecentList *>realloc(self.rules.recent, (wanted + 1) * sizeof(RecentList))
            if lists == NULL:
                raise MemoryError
            memset(lists + self.recent_count, 0, (wanted + 1 - self.recent_count) * sizeof(RecentList))
            self.rules.recent = lists
            self.recent_count = wanted
        names = [*self.recent_names, *[None] * (self.recent_count - len(self.recent_names))]
        for i in forgotten:
            recent_clear(&self.rules.recent[i])
            names[i] = None
        for i, name, stamps, m0, m1, m2, m3 in recents:
            list = &self.rules.recent[i]
            recent_clear(list)
            list.stamps = stamps
            list.limit = RECENT_LIMIT
            list.mask[0], list.mask[1], list.mask[2], list.mask[3] = m0, m1, m2, m3
            names[i] = name
        self.recent_names = tuple(names)
        wanted = max([index + 1 for index, _ in hashlimits], default=0)
        if wanted > self.hashlimit_count:
            limits = <HashlimitTable *>realloc(self.rules.hashlimits, (wanted + 1) * sizeof(HashlimitTable))
            if limits == NULL:
                raise MemoryError
            memset(limits + self.hashlimit_count, 0, (wanted + 1 - self.hashlimit_count) * sizeof(HashlimitTable))
            self.rules.hashlimits = limits
            self.hashlimit_count = wanted
        for i, values in hashlimits:
            table = &self.rules.hashlimits[i]
            for word in range(4):
                table.destination[word] = values[word]
                table.source[word] = values[4 + word]
            (
                table.ports, table.cost, table.full, table.expire, table.limit, table.burst, table.interval, table.mode,
            ) = values[8:]
        if conncounts > self.conncount_count:
            counts = <Conncount *>realloc(self.rules.conncounts, (conncounts + 1) * sizeof(Conncount))
            if counts == NULL:
                raise MemoryError
            memset(counts + self.conncount_count, 0, (conncounts + 1 - self.conncount_count) * sizeof(Conncount))
            self.rules.conncounts = counts
            self.conncount_count = conncounts
        if len(self.stack) < 2 * depth + 2:
            self.stack = np.zeros(2 * depth + 2, np.int32)
            stack = self.stack
            self.rules.stack = &stack[0]
        self.counters = counters
        self.policies = policies
        self.state = state
        self.rows = (ops, rules, runs, keys, targets, chains, pool)
        self.rules.ops = &op_rows[0]
        self.rules.rules = &rule_rows[0]
        self.rules.runs = &run_rows[0]
        self.rules.keys = &key_rows[0]
        self.rules.targets = &target_rows[0]
        self.rules.chains = &chain_rows[0]
        self.rules.pool = &words[0]
        for i in range(5):
            self.rules.tables[i] = table_rows[i]
        self.rules.state = &states[0]
        self.rules.counters = &counted[0, 0]
        self.rules.policies = &policy_counts[0, 0]

    def clear_counters(self):
        """Set every counter of rules and policies to 0, as iptables -Z does."""
        self.counters[:] = 0
        self.policies[:] = 0

    def recent(self, name):
        """The addresses on a list of `recent`, the one used longest ago first.

        (four words of the address in host order, family, TTL, times of the hits in ns in the order of their ring).
        Raises KeyError where no rule names the list.
        """
        cdef RecentList *list
        cdef RecentEntry *e
        cdef uint32_t i
        if name not in self.recent_names:
            raise KeyError(name)
        list = &self.rules.recent[self.recent_names.index(name)]
        found = []
        e = list.oldest
        while e != NULL:
            stamps = tuple([e.stamps[i] for i in range(e.used)])
            found.append(((e.address[0], e.address[1], e.address[2], e.address[3]), e.family, e.ttl, stamps))
            e = e.newer
        return found


class Evaluation:
    """What rules made of one packet.

    verdict: RuleVerdict. target: its row in the program's targets, -1 without one. packet: the bytes of the IP packet
    as it left. mark, ctinfo, ct_mark: after the rules. events, log: rows of EVENT_DTYPE.
    """

    def __init__(self, verdict, target, packet, mark, ctinfo, ct_mark, events, log):
        self.verdict = verdict
        self.target = target
        self.packet = packet
        self.mark = mark
        self.ctinfo = ctinfo
        self.ct_mark = ct_mark
        self.events = events
        self.log = log


cdef object events_of(RuleTap *tap):
    cdef RuleEvent[::1] view
    array = np.zeros(tap.count, EVENT_DTYPE)
    if tap.count:
        view = array
        memcpy(&view[0], tap.events, tap.count * sizeof(RuleEvent))
    free(tap.events)
    return array


@cython.final
cdef class RuleBench:
    """A door for tests and measurements: packets through rules, without the rest of a host.

    rules: CompiledRules. addresses: (four words, prefix length, family, RouteType, slot) as the local table has them;
    everything else is unicast. seed: of its random choices. drawn: 32-bit draws of `statistic` to take before those.
    """

    cdef readonly CompiledRules rules
    cdef Fib fib
    cdef Interface *interfaces
    cdef Chance chance
    cdef object drawn

    def __cinit__(self, CompiledRules rules not None, addresses=(), uint64_t seed=0, drawn=()):
        cdef Route route
        cdef NextHop hop
        cdef uint32_t[::1] values
        cdef int i
        self.rules = rules
        self.interfaces = <Interface *>calloc(256, sizeof(Interface))
        if self.interfaces == NULL:
            raise MemoryError
        for i in range(256):
            self.interfaces[i].slot = i
            self.interfaces[i].up = 1
        self.fib.interfaces = self.interfaces
        self.fib.interface_count = 256
        for words, length, family, kind, slot in addresses:
            memset(&route, 0, sizeof(route))
            memset(&hop, 0, sizeof(hop))
            hop.slot = slot
            hop.weight = 1
            for i in range(4):
                route.prefix[i] = words[i]
            route.table = 254 if kind == 1 else 255
            route.first_hop = fib_add_hop(&self.fib, &hop)
            route.hop_count = 1
            route.next = -1
            route.family = family
            route.length = length
            route.type = kind
            fib_add_route(&self.fib, &route)
        fib_index(&self.fib)
        chance_seed(&self.chance, seed)
        self.drawn = np.array(list(drawn) + [0], np.uint32)
        values = self.drawn
        self.chance.recorded[<int>CHOICE_STATISTIC].values = &values[0]
        self.chance.recorded[<int>CHOICE_STATISTIC].count = len(self.drawn) - 1

    def __dealloc__(self):
        fib_free(&self.fib)
        free(self.interfaces)

    cdef int fill(
        self, Packet *p, uint8_t[::1] frame, int network, object options, Conn *ct,
    ) except -1:
        memset(p, 0, sizeof(Packet))
        p.head = &frame[0]
        p.mac = &frame[0]
        p.net = &frame[network]
        p.tail = &frame[0] + frame.shape[0] - 64
        p.end = p.tail + 64
        packet_read(p)
        p.time = options.get("time", 0)
        p.iif = options.get("iif", -1)
        p.oif = options.get("oif", -1)
        p.row = options.get("row", -1)
        p.traced = options.get("traced", 0)
        packet_interfaces(p)
        p.field[<int>FIELD_MARK] = options.get("mark", 0)
        p.field[<int>FIELD_PHYSIN] = options.get("physin", -1) + 1
        p.field[<int>FIELD_PHYSOUT] = options.get("physout", -1) + 1
        p.field[<int>FIELD_PKTTYPE] = options.get("packet_type", 0)
        p.field[<int>FIELD_BRIDGED] = options.get("bridged", 0)
        p.ctinfo = options.get("ctinfo", 0)
        connection = options.get("connection")
        memset(ct, 0, sizeof(Conn))
        if connection is not None:
            p.ct = ct
            ct.status = connection.get("status", 0)
            ct.mark = connection.get("mark", 0)
            ct.expires = connection.get("expires", 0)
            for i in range(2):
                words = connection["tuples"][i]
                for word in range(4):
                    ct.tuple[i].src[word] = words[0][word]
                    ct.tuple[i].dst[word] = words[1][word]
                ct.tuple[i].sport, ct.tuple[i].dport, ct.tuple[i].proto = words[2], words[3], words[4]
                ct.tuple[i].family = p.family
            for i in range(2):
                ct.packets[i] = connection.get("packets", (0, 0))[i]
                ct.bytes[i] = connection.get("bytes", (0, 0))[i]
        return 0

    def evaluate(self, int table, int hook, packet, *, mac=b"", **options):
        """Take one IP packet through a table at a hook: an Evaluation.

        packet: bytes from the IP header on; its header must be whole. mac: the link-layer header before it.
        options: iif, oif, physin, physout (slots), mark, ctinfo, connection (tuples: two of (src words, dst words,
        sport, dport, protocol); status, mark, expires, packets, bytes), packet_type, bridged, time in ns, traced,
        row.
        """
        cdef Packet p
        cdef Conn ct
        cdef RuleContext context
        cdef RuleTap tap, log
        cdef const Target *target = NULL
        cdef uint8_t verdict
        cdef TableKind kind = <TableKind>table
        cdef Hook at = <Hook>hook
        cdef uint8_t[::1] frame = bytearray(bytes(mac) + bytes(packet) + bytes(64))
        if not 0 <= table < 5 or not 0 <= hook < 5:
            raise ValueError("no such table or hook")
        if len(packet) < (20 if packet[0] >> 4 == 4 else 40):
            raise ValueError("the IP header is not whole")
        self.fill(&p, frame, len(mac), options, &ct)
        memset(&tap, 0, sizeof(tap))
        memset(&log, 0, sizeof(log))
        tap.limit = log.limit = 1 << 20
        context.fib = &self.fib
        context.chance = &self.chance
        context.conntrack = NULL
        context.now = p.time
        context.tap = &tap
        context.log = &log
        with nogil:
            verdict = rules_run(&self.rules.rules, kind, at, &p, &context, &target)
        return Evaluation(
            RuleVerdict(verdict),
            -1 if target == NULL else <int>(target - self.rules.rules.targets),
            bytes(frame)[len(mac):len(mac) + <object>(p.tail - p.net)],
            p.field[<int>FIELD_MARK],
            p.ctinfo,
            ct.mark,
            events_of(&tap),
            events_of(&log),
        )

    def repeat(self, int table, int hook, packet, int64_t times, **options):
        """Take the same packet through again and again: for measuring. Gives the sum of the verdicts."""
        cdef Packet p
        cdef Conn ct
        cdef RuleContext context
        cdef const Target *target = NULL
        cdef TableKind kind = <TableKind>table
        cdef Hook at = <Hook>hook
        cdef uint8_t[::1] frame = bytearray(bytes(packet) + bytes(64))
        cdef int64_t left = times, total = 0
        if not 0 <= table < 5 or not 0 <= hook < 5:
            raise ValueError("no such table or hook")
        self.fill(&p, frame, 0, options, &ct)
        context.fib = &self.fib
        context.chance = &self.chance
        context.conntrack = NULL
        context.now = p.time
        context.tap = NULL
        context.log = NULL
        with nogil:
            while left > 0:
                left -= 1
                total += rules_run(&self.rules.rules, kind, at, &p, &context, &target)
        return total
