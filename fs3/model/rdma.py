"""RDMA devices as two processes tell each other of them, and the two ends of a path between them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

ROCE_V2 = "RoCE v2"
ROCE_V1 = "RoCE v1"
INFINIBAND = "IB"


@dataclass(frozen=True, slots=True)
class RdmaAddress:
    """One address (GID) of one port of a device."""

    device: str
    port: int
    gid_index: int
    gid: str
    """As the kernel writes it: eight groups of four hexadecimal digits."""
    kind: str
    """`ROCE_V2`, `ROCE_V1` or `INFINIBAND`."""
    netdev: str = ""
    """The network interface that the kernel maps the address to; "" for InfiniBand."""
    lid: int = 0
    """Of the port; 0 on Ethernet."""

    def __str__(self) -> str:
        via = f" ({self.netdev})" if self.netdev else ""
        return f"{self.device}/{self.port}{via} {self.kind} {self.gid}"


@dataclass(frozen=True, slots=True)
class RemoteRegion:
    """Bytes in the memory of the other end that may be read while they are offered."""

    address: int
    key: int
    length: int


@dataclass(frozen=True, slots=True)
class PathEnd:
    """What the other end must know of a queue pair to connect its own, and where to read for the proof."""

    qp_number: int
    psn: int
    """First packet sequence number, 24 bits."""
    mtu: int
    """In bytes; the smaller one of the two ends is used."""
    reads_max: int
    """RDMA READs that it answers at once."""
    gid: str
    lid: int
    proof: RemoteRegion


@dataclass(frozen=True, slots=True)
class PathMessage:
    """What travels in a PATH frame. Which fields mean something is said by the `PathStep`."""

    attempt: int = 0
    """Which CHOICE of the client it is about, from 1; 0: the path as a whole."""
    addresses: tuple[RdmaAddress, ...] = ()
    """HELLO: what the server has."""
    choice: int = 0
    """CHOICE: which of them the client wants, from 0."""
    end: PathEnd | None = None
    """CHOICE, BUILT: the sender's end."""
    reason: str = ""
    """DOWN: why."""


class PathStep(IntEnum):
    """The messages by which a path is agreed on, in order; `code` of a PATH frame."""

    HELLO = 1
    """Server: these addresses I have."""
    CHOICE = 2
    """Client: I take that one; this is my end."""
    BUILT = 3
    """Server: this is mine, connected to yours."""
    PROVED = 4
    """Client: I have read your proof, and it was right."""
    UP = 5
    """Server: I have read yours. Payloads may be offered."""
    DOWN = 6
    """Either: there is no path, or no longer; what was offered is fetched no more."""
