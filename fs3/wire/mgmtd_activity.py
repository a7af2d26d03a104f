"""What a process tells of what it does, on the wire."""

from __future__ import annotations

from fs3.base.counting import BUCKETS
from fs3.model.activity import NO_OPERATIONS, NodeActivity, OperationTotals
from fs3.wire.malformed import malformed
from fs3.wire.pb import mgmtd_pb2 as pb


def activity_to_pb(activity: NodeActivity) -> pb.NodeActivity:
    """As part of a heartbeat."""
    return pb.NodeActivity(
        cpu_ms=activity.cpu_ms,
        memory_bytes=activity.memory_bytes,
        reads=_totals_to_pb(activity.reads),
        writes=_totals_to_pb(activity.writes),
        names=_totals_to_pb(activity.names),
    )


def activity_from_pb(message: pb.NodeActivity) -> NodeActivity:
    """As part of a heartbeat."""
    return NodeActivity(
        message.cpu_ms,
        message.memory_bytes,
        _totals_from_pb(message.reads, "reads"),
        _totals_from_pb(message.writes, "writes"),
        _totals_from_pb(message.names, "names"),
    )


def _totals_to_pb(totals: OperationTotals) -> pb.OperationTotals | None:
    if not totals.calls:
        return None
    return pb.OperationTotals(calls=totals.calls, bytes=totals.bytes, counts=totals.counts)


def _totals_from_pb(message: pb.OperationTotals, field: str) -> OperationTotals:
    if len(message.counts) > BUCKETS:
        raise malformed(f"NodeActivity.{field}.counts", f"{len(message.counts)} buckets, at most {BUCKETS} are allowed")
    return OperationTotals(message.calls, message.bytes, tuple(message.counts)) if message.calls else NO_OPERATIONS
