"""What the connections of a listener of the framed wire have in common, and what each of them may take."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from fs3.base import limits
from fs3.base.units import MIB
from fs3.drivers.framed.bulk_path import BulkPaths
from fs3.drivers.framed.sockets import StreamSockets
from fs3.drivers.rpc.admission import RequestAdmission
from fs3.drivers.rpc.rate_limited_log import RateLimitedLog
from fs3.drivers.rpc.receive_pool import ReceivePool
from fs3.drivers.rpc.reply_budget import ReplyBudget
from fs3.ports.clock import Clock


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What one peer may take; see `fs3.base.limits` for each. Tests make them smaller."""

    calls_per_connection_max: int = limits.calls_per_connection_max
    connections_max: int = limits.connections_max
    send_queue_bytes_max: int = 64 * MIB
    """Reply bytes, files and memory, that one connection may have queued before its requests are no longer read."""
    stream_queue_bytes_max: int = limits.stream_queue_bytes_max
    receive_share_bytes_max: int = limits.receive_share_bytes_max
    receive_stall_ns: int = limits.receive_stall_ns
    receive_rate_min: int = 1 * MIB
    """Bytes per second: a frame may take `receive_stall_ns` and the time this rate needs for it, then the peer is disconnected;
    after `patience_ns` while others wait for memory."""
    reply_share_bytes_max: int = limits.reply_share_bytes_max
    reply_rate_min: int = 1 * MIB
    """Bytes per second: a peer that takes its replies more slowly is disconnected after `patience_ns` while others wait for the
    memory."""
    patience_ns: int = limits.peer_patience_ns
    send_stall_ns: int = limits.send_stall_ns
    connection_idle_ns_max: int = limits.connection_idle_ns_max
    tls_handshake_ns: int = limits.tls_handshake_ns
    tls_handshakes_max: int = limits.tls_handshakes_max
    sweep_ns: int = limits.transport_sweep_ns


@dataclass(frozen=True, slots=True)
class ServerContext:
    """What a listener and its connections have in common."""

    loop: asyncio.AbstractEventLoop
    clock: Clock
    admission: RequestAdmission
    """Knows the endpoint, and that the listener closes."""
    limits: ServerLimits
    pool: ReceivePool
    replies: ReplyBudget
    peer_log: RateLimitedLog
    sockets: StreamSockets
    paths: BulkPaths | None = None
    """None: no client gets one."""
