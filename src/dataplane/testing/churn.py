"""A stateful test of a cluster whose endpoints come and go while connections live.

    from dataplane.testing import ChurnMachine

    class TestMyProxy(ChurnMachine.TestCase):
        settings = settings(max_examples=50, stateful_step_count=30)

Subclass ChurnMachine to draw other clusters (`cluster_strategy`) or to add rules and invariants of your own.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dataplane.emulation import Cluster
from dataplane.testing.drawn_clusters import clusters, endpoint_changes
from dataplane.testing.drawn_traffic import conversations
from dataplane.testing.invariants import (
    checksums_kept,
    counters_add_up,
    encapsulation_is_inverse,
    one_endpoint,
    payload_untouched,
    reply_tuples_are_unique,
)
from dataplane.testing.run import Run, Talk, arrived
from dataplane.testing.saved import saving
from dataplane.testing.wire import TCP, UDP

SECOND = 1_000_000_000


class ChurnMachine(RuleBasedStateMachine):
    """Connections are opened, talk and end; endpoints become unready, go and come back under new addresses.

    Held after every step: a TCP connection keeps its endpoint while that lives; replies that are sent arrive as the
    inverse of their requests; payloads and checksums are kept; no two connections share a reply tuple; both ends of
    every wire count the same.
    """

    cluster_strategy: st.SearchStrategy[Cluster] = clusters(max_nodes=2, max_services=1, families=1)
    folder: str | None = None
    """Where a failing example is saved; None: see dataplane.testing.saved."""

    def __init__(self) -> None:
        super().__init__()
        self.run: Run
        self.talks: list[Talk] = []

    @initialize(data=st.data())
    def start(self, data: st.DataObject) -> None:
        self.run = Run(data.draw(self.cluster_strategy))

    @rule(data=st.data())
    def open(self, data: st.DataObject) -> None:
        wanted = data.draw(conversations(self.run.cluster, protocols=(UDP, TCP)))
        taken = {(t.conversation.client, t.conversation.sport) for t in self.talks}
        if (wanted.client, wanted.sport) in taken:
            return
        state = self.run.timeline.state
        alive = {str(pod) for pod in state.pods} | {node.name for node in state.nodes} | {"outside"}
        if wanted.client in alive and wanted.client in self.run.hosts:
            self.talks.append(self.run.begin(wanted))

    @precondition(lambda self: self.talks)
    @rule(data=st.data(), request=st.binary(max_size=32), reply=st.binary(max_size=32))
    def talk(self, data: st.DataObject, request: bytes, reply: bytes) -> None:
        talk = data.draw(st.sampled_from(self.talks))
        if talk.conversation.client not in self.run.hosts:
            self.talks.remove(talk)
            return
        with saving(self.run, self.folder):
            requests, replies = self.run.exchange(talk, request, reply)
            for passage in (*requests, *replies):
                payload_untouched(passage)
                checksums_kept(passage)
                encapsulation_is_inverse(passage)
            if talk.conversation.protocol == TCP:
                one_endpoint(talk.played)
            for there, back in zip((r for r in requests if r.delivered), replies, strict=False):
                if back.delivered:
                    asked = arrived(there).tuple
                    assert back.receiver == talk.conversation.client, f"{asked} was answered to {back.receiver}"

    @rule(data=st.data())
    def churn(self, data: st.DataObject) -> None:
        event: dict[str, Any] = data.draw(endpoint_changes(self.run.timeline.state))
        self.run.change(event)

    @rule(seconds=st.sampled_from([1, 31, 125]))
    def wait(self, seconds: int) -> None:
        self.run.wait(seconds * SECOND)

    @invariant()
    def tables_agree(self) -> None:
        if not hasattr(self, "run"):
            return
        with saving(self.run, self.folder):
            for node in self.run.timeline.state.nodes:
                reply_tuples_are_unique(self.run.connections(node.name))
            counters_add_up(self.run)
