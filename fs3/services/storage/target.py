"""One target: the replication machine, the chunk store, and the asyncio around them.

Whatever happens becomes an event in the inbox. Once per turn of the loop the inbox is drained, the machine is stepped over all of
it, and the effects are carried out in their order; nothing here waits, results come back as further events. Staging gathers in
the store, forwards of one turn leave together, and one timer is armed for the machine's next deadline.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from fs3.base.checksum import coarser
from fs3.base.errors import FS3Error
from fs3.base.ids import ChunkId, NodeId, TargetId
from fs3.base.limits import drain_events_max, fill_bytes_max
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.core.craq.effects import Commit, DropPending, Effect, Forward, Reply, Stage
from fs3.core.craq.events import Acked, ChainChanged, Event, Opened, Staged, Tick, UpdateReceived
from fs3.core.craq.reads import decide
from fs3.core.craq.replica import Replica
from fs3.model.chain import Chain, LocalState, PublicState
from fs3.model.chunk import ChunkMeta, Update, UpdateResult
from fs3.ports.chunk_store import ChunkStore, ReadResult
from fs3.ports.clock import Clock
from fs3.ports.rpc import Channel
from fs3.services.storage.forward import PeerLane
from fs3.services.storage.updates import Payloads, UpdateJob

log = logging.getLogger("fs3.storage")

_CLEAN = ChunkMeta(1, 0, 1, 0, 0)
"""A chunk with which nothing is the matter: what `decide` says about it, it says because of chain, target or lease."""


class TargetShell:
    """Runs one target. Belongs to one event loop."""

    def __init__(
        self,
        target: TargetId,
        store: ChunkStore,
        clock: Clock,
        payloads: Payloads,
        channel: Callable[[NodeId], Channel],
        changed: Callable[[], None],
        *,
        incarnation: int,
    ) -> None:
        """`channel` reaches a node or raises FS3Error; `changed` is called when the state reported to the manager has changed."""
        self.target = target
        self.store = store
        self.chain: Chain | None = None
        self.damage = ""
        """Why the target cannot work; "" while it can."""
        self._machine = Replica(target, store, incarnation=incarnation)
        self._clock = clock
        self._payloads = payloads
        self._channel = channel
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._inbox: deque[Event] = deque()
        self._draining = False
        self._askers: dict[int, tuple[UpdateJob, int]] = {}
        self._next_token = 1
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._staging: dict[ChunkId, tuple[UpdateJob, int]] = {}
        """Whose bytes the store is working on."""
        self._lane: PeerLane | None = None
        self._fills: deque[Forward] = deque()
        self._fill_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0
        self._closed = False
        self._broken = False
        """The machine has failed and is not stepped any more."""
        self._gate_chain: Chain | None = None
        self._dirty_counts = False

    def __repr__(self) -> str:
        return f"<TargetShell {self._machine.describe()}{' damaged' if self.damage else ''}>"

    # --- what the node asks ------------------------------------------------------------------------------------------

    @property
    def busy(self) -> int:
        """Updates that are not answered yet."""
        return len(self._askers)

    def open(self, chain: Chain | None) -> None:
        """Begin: the chain the target is in, then what a crash may have left pending."""
        self.chain_changed(chain)
        self._post(Opened(tuple(self.store.pending())))

    def chain_changed(self, chain: Chain | None) -> None:
        """Newer routing. An older version of the chain is ignored."""
        if chain is not None and self.chain is not None and chain.id == self.chain.id and chain.version <= self.chain.version:
            return
        if chain is None and self.chain is None:
            return
        self.chain = chain
        lane = self._lane
        if lane is not None:
            successor = chain.successor(self.target) if chain is not None else None
            if successor is None or (successor.target, successor.node) != (lane.target, lane.node):
                self._lane = None
                lane.close()
        self._post(ChainChanged(chain))

    def submit(self, update: Update, job: UpdateJob, index: int) -> None:
        """An update of a client or of the predecessor; `job` gets its result."""
        token = self._next_token
        self._next_token = token + 1
        self._askers[token] = (job, index)
        if self.damage:
            self._answer(token, UpdateResult(Code.DISK, message=f"target {self.target}: {self.damage}"))
            return
        self._post(UpdateReceived(update, token))

    def read_gate(self, chain_version: int, now: int, lease_until: int) -> tuple[Code, bool]:
        """What `reads.decide` says to every read of this moment: (OK or why none is served, whether pending means DIRTY)."""
        if self.damage:
            return Code.NOT_SERVING, False
        chain = self._machine.readable_chain
        if chain is not self._gate_chain:
            self._gate_chain = chain
            self._dirty_counts = chain is not None and chain.successor(self.target) is not None
        return decide(_CLEAN, chain, self.target, chain_version, now, lease_until), self._dirty_counts

    def local_state(self) -> LocalState:
        """What the manager is told: UPTODATE only for a target that has everything it ever acknowledged."""
        if self.damage:
            return LocalState.OFFLINE
        slot = self.chain.slot(self.target) if self.chain is not None else None
        complete = slot is not None and slot.state in (PublicState.SERVING, PublicState.LASTSRV)
        return LocalState.UPTODATE if complete else LocalState.ONLINE

    async def close(self) -> None:
        """Stop: what is being staged is finished, nothing further begins; then the store is closed, which flushes it."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._lane is not None:
            self._lane.close()
        self._answer_all(UpdateResult(Code.SHUTTING_DOWN, message=f"target {self.target} stops"))
        await asyncio.gather(*self._tasks, return_exceptions=True)
        staging, self._staging = self._staging, {}
        for owner in staging.values():
            _let_go(owner)
        await self.store.close()

    # --- the machine -------------------------------------------------------------------------------------------------

    def _post(self, event: Event) -> None:
        if self._closed or self._broken:
            return
        self._inbox.append(event)
        if not self._draining:
            self._draining = True
            self._loop.call_soon(self._drain)

    def _drain(self) -> None:
        self._draining = False
        if self._closed or self._broken:
            return
        machine = self._machine
        now = self._clock.now()
        inbox = self._inbox
        staged: tuple[UpdateJob, int] | None = None
        try:
            for _ in range(min(len(inbox), drain_events_max)):
                event = inbox.popleft()
                if type(event) is UpdateReceived and event.update.chunk in machine.lanes and not self._may_wait(event):
                    continue
                # Taken before the step: it may stage the next update of the same chunk, which then has the place.
                staged = self._staging.pop(event.chunk, None) if type(event) is Staged else None
                # Effects of one step before the next one: the machine looks at the store, which must show its commits.
                for effect in machine.step(now, event):
                    self._carry_out(effect)
                if staged is not None:
                    owner, staged = staged, None
                    _let_go(owner)
            machine.check()
        except Exception as failure:
            # A damaged index row, or a mistake in the machine: what it would do next cannot be trusted.
            log.exception("target %d: its replication machine failed", self.target)
            self._broken = True
            if staged is not None:
                _let_go(staged)
            self._fail(str(failure) if isinstance(failure, FS3Error) else f"internal error: {type(failure).__name__}: {failure}")
            return
        if self._lane is not None:
            self._lane.flush()
        if inbox and not self._draining:
            self._draining = True
            self._loop.call_soon(self._drain)
        self._arm(now)

    def _carry_out(self, effect: Effect) -> None:
        if type(effect) is Reply:
            self._answer(effect.token, effect.result)
        elif type(effect) is Commit:
            self.store.commit(effect.chunk, effect.version, effect.tag, effect.result)
        elif type(effect) is Stage:
            self._stage(effect.update)
        elif type(effect) is Forward:
            self._forward(effect)
        elif type(effect) is DropPending:
            self.store.drop_pending(effect.chunk)

    def _answer(self, token: int, result: UpdateResult) -> None:
        if result.code is Code.DISK and self.damage and self.chain is not None and len(self.chain.serving()) > 1:
            # The chain will go on without this target: asking again is better than giving up.
            result = UpdateResult(Code.NOT_SERVING, message=result.message)
        job, index = self._askers.pop(token)
        job.answer(index, result)

    def _may_wait(self, event: UpdateReceived) -> bool:
        """The chunk is busy: whether an update may wait for it with its bytes. Answers BUSY when not."""
        job, index = self._askers[event.token]
        if self._payloads.park(job, index):
            return True
        message = f"target {self.target}: chunk {event.update.chunk.hex()} is busy, and too much waits already"
        self._answer(event.token, UpdateResult(Code.BUSY, message=message))
        return False

    def _stage(self, update: Update) -> None:
        owner = self._payloads.owner(update)
        if owner is not None:
            job, index = owner
            if index in job.parked:
                self._payloads.unpark(job, index)
            job.hold()
            self._staging[update.chunk] = owner
        self._run(self._stage_now(update))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)

    async def _stage_now(self, update: Update) -> None:
        try:
            done = await self.store.stage(update, update.version, update.chain_version)
            staged = Staged(update.chunk, update.version, done.code, done.length, done.checksum, done.message)
        except Exception as failure:
            log.exception("target %d: staging chunk %s failed", self.target, update.chunk.hex())
            staged = Staged(update.chunk, update.version, Code.DISK, 0, 0, f"target {self.target}: {failure}")
        self._post(staged)
        if (self._closed or self._broken) and (owner := self._staging.pop(update.chunk, None)) is not None:
            _let_go(owner)
        if staged.code is Code.DISK and not self.damage:
            self._fail(staged.message or "the disk failed")

    def _fail(self, reason: str) -> None:
        """The target cannot go on: tell the manager, which lets the chain go on without it."""
        self.damage = reason
        log.error("target %d is offline: %s", self.target, reason)
        if self._broken:
            # What is still being staged lets go of its bytes when the store is done with them.
            for event in self._inbox:
                if type(event) is Staged and (owner := self._staging.pop(event.chunk, None)) is not None:
                    _let_go(owner)
            self._answer_all(UpdateResult(Code.DISK, message=f"target {self.target}: {reason}"))
        self._changed()

    def _answer_all(self, result: UpdateResult) -> None:
        for token in list(self._askers):
            self._answer(token, result)

    def _arm(self, now: int) -> None:
        """One timer. One that is armed for earlier than needed is left alone: when it fires, nothing is due yet."""
        due = self._machine.next_deadline()
        if due is None or (self._timer is not None and self._timer_at <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = self._loop.call_later(max(0, due - now) / SECOND, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._post(Tick())

    # --- forwarding --------------------------------------------------------------------------------------------------

    def _forward(self, effect: Forward) -> None:
        update = effect.update
        lane = self._lane
        if lane is None or lane.target != effect.target:
            slot = self.chain.slot(effect.target) if self.chain is not None else None
            if slot is None:
                # The chain has changed since; the machine will hear of it next and send again.
                self._post(Acked(update.chunk, update.version, effect.attempt, UpdateResult(Code.NOT_SERVING)))
                return
            if lane is not None:
                lane.close()
            lane = self._lane = PeerLane(self.target, slot.target, slot.node, self._channel, self._post)
        if not update.length:
            lane.put(update, effect.attempt, (), _nothing)
        elif update.data is not None and (give_back := self._payloads.lend(update)) is not None:
            lane.put(update, effect.attempt, (update.data,), give_back)
        else:
            self._fills.append(effect)
            self._read_fills()

    def _read_fills(self) -> None:
        """Read back what cannot be sent from a request's buffer, as much at once as may be in memory."""
        while self._fills and (not self._fill_bytes or self._fill_bytes + self._fills[0].update.length <= fill_bytes_max):
            effect = self._fills.popleft()
            self._fill_bytes += effect.update.length
            self._run(self._fill(effect))

    async def _fill(self, effect: Forward) -> None:
        """Forward an update with the bytes that the pending version has in its range."""
        update = effect.update
        try:
            found = await self.store.read_cold(update.chunk, update.offset, update.length, pending=True)
        except FS3Error as failure:
            found = ReadResult(failure.code, message=failure.strerror or "")
        except Exception as failure:
            log.exception("target %d: reading the pending version of chunk %s failed", self.target, update.chunk.hex())
            found = ReadResult(Code.DISK, message=str(failure))

        def release() -> None:
            if found.pin:
                self.store.release(found.pin)
            self._fill_bytes -= update.length
            self._read_fills()

        lane = self._lane
        code = found.code
        if code is Code.OK and (found.version != update.version or found.length != update.length):
            code = Code.NOT_FOUND
        elif code is Code.OK and (lane is None or lane.target != effect.target):
            code = Code.NOT_SERVING
        elif code is Code.OK and lane is not None:
            if not update.checksums:
                sums = coarser(found.checksums, update.offset, update.length, found.piece_bytes)
                update = msgspec.structs.replace(update, checksums=tuple(sums))
            lane.put(update, effect.attempt, found.parts, release)
            lane.flush()
            return
        release()
        self._post(Acked(update.chunk, update.version, effect.attempt, UpdateResult(code, message=found.message)))


def _nothing() -> None:
    """There are no bytes to give back."""


def _let_go(owner: tuple[UpdateJob, int]) -> None:
    """The machine has decided what follows a stage: whatever still needs the bytes has them now."""
    job, index = owner
    job.staged(index)
    job.drop()
