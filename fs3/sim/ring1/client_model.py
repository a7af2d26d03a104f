"""A simulated client: one operation at a time, retried under the same tag until it is answered or given up.

It keeps a history of what it asked and was told; the checkers decide whether that can be true.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from fs3.base.ids import ChunkId, ClientId
from fs3.base.prng import Prng
from fs3.base.status import Code, Retry
from fs3.core.craq.admission.table import UNTAGGED
from fs3.model.chain import Chain, Slot
from fs3.model.chunk import Tag, Update, UpdateKind
from fs3.sim.checkers.history import Operation
from fs3.sim.ring1.messages import (
    MANAGER,
    ChainNotice,
    ChainRequest,
    Message,
    SimReadAnswer,
    SimReadCall,
    SimUpdateAnswer,
    SimUpdateCall,
)
from fs3.sim.ring1.swarm import ChainSwarm


class ClientEnvironment(Protocol):
    """What a client finds around it."""

    def send(self, source: int, target: int, message: Message) -> None:
        """Put a message on its way."""
        ...

    def after(self, delay_ns: int, action: Callable[..., None], *arguments: int) -> None:
        """Call back in virtual time."""
        ...

    def next_moment(self) -> int:
        """A position in the order of events, later than all before."""
        ...

    @property
    def is_healed(self) -> bool:
        """There is no more trouble: a client that waits will be answered."""
        ...

    def on_operation_end(self, operation: Operation) -> None:
        """An operation is over, or given up."""
        ...

    def report_violation(self, what: str) -> None:
        """Something that must not happen did."""
        ...


class ClientModel:
    """Runs `operations` operations of its swarm's mix, one after the other."""

    def __init__(
        self, node: int, operations: int, swarm: ChainSwarm, prng: Prng, env: ClientEnvironment, *, watches: bool = False
    ) -> None:
        """`watches`: it only reads, and only the first chunk."""
        self.node = node
        self._watches = watches
        self.identity = ClientId(node.to_bytes(16, "big"))
        self.operations_left = operations
        self.history: list[Operation] = []
        self._swarm = swarm
        self._prng = prng
        self._env = env
        self._chain: Chain | None = None
        self._seqs = [0] * swarm.channels
        self._current: Operation | None = None
        self._call = 0
        """Of the attempt under way. Rises over all operations."""
        self._first_call = 0
        """Of the operation under way."""
        self._ask_tail = False

    @property
    def is_done(self) -> bool:
        """All operations are over."""
        return self._current is None and self.operations_left == 0

    def has_moved_on(self, tag: Tag) -> bool:
        """The client gave up the update of this tag and went on to another on the same channel."""
        return tag.seq < self._seqs[tag.channel]

    def next_operation(self) -> None:
        """Begin the next operation."""
        if self.operations_left == 0:
            return
        self.operations_left -= 1
        prng, swarm = self._prng, self._swarm
        page = 0 if self._watches else prng.below(swarm.chunks + swarm.pages)
        is_page = page >= swarm.chunks
        chunk = ChunkId(((0x80 << 120) | page if is_page else page).to_bytes(16, "big"))
        kind, offset, data = (self._page_update if is_page else self._file_update)(page)
        # What may go without a tag is the removal of what nobody ever writes again: here nothing is.
        tagged = kind is not None
        self._current = Operation(
            self.node, chunk, kind, offset, data, self._tag() if tagged else UNTAGGED, self._env.next_moment()
        )
        self.history.append(self._current)
        self._first_call = self._call + 1
        self._ask_tail = False
        self._env.after(swarm.operation_deadline_ns, self._expire, self._first_call)
        self._attempt()

    def _tag(self) -> Tag:
        channel = self._prng.below(len(self._seqs))
        self._seqs[channel] += 1
        return Tag(self.identity, channel, self._seqs[channel])

    def _file_update(self, page: int) -> tuple[UpdateKind | None, int, bytes]:
        prng, swarm = self._prng, self._swarm
        if self._watches or prng.below(1024) < swarm.read_chance:
            return None, 0, b""
        if prng.below(1024) < swarm.remove_chance:
            return UpdateKind.REMOVE, 0, b""
        offset = prng.below(12) if prng.below(1024) < swarm.partial_chance else 0
        if offset and prng.chance(1, 4):
            return UpdateKind.TRUNCATE, offset, b""
        value = f"{self.node - 100}.{len(self.history)}".encode()
        return UpdateKind.WRITE, offset, value.ljust(len(value) + prng.below(6), b"+")

    def _page_update(self, page: int) -> tuple[UpdateKind | None, int, bytes]:
        draw = self._prng.below(4)
        if draw == 0:
            return None, 0, b""
        return (UpdateKind.REMOVE, 0, b"") if draw == 1 else (UpdateKind.PUT, 0, page_content(page))

    # --- attempts ----------------------------------------------------------------------------------------------------

    def _attempt(self) -> None:
        operation = self._current
        assert operation is not None
        self._call += 1
        self._env.after(self._swarm.call_timeout_ns, self._timed_out, self._call)
        chain = self._chain
        slot = self._choose(chain) if chain is not None else None
        if chain is None or slot is None:
            self._env.send(self.node, MANAGER, ChainRequest())
            return
        operation.attempts += 1
        if operation.kind is None:
            self._env.send(self.node, slot.target, SimReadCall(self._call, operation.chunk, chain.version))
            return
        update = Update(
            operation.chunk,
            operation.kind,
            chain.id,
            chain.version,
            0,
            operation.offset,
            len(operation.data),
            operation.tag,
            data=memoryview(operation.data) if operation.data else None,
        )
        self._env.send(self.node, slot.target, SimUpdateCall(self._call, update))

    def _choose(self, chain: Chain) -> Slot | None:
        operation = self._current
        if operation is not None and operation.kind is not None:
            confused = self._prng.below(1024) < self._swarm.misroute_chance
            return self._prng.pick(chain.slots) if confused else chain.head()
        serving = chain.serving_slots()
        if not serving or self._ask_tail:
            return chain.tail()
        if self._swarm.sticky_readers:
            return serving[self.node % len(serving)]
        return serving[self._prng.below(len(serving))]

    def _timed_out(self, call: int) -> None:
        if call == self._call and self._current is not None:
            self._env.send(self.node, MANAGER, ChainRequest())
            self._attempt()

    def _expire(self, first_call: int) -> None:
        if first_call == self._first_call and self._current is not None and not self._env.is_healed:
            self._finish(None, b"")

    def receive(self, source: int, message: Message) -> None:
        """A message arrives."""
        if isinstance(message, ChainNotice):
            if self._chain is None or message.chain.version > self._chain.version:
                self._chain = message.chain
                if self._current is not None and self._current.attempts == 0:
                    self._attempt()
            return
        assert isinstance(message, SimUpdateAnswer | SimReadAnswer)
        if self._current is None or message.call < self._first_call:
            return
        code, data = (message.code, message.content) if isinstance(message, SimReadAnswer) else (message.result.code, b"")
        if code is Code.NO_SPACE:
            # Nothing has come of this attempt. An earlier one may still be on its way, and no channel row keeps it out.
            self._finish(None, b"")
        elif code is Code.EXISTS and message.call != self._call:
            return  # it was remembered where an earlier attempt went, which says nothing to the later ones elsewhere
        elif code in (Code.OK, Code.EXISTS) or (code is Code.NOT_FOUND and self._current.kind is None):
            self._finish(code, data)
        elif code is Code.CHECKSUM:
            self._retry_later()
        elif code.retry is Retry.NEVER:
            detail = "" if isinstance(message, SimReadAnswer) else message.result.message
            self._env.report_violation(f"{self._current.describe()} was answered {code.name}: {detail}")
            self._finish(None, b"")
        elif message.call == self._call:
            self._ask_tail = code is Code.DIRTY
            if code.retry is Retry.REFRESH:
                self._env.send(self.node, MANAGER, ChainRequest())
            self._retry_later()

    def _retry_later(self) -> None:
        self._call += 1  # whatever else is said to that attempt no longer counts
        self._env.after(self._prng.between(1, 4) * self._swarm.latency_max_ns, self._retry, self._call)

    def _retry(self, call: int) -> None:
        if call == self._call and self._current is not None:
            self._attempt()

    def _finish(self, code: Code | None, data: bytes) -> None:
        operation = self._current
        assert operation is not None
        self._current = None
        if code is not None:
            operation.returned = self._env.next_moment()
            operation.code = code
            if operation.kind is None:
                operation.data = data
        self._env.on_operation_end(operation)
        pause = self._swarm.trouble_ns // self._swarm.watcher_reads if self._watches else self._swarm.think_ns
        self._env.after(self._prng.below(pause + 1), self.next_operation)


def page_content(page: int) -> bytes:
    """What every client puts under a page: content follows from the key, as in a cache."""
    return f"page {page} ".encode() * (page + 1)


def is_page(chunk: ChunkId) -> bool:
    """The chunk is only PUT, removed and read."""
    return chunk[0] >= 0x80
