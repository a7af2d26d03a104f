"""Many storage nodes answer one client through a switch with a shallow queue: how much of the line carries bytes that count.

The switch has one port to the client, which drains at the line's rate, and room for `buffer_bytes` before it; what does not fit
is lost (drop-tail). Each node sends like TCP, in rounds: a window of packets, then it waits for their acknowledgements. After a
round without loss the window doubles, up to `window_max`, or grows by one packet once there was a loss. A loss that at least
three later packets of the round make known halves the window; one that nothing makes known costs the retransmission time-out,
and a window of two. That is what makes incast: a whole window is lost, the node is silent for hundreds of round trips, and so
are the others (Phanishayee et al., "Measurement and Analysis of TCP Throughput Collapse", FAST '08).

The client reads stripes: as much of every node, by the grants of `fs3.core.files.read_grants` or all at once, and the next
stripe when the whole of this one is there, as a batch is read. Time is virtual, nothing is random but where each node begins
(`Prng`).
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from fs3.base.ids import NodeId
from fs3.base.prng import Prng
from fs3.base.units import KIB, MIB, MILLISECOND, SECOND
from fs3.core.files.read_grants import BulkRead, ReadGrants


@dataclass(frozen=True, slots=True)
class Fabric:
    """The network between the nodes and the client."""

    line_rate: int = 25_000_000_000
    """Bytes/s of the client's port, and of each node's."""
    round_trip_ns: int = 20_000
    buffer_bytes: int = 4 * MIB
    """Of the client's port."""
    packet_bytes: int = 8 * KIB
    timeout_ns: int = 200 * MILLISECOND
    """Retransmission time-out; Linux has no shorter one (TCP_RTO_MIN)."""
    window_first: int = 10
    """Packets (RFC 6928)."""
    window_max: int = 128


@dataclass(slots=True, eq=False)
class _AskedRead:
    node: NodeId
    bytes: int


@dataclass(slots=True, eq=False)
class _Sender:
    """A sender: its connection to the client, and the reads it has been asked for."""

    number: int
    window: int
    threshold: int
    reads: list[_AskedRead] = field(default_factory=list)
    left: int = 0
    """Packets of the first read that have not arrived."""
    outstanding: int = 0
    """Packets of this round whose outcome is open."""
    sent: int = 0
    lost: list[int] = field(default_factory=list)
    """Places of those of the round that were lost."""
    last_arrival: int = 0


@dataclass(frozen=True, slots=True)
class IncastOutcome:
    """What a run came to."""

    goodput: float
    """Of the line's rate, from the first request to the last byte."""
    lost_packets: int
    timeouts: int
    queue_max: int
    """Bytes before the client's port."""


def run(
    nodes: int, *, granted: bool, stripes: int = 4, read_bytes: int = 1 * MIB, fabric: Fabric | None = None, seed: int = 1
) -> IncastOutcome:
    """One client reads `stripes` times `read_bytes` of each of `nodes` nodes; `granted`: by the grants, else all at once."""
    return _Run(nodes, granted, stripes, read_bytes, fabric or Fabric(), seed).run()


class _Run:
    def __init__(self, nodes: int, granted: bool, stripes: int, read_bytes: int, fabric: Fabric, seed: int) -> None:
        self._fabric = fabric
        self._packet_ns = fabric.packet_bytes * SECOND // fabric.line_rate
        self._nodes = [_Sender(number, fabric.window_first, fabric.window_max) for number in range(nodes)]
        self._prng = Prng(seed)
        self._grants = ReadGrants() if granted else ReadGrants(1 << 62, 1 << 30)
        self._stripes = stripes
        self._read_bytes = read_bytes
        self._open = 0  # reads of the stripe
        self._events: list[tuple[int, int, int, int]] = []
        """(time, order, node, place in its round; -1: it begins a round)"""
        self._order = 0
        self._port_free_at = 0
        self._lost = self._timeouts = self._queue_max = 0
        self._end = 0

    def run(self) -> IncastOutcome:
        for _ in range(self._stripes):
            self._begin_stripe(self._end)
            while self._events:
                now, _, number, place = heapq.heappop(self._events)
                node = self._nodes[number]
                if place < 0:
                    self._begin_round(now, node)
                else:
                    self._arrive(now, node, place)
            assert not self._open
        total = self._stripes * self._read_bytes * len(self._nodes)
        goodput = total * SECOND / self._end / self._fabric.line_rate
        return IncastOutcome(goodput, self._lost, self._timeouts, self._queue_max)

    def _begin_stripe(self, now: int) -> None:
        self._open = len(self._nodes)
        for node in self._nodes:
            read = _AskedRead(NodeId(node.number), self._read_bytes)
            if self._grants.ask(read):
                self._request(now, read)

    def _at(self, time: int, node: _Sender, place: int) -> None:
        self._order += 1
        heapq.heappush(self._events, (time, self._order, node.number, place))

    def _request(self, now: int, read: BulkRead) -> None:
        assert isinstance(read, _AskedRead)
        node = self._nodes[read.node]
        node.reads.append(read)
        if len(node.reads) == 1:
            node.left = -(-read.bytes // self._fabric.packet_bytes)
            # Requests arrive one after the other, and disks answer as they like.
            self._at(now + self._fabric.round_trip_ns // 2 + self._prng.below(self._fabric.round_trip_ns), node, -1)

    def _begin_round(self, now: int, node: _Sender) -> None:
        node.sent = node.outstanding = min(node.window, node.left)
        node.lost.clear()
        for place in range(node.sent):
            self._at(now + place * self._packet_ns + self._fabric.round_trip_ns // 4, node, place)

    def _arrive(self, now: int, node: _Sender, place: int) -> None:
        """A packet at the switch."""
        waits_ns = max(0, self._port_free_at - now)
        queued = waits_ns * self._fabric.line_rate // SECOND
        if queued + self._fabric.packet_bytes > self._fabric.buffer_bytes:
            self._lost += 1
            node.lost.append(place)
        else:
            self._queue_max = max(self._queue_max, queued + self._fabric.packet_bytes)
            self._port_free_at = now + waits_ns + self._packet_ns
            node.left -= 1
            node.last_arrival = self._port_free_at + self._fabric.round_trip_ns // 4
        node.outstanding -= 1
        if not node.outstanding:
            self._end_round(now, node)

    def _end_round(self, now: int, node: _Sender) -> None:
        fabric = self._fabric
        following = node.last_arrival + fabric.round_trip_ns // 2
        if not node.lost:
            grown = node.window * 2 if node.window < node.threshold else node.window + 1
            node.window = min(grown, fabric.window_max)
        elif node.sent - node.lost[0] - len(node.lost) >= 3:
            node.window = node.threshold = max(node.window // 2, 2)
        else:
            self._timeouts += 1
            node.threshold = max(node.window // 2, 2)
            node.window = 2
            following = now + fabric.timeout_ns
        if node.left:
            self._at(following, node, -1)
            return
        arrived = node.last_arrival
        self._end = max(self._end, arrived)
        self._open -= 1
        done = node.reads.pop(0)
        if node.reads:
            node.left = -(-node.reads[0].bytes // fabric.packet_bytes)
            self._at(following, node, -1)
        for read in self._grants.end(done):
            self._request(arrived, read)
