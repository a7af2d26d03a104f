"""The shell of one simulated target: carries out what its machines want, on a simulated disk and network.

It is what `services/storage` is in a real process, without asyncio: an inbox of messages, a disk that makes batches durable one
barrier at a time, a timer. A crash drops everything that is not in the store. Who tells the manager about it is `node_model`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from fs3.base.ids import TargetId
from fs3.base.status import Code
from fs3.core.craq import invariants
from fs3.core.craq.effects import AnswerUpdate, Commit, DropPending, Effect, FillDone, Forward, Stage
from fs3.core.craq.events import (
    BirthStored,
    ChainChanged,
    DropDone,
    Event,
    ForwardDone,
    StageDone,
    StoreOpened,
    Tick,
    UpdateReceived,
)
from fs3.core.craq.flights import Flights
from fs3.core.craq.lanes import ReplicaLimits
from fs3.core.craq.position import ChainRole
from fs3.core.craq.reads import answer, gate, pending_is_dirty
from fs3.core.craq.replica import Replica
from fs3.core.craq.resync.machine import Resync
from fs3.core.craq.resync.plan import ResyncLimits
from fs3.core.craq.resync.steps import ResyncEffect, ResyncEvent
from fs3.drivers.memory.unsynced import BarrierMark, Loss
from fs3.model.chain import Chain, LocalState, PublicState
from fs3.model.chunk import ChunkMeta, Update, UpdateKind, UpdateResult
from fs3.model.generation import GENERATION_TOKEN_BYTES
from fs3.sim.checkers.leases import HeadClaim
from fs3.sim.ring1.chunks import SimChunks
from fs3.sim.ring1.messages import (
    ChainNotice,
    Message,
    ResyncCall,
    ResyncReply,
    SimReadAnswer,
    SimReadCall,
    SimUpdateAnswer,
    SimUpdateCall,
)
from fs3.sim.ring1.resync_host import MergeJob, Repairs, ResyncHost

Gate = Callable[[Chain | None, TargetId, int, int, int], Code]
Answer = Callable[[ChunkMeta | None, bool], Code]
NOTHING_LOST = Loss()
Job = Stage | DropPending | MergeJob
"""What a barrier carries."""


class HostEnvironment(Protocol):
    """What a host finds around it."""

    def clock(self, host: TargetHost) -> int:
        """The monotonic clock of the host, nanoseconds; hosts' clocks do not run alike."""
        ...

    def send(self, source: int, target: int, message: Message) -> None:
        """Put a message on its way."""
        ...

    def on_store_opening(self, host: TargetHost) -> None:
        """The store of a starting target is looked through; call `host.open()` when that is done, unless it has died."""
        ...

    def on_barrier_begin(self, host: TargetHost) -> None:
        """A barrier begins; call `host.finish_barrier()` when it is on the disk, unless the host has died."""
        ...

    def call_at(self, host: TargetHost, due_ns: int, action: Callable[..., None], *arguments: Any) -> None:
        """Call back at a time of the host's clock, unless it has died."""
        ...

    def record(self, host: TargetHost, event: Event | ResyncEvent | str, effects: list[Effect] | list[ResyncEffect]) -> None:
        """Something happened: for traces and fingerprints."""
        ...

    def on_resync_finished(self, host: TargetHost) -> None:
        """The target has been brought up to date: the manager is to be told at once."""
        ...

    def on_acknowledged(self, update: Update) -> None:
        """A client is answered OK; the answer has not left yet. For checkers."""
        ...

    def on_admitted(self) -> None:
        """An update of a client is let in. For checkers."""
        ...


@dataclass(frozen=True)
class Parts:
    """What hosts are made of, so that a planted bug can exchange a part."""

    replica: type[Replica] = Replica
    flights: type[Flights] = Flights
    chunks: type[SimChunks] = SimChunks
    gate: Gate = gate
    answer: Answer = answer
    tells_pending: bool = True
    """The store's pending versions are told to the replica when it starts."""
    resync: type[Resync] = Resync
    host: type[ResyncHost] = ResyncHost
    node: Any = None
    """Class in place of `node_model.NodeModel`."""
    manager: Any = None
    """Class in place of `fs3.core.membership.manager.Manager`."""


@dataclass(frozen=True)
class DirectoryCopy:
    """A copy of what is on the disks of a node."""

    chunks: SimChunks
    incarnation: int


