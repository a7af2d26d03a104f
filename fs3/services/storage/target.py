"""One target: the replication machine, the chunk store, and the asyncio around them.

Whatever happens becomes an event in the inbox. Once per turn of the loop the inbox is drained, the machine is stepped over all of
it, and the effects are carried out in their order; nothing here waits, results come back as further events. Staging gathers in
the store, forwards of one turn leave together, and one alarm is set to the machine's next deadline.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Protocol

from fs3.base.errors import FS3Error, error
from fs3.base.ids import ChunkId, TargetId, is_page
from fs3.base.status import Code
from fs3.core.craq.effects import AnswerUpdate, Commit, DropPending, Effect, FillDone, Forward, Stage
from fs3.core.craq.events import (
    BirthStored,
    ChainChanged,
    DropDone,
    Event,
    FillRequested,
    ForwardDone,
    StageDone,
    StoreOpened,
    Tick,
    UpdateReceived,
)
from fs3.core.craq.replica import Replica
from fs3.core.craq.resync.steps import Fill
from fs3.model.chain import Chain, LocalState
from fs3.model.chunk import PayloadHandle, Tag, Update, UpdateKind, UpdateResult
from fs3.ports.chunk_store import ChunkStore, StoreDamaged
from fs3.runtime.alarm import Alarm
from fs3.services.storage.forwarding.forwarder import Forwarder
from fs3.services.storage.forwarding.pushes import PushBuffer, PushedBlocks
from fs3.services.storage.node_context import NodeContext
from fs3.services.storage.resync.scheduler import ResyncScheduler
from fs3.services.storage.resync.source import ResyncSource
from fs3.services.storage.staging import Staging
from fs3.services.storage.target_gate import TargetGate
from fs3.services.storage.withdrawal import SpaceWithdrawal, Withdrawal
from fs3.wire.storage_push import Push

log = logging.getLogger("fs3.storage")

drain_events_max = 4096


class ResultSink(Protocol):
    """Gets the results of updates."""

    def answer(self, index: int, result: UpdateResult) -> None:
        """The result of the update that was submitted with this index; once."""
        ...


class PageKeeper(Protocol):
    """Keeps the KVCache pages of a target within their limits (`cache.keeper`)."""

    @property
    def has_file_limits(self) -> bool:
        """Updates of files are looked at as well as puts of pages."""
        ...

    @property
    def has_tokens(self) -> bool:
        """Answers are to be told (`on_answered`)."""
        ...

    def wants(self, update: Update, token: int) -> bool:
        """A client's update that is no removal has arrived. True: it is kept back, or was answered; False: it goes on."""
        ...

    def on_answered(self, token: int) -> None:
        """An update was answered, whichever."""
        ...

    def on_lost_removal(self, tag: Tag) -> None:
        """A client's removal of a page has arrived, because every copy of it is damaged or gone."""
        ...

    def before_commit(self, chunk: ChunkId) -> None:
        """A version of a page, or its removal, is about to be committed: `on_commit` follows in the same turn."""
        ...

    def on_commit(self, chunk: ChunkId, tag: Tag) -> None:
        """A version of a page, or its removal, was committed; `tag` of the update."""
        ...

    def on_position_changed(self) -> None:
        """The target has another place in its chain, or the chain another version."""
        ...

    def remove_lost(self, chunk: ChunkId) -> None:
        """No replica of the chain has the bytes of this page: if this target is the head, it removes it."""
        ...

    def note_reads(self, chunks: Sequence[bytes]) -> None:
        """Chunks of one request were read here; what is no page is passed over."""
        ...


