"""What processes are asked about themselves survives the wire, and the list of events."""

from __future__ import annotations

from fs3.base.status import Code
from fs3.base.units import MICROSECOND, MILLISECOND
from fs3.model.event import ClusterEvent
from fs3.model.slow import LoopStall, SlowOperation, SlowReport, Span
from fs3.wire.mgmtd_events import events_from_pb, events_to_pb, list_events_from_pb, list_events_to_pb
from fs3.wire.pb import mgmtd_pb2, process_pb2
from fs3.wire.process import slow_from_pb, slow_to_pb


def test_a_report_survives() -> None:
    spans = (Span("storing", 3 * MICROSECOND), Span("next replicas", 5 * MICROSECOND))
    report = SlowReport(
        (SlowOperation(7 * MILLISECOND, 8 * MICROSECOND, "Storage.Update", Code.BUSY, "tcp://h:1", 9, spans),),
        (LoopStall(11 * MILLISECOND, 60_000 * MICROSECOND, ("a.py:1 f", "b.py:2 g")),),
    )
    assert slow_from_pb(process_pb2.GetSlowReply.FromString(slow_to_pb(report).SerializeToString())) == report


def test_events_survive() -> None:
    events = [ClusterEvent(1, 2, "node-dead", "degraded", "node x"), ClusterEvent(2, 3, "well", "notice", "node x is back")]
    assert events_from_pb(mgmtd_pb2.ListEventsReply.FromString(events_to_pb(events).SerializeToString())) == events
    assert list_events_from_pb(list_events_to_pb(5, 7)) == (5, 7)
