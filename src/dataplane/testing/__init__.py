"""Property tests of Kubernetes networking: strategies, a cluster that runs in memory, and what must hold there.

    from hypothesis import given, strategies as st
    from dataplane.testing import Run, check, clusters, conversations, saving

    @given(st.data())
    def test_services_work(data):
        cluster = data.draw(clusters())
        with saving(Run(cluster)) as run:
            check(run, run.play(data.draw(conversations(cluster))))

Needs hypothesis (`pip install 'dataplane-emulator[testing]'`).
"""

from dataplane.testing.churn import ChurnMachine
from dataplane.testing.invariants import (
    Violation,
    batch_size_does_not_matter,
    check,
    checksums_kept,
    client_address_kept,
    counters_add_up,
    encapsulation_is_inverse,
    one_endpoint,
    only_chosen_endpoints,
    payload_untouched,
    replies_are_inverse,
    reply_tuples_are_unique,
    same_outcome,
    ttl_falls_by_hops,
)
from dataplane.testing.run import Conversation, Passage, Played, Run, Sighting, Talk, arrived
from dataplane.testing.saved import manifests, save, saving
from dataplane.testing.strategies import clusters, conversations, endpoint_changes, hosts, packets
from dataplane.testing.wire import Parsed, packet, parse

__all__ = [
    "ChurnMachine",
    "Conversation",
    "Parsed",
    "Passage",
    "Played",
    "Run",
    "Sighting",
    "Talk",
    "Violation",
    "arrived",
    "batch_size_does_not_matter",
    "check",
    "checksums_kept",
    "client_address_kept",
    "clusters",
    "conversations",
    "counters_add_up",
    "encapsulation_is_inverse",
    "endpoint_changes",
    "hosts",
    "manifests",
    "one_endpoint",
    "only_chosen_endpoints",
    "packet",
    "packets",
    "parse",
    "payload_untouched",
    "replies_are_inverse",
    "reply_tuples_are_unique",
    "same_outcome",
    "save",
    "saving",
    "ttl_falls_by_hops",
]
