"""What service processes are asked about themselves, as records and on the wire."""

from __future__ import annotations

from fs3.base.status import Code
from fs3.base.units import MICROSECOND, MILLISECOND
from fs3.model.connection import ConnectionInfo, ConnectionReport
from fs3.model.slow import LoopStall, SlowOperation, SlowReport, Span
from fs3.wire.pb import process_pb2 as pb


def authenticate_to_pb(ticket: bytes) -> pb.AuthenticateRequest:
    """Authenticate."""
    return pb.AuthenticateRequest(ticket=ticket)


def authenticated_to_pb() -> pb.AuthenticateReply:
    """The answer to Authenticate."""
    return pb.AuthenticateReply()


def metrics_to_pb(text: str) -> pb.GetMetricsReply:
    """The answer to GetMetrics."""
    return pb.GetMetricsReply(text=text)


def metrics_request_to_pb() -> pb.GetMetricsRequest:
    """GetMetrics."""
    return pb.GetMetricsRequest()


def slow_request_to_pb() -> pb.GetSlowRequest:
    """GetSlow."""
    return pb.GetSlowRequest()


def slow_to_pb(report: SlowReport) -> pb.GetSlowReply:
    """The answer to GetSlow."""
    return pb.GetSlowReply(
        operations=[
            pb.SlowOperation(
                wall_ms=each.wall_ns // MILLISECOND,
                elapsed_us=each.elapsed_ns // MICROSECOND,
                verb=each.verb,
                code=each.code,
                peer=each.peer,
                request_id=each.request_id,
                spans=[pb.Span(name=span.name, elapsed_us=span.elapsed_ns // MICROSECOND) for span in each.spans],
            )
            for each in report.operations
        ],
        stalls=[
            pb.LoopStall(
                wall_ms=stall.wall_ns // MILLISECOND, elapsed_us=stall.elapsed_ns // MICROSECOND, stack=list(stall.stack)
            )
            for stall in report.stalls
        ],
    )


def slow_from_pb(message: pb.GetSlowReply) -> SlowReport:
    """The answer to GetSlow."""
    return SlowReport(
        tuple(
            SlowOperation(
                each.wall_ms * MILLISECOND,
                each.elapsed_us * MICROSECOND,
                each.verb,
                Code.from_wire(each.code),
                each.peer,
                each.request_id,
                tuple(Span(span.name, span.elapsed_us * MICROSECOND) for span in each.spans),
            )
            for each in message.operations
        ),
        tuple(
            LoopStall(stall.wall_ms * MILLISECOND, stall.elapsed_us * MICROSECOND, tuple(stall.stack)) for stall in message.stalls
        ),
    )


def connections_request_to_pb() -> pb.GetConnectionsRequest:
    """GetConnections."""
    return pb.GetConnectionsRequest()


def connections_to_pb(report: ConnectionReport) -> pb.GetConnectionsReply:
    """The answer to GetConnections."""
    return pb.GetConnectionsReply(
        connections=[
            pb.ConnectionInfo(peer=one.peer, outgoing=one.is_outgoing, transport=one.transport, path=one.path, why=one.why)
            for one in report.connections
        ],
        count=report.total,
    )


def connections_from_pb(message: pb.GetConnectionsReply) -> ConnectionReport:
    """The answer to GetConnections."""
    found = tuple(ConnectionInfo(one.peer, one.outgoing, one.transport, one.path, one.why) for one in message.connections)
    return ConnectionReport(found, message.count)
