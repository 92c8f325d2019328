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
from dataplane.testing.drawn_clusters import clusters, endpoint_changes
from dataplane.testing.drawn_hosts import hosts
from dataplane.testing.drawn_traffic import conversations, packets
from dataplane.testing.invariants import (
    Violation,
    accounting_adds_up,
    batch_size_does_not_matter,
    cached_and_uncached_agree,
    check,
    checksums_kept,
    client_address_kept,
    counters_add_up,
    encapsulation_is_inverse,
    one_endpoint,
    only_chosen_endpoints,
    order_does_not_matter,
    payload_untouched,
    replies_are_inverse,
    reply_tuples_are_unique,
    same_outcome,
    service_has_its_endpoints,
    ttl_falls_by_hops,
)
from dataplane.testing.pieces import cut, whole
from dataplane.testing.run import Conversation, Passage, Played, Run, Sighting, Talk, arrived
from dataplane.testing.saved import manifests, save, saving
from dataplane.testing.wire import Parsed, packet, parse, vxlan

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
    "accounting_adds_up",
    "arrived",
    "batch_size_does_not_matter",
    "cached_and_uncached_agree",
    "check",
    "checksums_kept",
    "client_address_kept",
    "clusters",
    "conversations",
    "counters_add_up",
    "cut",
    "encapsulation_is_inverse",
    "endpoint_changes",
    "hosts",
    "manifests",
    "one_endpoint",
    "only_chosen_endpoints",
    "order_does_not_matter",
    "packet",
    "packets",
    "parse",
    "payload_untouched",
    "replies_are_inverse",
    "reply_tuples_are_unique",
    "same_outcome",
    "save",
    "saving",
    "service_has_its_endpoints",
    "ttl_falls_by_hops",
    "vxlan",
    "whole",
]
