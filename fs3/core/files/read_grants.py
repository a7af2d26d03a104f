"""Which bulk reads of a client are under way: the request-to-send control of the reader.

Many storage nodes that answer one client at once send more than its port of the switch can queue; what is lost then is sent again
after time-outs, and the port stands idle meanwhile (incast). So a client bounds how much it has asked for, and of how many nodes.
The Fire-Flyer paper (SC '24, "request-to-send control") has the storage service ask before it sends; here the client asks for no
more than it has room for, which spares a round trip, and memory at the node.

Rules, each a test:

1. Reads of less than `bulk_read_bytes` are never held back: few bytes, and a caller waits for them.
2. At most `bytes_max` bytes of bulk reads and `senders_max` nodes at once; a single read that is larger goes alone.
3. Nodes take turns; reads of one node are in the order they were asked for. While others wait, a node has no more than
   half of the bytes.
4. A node whose answers take longer than `late_read_ns` is asked for half as much from then on, and for a little more with every
   answer that does not (additive increase, multiplicative decrease: Chiu and Jain, 1989). So what a slow disk has not done yet
   waits at its clients, which may ask others, and clients come to equal shares of it.
5. A node that says nothing (`set_aside`) keeps nothing from the others: what it owes counts no more.
6. Beside short reads, and for `short_read_memory_ns` after the last one, much less is asked for at once:
   `beside_short_bytes_max` of `beside_short_senders_max` nodes. So little is queued in front of a short read, and few processes
   contend with it for a processor. Where answers then take longer than `beside_short_late_ns` on average, it is not the queue
   that takes the time, and nodes would be idle: everything may be asked for again for `beside_short_pause_ns`.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from fs3.base.ids import NodeId
from fs3.base.units import KIB, MIB, MILLISECOND, SECOND

bulk_read_bytes = 512 * KIB
"""Requests from here on are bulk."""
read_grant_bytes_max = 16 * MIB
"""Bytes of bulk reads that one client has asked for and not got."""
late_read_ns = 100 * MILLISECOND
"""A bulk read that takes longer has waited for others at its node."""
node_bytes_step = 1 * MIB
"""By so much the bytes of a node may rise while as many arrive in time as it may owe."""
read_senders_max = 4
"""Nodes it has asked for them."""
beside_short_bytes_max = 2 * MIB
"""As `read_grant_bytes_max`, beside short reads. Figures of this and more: docs/transports.md."""
beside_short_senders_max = 1
"""As `read_senders_max`, beside short reads."""
short_read_memory_ns = 250 * MILLISECOND
beside_short_late_ns = 2 * MILLISECOND
"""So that what is asked for beside short reads can bring a gigabyte a second."""
beside_short_pause_ns = 1 * SECOND

_ANSWERS = 16
"""The average is over about so many."""


class BulkRead(Protocol):
    """A request for many bytes."""

    @property
    def node(self) -> NodeId:
        """Who sends them."""
        ...

    @property
    def bytes(self) -> int:
        """How many."""
        ...


class ReadGrants:
    """The bulk reads of one client: those under way, and those that wait."""

    def __init__(self, bytes_max: int = read_grant_bytes_max, senders_max: int = read_senders_max) -> None:
        self._bytes_max = bytes_max
        self._senders_max = senders_max
        self._granted: dict[BulkRead, None] = {}
        """Those that count."""
        self.owing: dict[NodeId, int] = {}
        """Nodes with something granted, and how many bytes."""
        self._waiting: dict[NodeId, deque[BulkRead]] = {}
        """The first node is the next to have its turn."""
        self._node_limits: dict[NodeId, tuple[int, int]] = {}
        """(bytes, since when) of nodes that were late; others may owe everything."""
        self.bytes = 0
        """Granted, and not there yet."""
        self._wide = bytes_max, senders_max
        """Without short reads."""
        self._is_beside_short = False
        self._beside_short_since = self._beside_short_until = 0
        self._wide_until = 0
        """Short reads change nothing until then."""
        self._answer_ns = 0
        """Average beside short reads."""

    @property
    def senders(self) -> int:
        """Nodes with something granted."""
        return len(self.owing)

    @property
    def waiting_count(self) -> int:
        """Reads that wait."""
        return sum(map(len, self._waiting.values()))

    def ask(self, read: BulkRead) -> bool:
        """A read would begin. False: it waits, and an answer of the other methods will have it."""
        if not self._waiting and self._fits(read, others_wait=False):
            self._grant(read)
            return True
        self._waiting.setdefault(read.node, deque()).append(read)
        return False

    def end(self, read: BulkRead) -> list[BulkRead]:
        """A read is over, or is not wanted any more. What begins now."""
        if read in self._granted:
            self._take_back(read)
        else:
            queue = self._waiting.get(read.node)
            if queue is not None and read in queue:
                queue.remove(read)
                if not queue:
                    del self._waiting[read.node]
        return self._next()

    def on_short_read(self, now: int) -> None:
        """A read that is no bulk read is asked for."""
        if now < self._wide_until:
            return
        self._beside_short_until = now + short_read_memory_ns
        if not self._is_beside_short:
            self._is_beside_short = True
            self._beside_short_since = now
            self._answer_ns = 0
            self._bytes_max = min(self._wide[0], beside_short_bytes_max)
            self._senders_max = min(self._wide[1], beside_short_senders_max)

    def _look_at_short_reads(self, read: BulkRead, begun_at: int, now: int) -> None:
        """Whether there are any still, and whether nodes are idle meanwhile."""
        if begun_at >= self._beside_short_since:  # what was sent before has waited for more
            elapsed_ns = (now - begun_at) * beside_short_bytes_max // max(read.bytes, beside_short_bytes_max)
            self._answer_ns += (elapsed_ns - self._answer_ns) // _ANSWERS
        if self._answer_ns > beside_short_late_ns:
            self._wide_until = now + beside_short_pause_ns
        elif now < self._beside_short_until:
            return
        self._is_beside_short = False
        self._bytes_max, self._senders_max = self._wide

    def on_answered(self, read: BulkRead, begun_at: int, now: int) -> None:
        """A read that was sent at `begun_at` has its answer; times in nanoseconds. Before `end`."""
        if self._is_beside_short:
            self._look_at_short_reads(read, begun_at, now)
        node = read.node
        limit, since = self._node_limits.get(node, (self._wide[0], 0))
        if now - begun_at > late_read_ns:
            if begun_at >= since:  # what was sent before the last halving says nothing of it
                self._node_limits[node] = max(limit // 2, node_bytes_step), now
        elif limit < self._wide[0]:
            limit += max(node_bytes_step * read.bytes // limit, 1)
            if limit < self._wide[0]:
                self._node_limits[node] = limit, since
            else:
                del self._node_limits[node]

    def node_limit(self, node: NodeId) -> int:
        """Bytes that a node may owe; one read may be more."""
        known = self._node_limits.get(node)
        return self._wide[0] if known is None else known[0]

    def set_aside(self, read: BulkRead) -> list[BulkRead]:
        """The node of a granted read says nothing: it counts no more, and may end whenever it likes. What begins now."""
        if read in self._granted:
            self._take_back(read)
        return self._next()

    def _next(self) -> list[BulkRead]:
        begun: list[BulkRead] = []
        while (read := self._choose()) is not None:
            queue = self._waiting.pop(read.node)
            queue.popleft()
            if queue:
                self._waiting[read.node] = queue  # behind the others
            self._grant(read)
            begun.append(read)
        return begun

    def _choose(self) -> BulkRead | None:
        others_wait = len(self._waiting) > 1
        for node, queue in self._waiting.items():
            if self._fits(queue[0], others_wait=others_wait):
                return queue[0]
            if self._may_send(node, queue[0].bytes, others_wait=others_wait):
                return None  # it is its turn and its bytes do not fit: a smaller one that did would be the next, for ever
        return None

    def _fits(self, read: BulkRead, *, others_wait: bool) -> bool:
        if not self.bytes:
            return True
        return self.bytes + read.bytes <= self._bytes_max and self._may_send(read.node, read.bytes, others_wait=others_wait)

    def _may_send(self, node: NodeId, count: int, *, others_wait: bool) -> bool:
        own = self.owing.get(node, 0)
        if not own:
            return len(self.owing) < self._senders_max
        if self._node_limits and own + count > self.node_limit(node):
            return False
        return not others_wait or own + count <= self._bytes_max // 2

    def _grant(self, read: BulkRead) -> None:
        self._granted[read] = None
        self.owing[read.node] = self.owing.get(read.node, 0) + read.bytes
        self.bytes += read.bytes

    def _take_back(self, read: BulkRead) -> None:
        del self._granted[read]
        self.bytes -= read.bytes
        left = self.owing[read.node] - read.bytes
        if left:
            self.owing[read.node] = left
        else:
            del self.owing[read.node]