class TargetHost:
    """One target: its store, which survives a crash, and its machines, which do not."""

    def __init__(
        self,
        target: TargetId,
        env: HostEnvironment,
        limits: ReplicaLimits,
        parts: Parts,
        resync_limits: ResyncLimits,
        query_timeout_ns: int,
    ) -> None:
        self.target = target
        self.env = env
        self.limits = limits
        self.parts = parts
        self.resync_limits = resync_limits
        self.query_timeout_ns = query_timeout_ns
        self.chunks = parts.chunks()
        self.up = False
        self.process = 0
        """Rises with every start. What was sent to an earlier process is gone with it."""
        self.incarnation = 0
        """As noted on the node's disk."""
        self.knows_itself = True
        """The node's disk says who it is."""
        self.keeps_generations = False
        """It notes the generations of its directory, and tells the manager."""
        self._tokens_drawn = 0
        self.lease_until_ns = 0
        """By its own clock."""
        self._is_born = False
        self.out_of_room = False
        """It found no room for what it was brought up to date with."""
        self._reset()

    def _reset(self) -> None:
        self.replica = self.parts.replica(
            self.target, self.chunks, incarnation=self.incarnation, limits=self.limits, flights=self.parts.flights
        )
        self.resync = self.parts.host(self, self.parts.resync(self.target, self.chunks, self.resync_limits))
        self.repairs = Repairs(self)
        self._tokens: dict[int, tuple[int, SimUpdateCall]] = {}
        self._token = 0
        self._queue: deque[Event] = deque()
        self._is_feeding = False
        self._jobs: list[Job] = []
        self._barrier: tuple[BarrierMark, list[Job]] | None = None
        self._armed_ns = 0
        self._checks = 0

    def start(self) -> None:
        """The process starts; what it is to become it learns from `begin`."""
        assert not self.up
        self.up = True
        self.process += 1
        self.incarnation += 1
        self.lease_until_ns = 0
        self._reset()

    def begin(self, incarnation: int, *, is_born: bool = False) -> None:
        """It may take its place once it has heard of the chain. `is_born`: the manager has stored that it was complete once."""
        self.incarnation = incarnation
        self.knows_itself = True
        self._is_born = is_born
        if self.chunks.is_new:
            self.chunks.is_new = False
            self.chunks.whole = not is_born
        self._reset()

    def crash(self, loss: Loss = NOTHING_LOST, *, barrier_done: bool = False) -> None:
        """The process is killed; the disk keeps what it must and loses what is told. `barrier_done`: what the disk was working on
        is durable, though its answers were never given."""
        assert self.up
        self.up = False
        if barrier_done and self._barrier is not None:
            mark, jobs = self._barrier
            self.chunks.end_barrier(mark)
            for job in jobs:
                self._do(job)
        self.chunks.crash(loss)

    def replace_disk(self, *, node_too: bool) -> None:
        """The disk is lost and replaced by an empty one; `node_too`: and the one that says who the node is."""
        assert not self.up
        self.chunks = self.parts.chunks(is_new=True)
        if node_too:
            self.knows_itself = False

    def draw_token(self) -> bytes:
        """Never the same again, whatever is put back."""
        self._tokens_drawn += 1
        return self._tokens_drawn.to_bytes(GENERATION_TOKEN_BYTES, "big")

    def copy_directory(self) -> DirectoryCopy:
        """What is on the disks of the node, which is down."""
        assert not self.up
        return DirectoryCopy(self.chunks.duplicate(), self.incarnation)

    def put_back(self, copy: DirectoryCopy) -> None:
        """A copy takes the place of what is on the disks of the node, which is down."""
        assert not self.up
        self.chunks = copy.chunks.duplicate()
        self.chunks.is_restored = True
        self.incarnation = copy.incarnation

    @property
    def is_idle(self) -> bool:
        """Nothing is under way and nobody waits for an answer."""
        busy = self.replica.flights.lanes or self._tokens or self._jobs or self._barrier is not None
        return not busy and self.resync.is_idle

    @property
    def clock(self) -> int:
        """Nanoseconds by its own clock."""
        return self.env.clock(self)

    @property
    def chain(self) -> Chain | None:
        """The newest it has heard of."""
        return self.replica.chain

    @property
    def local_state(self) -> LocalState | None:
        """What the manager is to be told; None: nothing yet."""
        if self.out_of_room and self.chunks.is_full:
            return LocalState.OFFLINE
        return self.replica.local_state

    def claim_head(self) -> HeadClaim | None:
        """What to check when it would admit a client's update now."""
        at = self.replica.position
        if self.up and at.role is ChainRole.HEAD and self.clock < self.lease_until_ns:
            return HeadClaim(at.chain, self.target, at.version)
        return None

    # --- messages ----------------------------------------------------------------------------------------------------

    def receive(self, source: int, message: Message) -> None:
        """A message arrives."""
        if isinstance(message, SimUpdateCall):
            self._update(source, message)
        elif isinstance(message, SimUpdateAnswer):
            self.feed(ForwardDone(message.chunk, message.version, message.call, message.result))
        elif isinstance(message, SimReadCall):
            self.env.send(self.target, source, self.read(message))
        elif isinstance(message, SimReadAnswer):
            self.repairs.take(message)
        elif isinstance(message, ResyncCall):
            self.resync.serve(source, message)
        elif isinstance(message, ResyncReply):
            self.resync.on_answer(message)
        elif isinstance(message, ChainNotice):
            self._learn(message.chain)
        else:
            raise AssertionError(f"a target got {message}")

    def _learn(self, chain: Chain) -> None:
        if self.replica.chain is None:
            self.env.on_store_opening(self)
        self.feed(ChainChanged(chain))

    def open(self) -> None:
        """The store has been looked through."""
        pending = tuple(self.chunks.list_pending()) if self.parts.tells_pending else ()
        self.feed(StoreOpened(pending, self.chunks.whole, self._is_born))

    def on_birth_stored(self) -> None:
        """The manager has stored that this target has been complete."""
        if not self._is_born:
            self._is_born = True
            self.feed(BirthStored())

    def _update(self, source: int, message: SimUpdateCall) -> None:
        if not message.update.from_target:
            if self.clock >= self.lease_until_ns:
                result = UpdateResult(Code.LEASE, message=f"target {self.target} has no lease")
                self.env.send(self.target, source, SimUpdateAnswer(message.call, message.update.chunk, 0, result))
                return
            self.env.on_admitted()
        self._token += 1
        self._tokens[self._token] = (source, message)
        self.feed(UpdateReceived(message.update, self._token))

    def read(self, message: SimReadCall) -> SimReadAnswer:
        """Serve a read, or say why not."""
        chain = self.replica.readable_chain
        code = self.parts.gate(chain, self.target, message.chain_version, self.clock, self.lease_until_ns)
        if code is Code.OK:
            code = self.parts.answer(self.chunks.get(message.chunk), pending_is_dirty(chain, self.target))
        if code is Code.OK and not self.chunks.verify(message.chunk):
            code = Code.CHECKSUM
        if code is not Code.OK:
            return SimReadAnswer(message.call, code)
        version, content = self.chunks.read(message.chunk)
        return SimReadAnswer(message.call, Code.OK, version, content)

    # --- the machines ------------------------------------------------------------------------------------------------

    def feed(self, event: Event) -> None:
        """One step of the replica, and what it wants; then whatever that has led to."""
        self._queue.append(event)
        if self._is_feeding:
            return
        self._is_feeding = True
        while self._queue:
            self._step(self._queue.popleft())
        self._is_feeding = False
        self.replica.check()
        self._checks += 1
        if not self._checks % 8:
            invariants.check(self.replica, self.chunks.list_pending())
        self._begin_barrier()
        self.arm()

    def _step(self, event: Event) -> None:
        effects = self.replica.step(self.clock, event)
        for effect in effects:
            if isinstance(effect, Commit):
                self.chunks.commit(effect.chunk, effect.version, effect.tag, effect.result)
        self.env.record(self, event, effects)
        for effect in effects:
            if isinstance(effect, Stage | DropPending):
                self._jobs.append(effect)
            elif isinstance(effect, Forward):
                self._forward(effect)
            elif isinstance(effect, AnswerUpdate):
                self._reply(effect)
            elif isinstance(effect, FillDone):
                self.resync.feed(effect)
        if isinstance(event, ChainChanged | StoreOpened | BirthStored):
            self.resync.on_position_changed()

    def arm(self) -> None:
        """Have `tick` called when one of the machines wants it."""
        dues = [due for due in (self.replica.next_deadline(), self.resync.machine.next_deadline()) if due is not None]
        if dues and (not self._armed_ns or min(dues) < self._armed_ns):
            self._armed_ns = min(dues)
            self.env.call_at(self, self._armed_ns, self.tick, self._armed_ns)

    def tick(self, armed_ns: int) -> None:
        """A deadline has passed; an earlier one was asked for meanwhile when it is not the one that is armed."""
        if armed_ns != self._armed_ns:
            return
        self._armed_ns = 0
        if self.resync.machine.next_deadline() is not None:
            self.resync.feed(Tick())
        self.feed(Tick())

    def _forward(self, effect: Forward) -> None:
        update = effect.update
        if update.data is None and (update.length or update.kind is UpdateKind.FILL):
            code, content = self._read_back(update, committed=effect.committed)
            if content is None:
                self.feed(ForwardDone(update.chunk, update.version, effect.attempt, UpdateResult(code)))
                return
            update = msgspec.structs.replace(update, data=memoryview(content), length=len(content))
        self.env.send(self.target, effect.target, SimUpdateCall(effect.attempt, update))

    def _read_back(self, update: Update, *, committed: bool) -> tuple[Code, bytes | None]:
        if not committed:
            return Code.NOT_FOUND, self.chunks.get_pending_content(update.chunk, update.version)
        meta = self.chunks.get(update.chunk)
        if meta is None or meta.committed != update.version:
            return Code.NOT_FOUND, None
        return (Code.OK, self.chunks.get_content(update.chunk)) if self.chunks.verify(update.chunk) else (Code.CHECKSUM, None)

    def _reply(self, effect: AnswerUpdate) -> None:
        source, message = self._tokens.pop(effect.token)
        update = message.update
        if not update.from_target and effect.result.code is Code.OK:
            self.env.on_acknowledged(update)
        self.env.send(self.target, source, SimUpdateAnswer(message.call, update.chunk, update.version, effect.result))

    # --- surroundings of the resync ------------------------------------------------------------------------------------

    def send(self, target: int, message: Message) -> None:
        """Put a message of this target on its way."""
        self.env.send(self.target, target, message)

    def call_at(self, due_ns: int, action: Callable[..., None], *arguments: Any) -> None:
        """Call back at a time of its clock, unless it has died."""
        self.env.call_at(self, due_ns, action, *arguments)

    def record(self, event: ResyncEvent, effects: list[ResyncEffect]) -> None:
        """A step of the resync."""
        self.env.record(self, event, effects)

    def on_resync_finished(self) -> None:
        """It has been brought up to date."""
        self.env.on_resync_finished(self)

    # --- the disk ----------------------------------------------------------------------------------------------------

    def add_job(self, job: Job) -> None:
        """For the next barrier."""
        self._jobs.append(job)
        self._begin_barrier()

    def _begin_barrier(self) -> None:
        if self._jobs and self._barrier is None:
            self._barrier = (self.chunks.begin_barrier(), self._jobs)
            self._jobs = []
            self.env.on_barrier_begin(self)

    @property
    def is_disk_busy(self) -> bool:
        """A barrier is on its way to the disk."""
        return self._barrier is not None

    def finish_barrier(self) -> None:
        """The barrier is on the disk: everything it carries is durable."""
        if self._barrier is None:
            return
        mark, jobs = self._barrier
        self._barrier = None
        self.chunks.end_barrier(mark)
        done = [(job, self._do(job)) for job in jobs]
        for job, (code, length, checksum) in done:
            if isinstance(job, Stage):
                update = job.update
                self.out_of_room |= code is Code.NO_SPACE and self._slot_state() is PublicState.SYNCING
                self.feed(StageDone(update.chunk, update.version, code, length, checksum))
            elif isinstance(job, DropPending):
                self.feed(DropDone(job.chunk, job.version))
            else:
                self.resync.on_merge_durable(job)
        self._begin_barrier()

    def _do(self, job: Job) -> tuple[Code, int, int]:
        if isinstance(job, Stage):
            return self.chunks.stage(job.update)
        if isinstance(job, DropPending):
            self.chunks.drop_pending(job.chunk)
        else:
            self.chunks.merge_channels(job.rows)
        return Code.OK, 0, 0

    def _slot_state(self) -> PublicState | None:
        slot = self.chain.slot(self.target) if self.chain is not None else None
        return slot.state if slot is not None else None
