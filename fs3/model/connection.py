"""A connection of a process, as it tells of it."""

from __future__ import annotations

from typing import NamedTuple


class ConnectionInfo(NamedTuple):
    """One that is open."""

    peer: str
    """The endpoint of a server, or the name of a client."""
    is_outgoing: bool
    """The process made it; else it was accepted."""
    transport: str
    """"tcp", "local", or "rdma": how payloads travel."""
    path: str
    """By which device and address; "" unless it is RDMA."""
    why: str
    """Why it is this transport, and why those that would be better are not used."""


class ConnectionReport(NamedTuple):
    """Those of one process."""

    connections: tuple[ConnectionInfo, ...]
    total: int
    """Of all; more than are listed when there are very many."""