class TargetShell:
    """Runs one target. Belongs to one event loop."""

    def __init__(
        self,
        target: TargetId,
        store: ChunkStore,
        context: NodeContext,
        scheduler: ResyncScheduler,
        *,
        incarnation: int,
        whole: bool = True,
        is_born: bool = True,
        incomplete: str = "",
    ) -> None:
        """`store` is open, and the shell closes it. `scheduler` is the one of the node. `incarnation` rises with every shell that
        is made for this target. `whole`: see `TargetNote`; `incomplete`: why it is not. `is_born`: the manager has stored that
        the target has been complete; else `on_birth_stored` says so later."""
        self.target = target
        self.store = store
        self.chain: Chain | None = None
        self.failure = ""
        """Why the target cannot work; "" while it can."""
        self.is_store_damaged = False
        """Its store is not what was written; the damage is that, and not the disk's."""
        self._machine = Replica(target, store, incarnation=incarnation)
        self._whole = whole
        self._is_born = is_born
        self._incomplete = incomplete or "its store was lost; the chain fills a new one"
        self._context = context
        self._clock = context.clock
        self._lease_until = context.lease_until
        self._loop = asyncio.get_running_loop()
        self._inbox: deque[Event] = deque()
        self._draining = False
        self._waiters: dict[int, tuple[ResultSink, int]] = {}
        self._next_token = 1
        self.cache: PageKeeper | None = None
        """Keeps the KVCache pages here within their limits; there once the target has been opened."""
        self.pushes = PushedBlocks(store, context.clock)
        self.staging = Staging(target, store, self.pushes, self)
        self._forwarder = Forwarder(target, store, context, self, incarnation)
        self.source = ResyncSource(target, store, context, scheduler, self)
        self._alarm = Alarm(self._on_alarm)
        self._closed = False
        self._broken = False
        """The machine has failed and is not stepped any more."""
        self.gate = TargetGate(target, store, context)
        """As of the last event; `read_gate` is what reads ask."""
        self._is_alone = False
        """The chain is this target alone: no other replica can refuse what this one should not accept any more."""
        self._space_withdrawal = SpaceWithdrawal()
        self._withdrawal = Withdrawal(target)

    def __repr__(self) -> str:
        return f"<TargetShell {self._machine.describe()}{' damaged' if self.failure else ''}>"

    # --- what the node asks ------------------------------------------------------------------------------------------

    @property
    def waiter_count(self) -> int:
        """Updates that are not answered yet."""
        return len(self._waiters)

    @property
    def _log_context(self) -> Mapping[str, int]:
        """What its lines are about."""
        return {"target": self.target, "chain": self.chain.id if self.chain is not None else 0}

    @property
    def replica(self) -> Replica:
        """The machine, to be asked and not to be stepped."""
        return self._machine

    @property
    def read_back_bytes(self) -> int:
        """In memory because they are sent on."""
        return self._forwarder.read_back_bytes

    def open(self, chain: Chain | None) -> None:
        """Begin: the chain the target is in, then what a crash may have left pending."""
        self.on_chain_changed(chain)
        self._post(StoreOpened(tuple(self.store.list_pending()), self._whole, self._is_born))

    def on_birth_stored(self) -> None:
        """The manager has stored that this target has been complete."""
        if not self._is_born:
            self._is_born = True
            self._post(BirthStored())

    def on_chain_changed(self, chain: Chain | None) -> None:
        """Newer routing. An older version of the chain is ignored."""
        if chain is not None and self.chain is not None and chain.id == self.chain.id and chain.version <= self.chain.version:
            return
        if chain is None and self.chain is None:
            return
        self.chain = chain
        self._is_alone = chain is not None and len(chain.live_slots()) == 1
        self.pushes.clear()
        self._forwarder.on_chain_changed(chain)
        self._post(ChainChanged(chain))

    def receive_push(self, push: Push, buffer: PushBuffer) -> None:
        """The predecessor has sent bytes ahead of their update: write them, and push them on. The caller drops `buffer`."""
        chain = self.chain
        predecessor = chain.predecessor(self.target) if chain is not None else None
        if self._closed or self.failure or chain is None or predecessor is None:
            buffer.fail(error(Code.NOT_SERVING, f"target {self.target} takes no pushes"))
        elif (push.chain_version, push.from_target) != (chain.version, predecessor.target):
            message = f"a push of target {push.from_target} under version {push.chain_version}, it is {chain.version}"
            buffer.fail(error(Code.WRONG_CHAIN_VERSION, message))
        elif (pushed := self.pushes.receive(push.from_target, push.number, push.reserve, buffer)) is None:
            buffer.fail(error(Code.BUSY, f"target {self.target} waits for {len(self.pushes)} updates already"))
        elif self._forwarder.push_sender.is_ready(len(buffer.data)) and (lent := buffer.lend()) is not None:
            pushed.onward = self._forwarder.push_sender.push(buffer.data, push.checksums, push.reserve, lent)

    def submit(self, update: Update, job: ResultSink, index: int) -> None:
        """An update of a client or of the predecessor; `job` gets its result."""
        token = self._next_token
        self._next_token = token + 1
        self._waiters[token] = (job, index)
        if self.failure:
            self._answer(token, UpdateResult(Code.DISK, message=f"target {self.target}: {self.failure}"))
        elif update.from_target:
            self._post(UpdateReceived(update, token))
        elif self._is_crowded_out(update):
            message = f"target {self.target} remembers too many clients; it forgets those that have not written for hours"
            self._answer(token, UpdateResult(Code.BUSY, message=message))
        else:
            cache = self.cache
            if update.is_of_lost_page and cache is not None:
                cache.on_lost_removal(update.tag)
            if (
                cache is None
                or update.kind is UpdateKind.REMOVE
                or not (is_page(update.chunk) or cache.has_file_limits)
                or not cache.wants(update, token)
            ):
                self.admit(update, token)

    def admit(self, update: Update, token: int, refusal: str = "") -> None:
        """An update is next for the machine. `refusal`: see `UpdateReceived`."""
        self._post(UpdateReceived(update, token, refusal))

    def answer_update(self, token: int, result: UpdateResult) -> None:
        """Answer one that the machine does not get."""
        self._answer(token, result)

    def _is_crowded_out(self, update: Update) -> bool:
        """A client's update on a channel of which nothing is remembered, when there is no room to remember more."""
        tag = update.tag
        if not tag.client or self.store.channel_room > 0:
            return False
        return self.store.get_channel(tag.client, tag.channel) is None

    def lease_until(self) -> int:
        """This target may serve before this moment, in monotonic nanoseconds."""
        return self._lease_until(self.target)

    def read_gate(self, chain_version: int, now: int) -> tuple[Code, bool]:
        """What holds for every read of this moment: (`reads.gate`: OK or why none is served, `reads.pending_is_dirty`)."""
        self._show_gate()
        return self.gate.answer(chain_version, now)

    def _show_gate(self) -> None:
        """The gate is what follows from everything else by now."""
        self.gate.set_chain(None if self.failure or self._withdrawal.reason else self._machine.readable_chain)

    def local_state(self) -> LocalState | None:
        """What the manager is told; None: nothing yet."""
        if self.failure:
            return LocalState.OFFLINE
        if self._withdrawal.is_active(self._clock.now(), self._machine.chain):
            return LocalState.OFFLINE
        if self._space_withdrawal.is_active(self.store):
            return LocalState.OFFLINE
        return self._machine.local_state

    @property
    def reason(self) -> str:
        """Why it is not what it should be, for people; "" when it is."""
        found = self.failure or self._withdrawal.reason or self._space_withdrawal.reason
        if found:
            return found
        if not self._machine.completeness.whole:
            return self._incomplete
        if self.staging.refusal:
            return self.staging.refusal
        if self.unreachable_successor:
            return f"it cannot reach target {self.unreachable_successor}, its successor in the chain"
        return self.source.progress.reason

    @property
    def unreachable_successor(self) -> TargetId:
        """The successor, when it cannot be reached under the chain version that is reported to the manager; 0: none."""
        return self._forwarder.unreachable_successor if self.chain is self._machine.chain else TargetId(0)

    def leave_chain(self, why: str) -> bool:
        """Let the chain go on without this target, which then comes back and is brought up to date. False: it cannot leave."""
        if self._withdrawal.reason:
            return True
        return not self.failure and self._announce_withdrawal(self._withdrawal.begin(self._machine.chain, why))

    def on_leave_request(self, chain_version: int, *, is_replaced: bool = False) -> None:
        """The manager asks this target to leave, because another one serves in its place or a link within the chain carries
        nothing. Harmless when it cannot."""
        chain = self._machine.chain
        if self.failure or self._withdrawal.reason:
            return
        if not is_replaced:
            now = self._clock.now()
            does = self._withdrawal.begin_on_request(now, chain, chain_version, self.unreachable_successor)
            self._announce_withdrawal(does)
        elif chain is not None and chain.version == chain_version:
            self._announce_withdrawal(self._withdrawal.begin(chain, "another target takes its place"))

    def _announce_withdrawal(self, does: bool) -> bool:
        if does:
            self._show_gate()
            reason = self._withdrawal.reason
            log.warning("target %d leaves its chain for a while: %s", self.target, reason, extra=self._log_context)
            self._context.on_target_changed()
        return does

    def prepare_stop(self) -> None:
        """The node stops on purpose, and what is under way is finished first: alone or not, the target may answer it."""
        self._is_alone = False

    async def close(self) -> None:
        """Stop: what is being staged is finished, nothing further begins; then the store is closed, which flushes it."""
        self._answer_all(UpdateResult(Code.SHUTTING_DOWN, message=f"target {self.target} stops"))
        await self._end()
        self.staging.drop_all()
        await self.store.close()

    async def abort(self) -> None:
        """As `close`, but what is under way is not answered: for a process that is taken for killed."""
        await self._end()
        await self.store.close()

    async def _end(self) -> None:
        self._closed = True
        self.gate.close()
        self._alarm.cancel()
        self.source.close()
        await self._forwarder.close()
        await self.pushes.close()
        await self.staging.join()

    def fail(self, failure: Exception) -> None:
        """Something that uses the store of this target found that it cannot go on."""
        if not self.failure:
            self._stop_machine(failure)

    # --- what its parts tell it --------------------------------------------------------------------------------------

    def on_staged(self, dones: Sequence[StageDone]) -> None:
        """See `StagingOwner`. The machine hears of it in this turn."""
        for done in dones:
            if self._closed or self._broken:
                self.staging.drop(done.chunk)
            else:
                self._inbox.append(done)
            if done.code is not Code.OK:
                self._on_not_staged(done)
        if not self._draining:
            self._drain()

    def _on_not_staged(self, done: StageDone) -> None:
        self._forwarder.push_sender.take(done.chunk, done.version)
        if done.code is Code.DISK and not self.failure:
            self._go_offline(done.message or "the disk failed")
        elif done.code is Code.NO_SPACE and not self._machine.position.serves and not self._space_withdrawal.reason:
            # No client waits for this target, and it cannot be brought up to date: let the chain forget it until there is room.
            self._space_withdrawal.begin(self.store, done.message)
            self._context.on_target_changed()

    def on_dropped(self, done: DropDone) -> None:
        """See `StagingOwner`."""
        self._post(done)

    def on_drop_failed(self, failure: Exception) -> None:
        """See `StagingOwner`."""
        self._go_offline(f"a refused update could not be forgotten: {failure}")

    def on_forward_done(self, done: ForwardDone) -> None:
        """See `ForwarderOwner`."""
        self._post(done)

    def on_forwards_done(self, dones: Sequence[ForwardDone]) -> None:
        """See `ForwarderOwner`. The machine hears of them in this turn."""
        if not (self._closed or self._broken):
            self._inbox.extend(dones)
            if not self._draining:
                self._drain()

    def on_pending_unreadable(self, chunk: ChunkId, why: str) -> None:
        """See `ForwarderOwner`. The chunk would be held up for ever. The other targets have the version too, or it was never
        acknowledged: let them go on without this target, which then comes back and is brought up to date."""
        self.leave_chain(f"pending version of chunk {chunk.hex()}: {why}")

    def on_reachability_changed(self) -> None:
        """See `ForwarderOwner`."""
        self._context.on_target_changed()

    def ask_fill(self, fill: Fill) -> None:
        """See `ResyncOwner`."""
        self._post(FillRequested(fill.chunk, fill.chain_version, fill.damaged_version))

    def on_successor_request(self) -> None:
        """See `ResyncOwner`."""
        self._forwarder.on_successor_request()

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
        lanes = machine.flights.lanes
        staged: PayloadHandle | None = None
        try:
            for _ in range(min(len(inbox), drain_events_max)):
                event = inbox.popleft()
                kind = type(event)
                if kind is UpdateReceived and event.update.chunk in lanes and not self._park_or_refuse(event):  # type: ignore[union-attr,arg-type]
                    continue
                # Taken before the step: it may stage the next update of the same chunk, which then has the place.
                staged = self.staging.take(event.chunk) if kind is StageDone else None  # type: ignore[union-attr]
                # Effects of one step before the next one: the machine looks at the store, which must show its commits.
                effects = machine.step(now, event)
                is_of_chain = kind is ChainChanged or kind is StoreOpened or kind is BirthStored
                if is_of_chain:
                    self._show_gate()
                for effect in effects:
                    self._carry_out(effect)
                if staged is not None:
                    # The machine has decided what follows the stage: whatever still needs the bytes has them now.
                    payload, staged = staged, None
                    payload.drop()
                if is_of_chain:
                    self._withdrawal.on_chain_changed(now, machine.chain)
                    self.source.on_position_changed(machine.chain, machine.position)
                    if self.cache is not None:
                        self.cache.on_position_changed()
                    self._context.on_target_changed()
            machine.check()
            self.staging.flush()
        except Exception as failure:
            # A damaged index row, or a mistake in the machine: what it would do next cannot be trusted.
            if staged is not None:
                staged.drop()
            self.staging.flush()
            self._stop_machine(failure)
            return
        self._forwarder.flush()
        if inbox and not self._draining:
            self._draining = True
            self._loop.call_soon(self._drain)
        self._alarm.set(machine.next_deadline(), now)

    def _carry_out(self, effect: Effect) -> None:
        kind = type(effect)
        if kind is AnswerUpdate:
            self._answer(effect.token, effect.result)  # type: ignore[union-attr]
        elif kind is Commit:
            self._commit(effect)  # type: ignore[arg-type]
        elif kind is Stage:
            self.staging.stage(effect.update)  # type: ignore[union-attr]
            self._forwarder.push(effect.update)  # type: ignore[union-attr]
        elif kind is Forward:
            self._forwarder.forward(effect)  # type: ignore[arg-type]
        elif isinstance(effect, DropPending):
            self.staging.drop_pending(effect)
        elif isinstance(effect, FillDone):
            self.source.feed(effect)

    def _commit(self, effect: Commit) -> None:
        cache = self.cache if is_page(effect.chunk) else None
        if cache is not None:
            cache.before_commit(effect.chunk)
        self.store.commit(effect.chunk, effect.version, effect.tag, effect.result)
        if cache is not None:
            cache.on_commit(effect.chunk, effect.tag)

    def _answer(self, token: int, result: UpdateResult) -> None:
        if result.code is Code.DISK and self.failure and self.chain is not None and len(self.chain.serving_slots()) > 1:
            # The chain will go on without this target: asking again is better than giving up.
            result = UpdateResult(Code.NOT_SERVING, message=result.message)
        elif self._is_alone and result.code is Code.OK and self._clock.now() >= self.lease_until():
            # No other target has it under the present chain version, so none vouches for that version still being the present
            # one. It is applied, and the client that asks again is told so once there is a lease; or the chain has gone on.
            result = UpdateResult(Code.LEASE, message=f"target {self.target} may have lost its lease")
        cache = self.cache
        if cache is not None and cache.has_tokens:
            cache.on_answered(token)
        job, index = self._waiters.pop(token)
        job.answer(index, result)

    def _park_or_refuse(self, event: UpdateReceived) -> bool:
        """The chunk is busy: whether an update may wait for it with its bytes. Answers BUSY when not."""
        payload = event.update.payload
        if payload is None or payload.park():
            return True
        message = f"target {self.target}: chunk {event.update.chunk.hex()} is busy, and too much waits already"
        self._answer(event.token, UpdateResult(Code.BUSY, message=message))
        return False

    def _stop_machine(self, failure: Exception) -> None:
        """The machine must not be stepped any more."""
        self._broken = True
        if isinstance(failure, FS3Error):
            self.is_store_damaged = isinstance(failure, StoreDamaged)
            self._go_offline(str(failure))
        else:
            log.error("target %d: its replication machine failed", self.target, exc_info=failure, extra=self._log_context)
            self._go_offline(f"internal error: {type(failure).__name__}: {failure}")

    def _go_offline(self, reason: str) -> None:
        """The target cannot go on: tell the manager, which lets the chain go on without it."""
        self.failure = reason
        self._show_gate()
        log.error("target %d is offline: %s", self.target, reason, extra=self._log_context)
        if self._broken:
            # What is still being staged drops its bytes when the store is done with them (`on_staged`).
            for event in self._inbox:
                if type(event) is StageDone:
                    self.staging.drop(event.chunk)
            self._answer_all(UpdateResult(Code.DISK, message=f"target {self.target}: {reason}"))
        self._context.on_target_changed()

    def _answer_all(self, result: UpdateResult) -> None:
        for token in list(self._waiters):
            self._answer(token, result)

    def _on_alarm(self) -> None:
        self._post(Tick())
