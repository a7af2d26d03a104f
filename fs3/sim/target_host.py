"""The shell of one simulated target: carries out what its replica wants, on a simulated disk and network.

It is what `services/storage` is in a real process, without asyncio: an inbox of messages, a disk that makes batches durable one
barrier at a time, a timer. A crash drops everything that is not in the store.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from fs3.base.ids import TargetId
from fs3.base.status import Code
from fs3.core.craq import invariants
from fs3.core.craq.effects import Commit, DropPending, Effect, Forward, Reply, Stage
from fs3.core.craq.events import Acked, ChainChanged, Event, Opened, Staged, Tick, UpdateReceived
from fs3.core.craq.lanes import ReplicaLimits
from fs3.core.craq.reads import decide
from fs3.core.craq.replica import Replica
from fs3.model.chain import Chain
from fs3.model.chunk import ChunkMeta, Update, UpdateResult
from fs3.sim.chunk_view import SimChunks
from fs3.sim.messages import (
    MANAGER,
    ChainTold,
    Heartbeat,
    HeartbeatAnswer,
    Message,
    ReadAnswer,
    ReadCall,
    UpdateAnswer,
    UpdateCall,
)

Decide = Callable[[ChunkMeta | None, Chain | None, TargetId, int, int, int], Code]


class Surroundings(Protocol):
    """What a host finds around it."""

    @property
    def now(self) -> int:
        """Virtual nanoseconds."""
        ...

    def send(self, source: int, target: int, message: Message) -> None:
        """Put a message on its way."""
        ...

    def opens(self, host: TargetHost) -> None:
        """The store of a starting target is looked through; call `host.open(host.incarnation)` when that is done."""
        ...

    def disk_begins(self, host: TargetHost) -> None:
        """A barrier begins; call `host.disk_ends(host.incarnation)` when it is on the disk."""
        ...

    def arm(self, host: TargetHost, due_ns: int) -> None:
        """Call `host.tick(host.incarnation)` at `due_ns`. Earlier calls for this host still happen, and are harmless."""
        ...

    def note(self, host: TargetHost, event: Event | str, effects: list[Effect]) -> None:
        """Something happened: for traces and fingerprints."""
        ...


@dataclass(frozen=True)
class Parts:
    """What hosts are made of, so that a planted bug can exchange a part."""

    replica: type[Replica] = Replica
    chunks: type[SimChunks] = SimChunks
    decide: Decide = decide
    opens: bool = True
    """The store's pending versions are told to the replica when it starts."""


class TargetHost:
    """One target: its store, which survives a crash, and its replica, which does not."""

    def __init__(self, target: TargetId, around: Surroundings, lease_ns: int, limits: ReplicaLimits, parts: Parts) -> None:
        """`lease_ns`: how long a heartbeat's answer lets this target serve, counted from when the heartbeat was sent."""
        self.target = target
        self.lease_ns = lease_ns
        self.around = around
        self.limits = limits
        self.parts = parts
        self.chunks = parts.chunks()
        self.up = False
        self.incarnation = 0
        self.lease_until_ns = 0
        self.replica = self._new_replica()
        self.acknowledged: Callable[[Update], None] = lambda update: None
        """Called when a client is answered OK, before the answer leaves. For checkers."""
        self._tokens: dict[int, tuple[int, UpdateCall]] = {}
        self._token = 0
        self._staging: list[Update] = []
        self._barrier: tuple[int, list[Update]] | None = None
        self._armed_ns = 0
        self._checks = 0

    def _new_replica(self) -> Replica:
        return self.parts.replica(self.target, self.chunks, incarnation=self.incarnation, limits=self.limits)

    def start(self) -> None:
        """The process starts. It takes its place once it has heard of the chain."""
        assert not self.up
        self.up = True
        self.incarnation += 1
        self.lease_until_ns = 0
        self.replica = self._new_replica()

    def crash(self, commits_lost: int) -> None:
        """The process is killed and the newest commits are lost with the machine's memory."""
        assert self.up
        self.up = False
        self._tokens.clear()
        self._staging.clear()
        self._barrier = None
        self._armed_ns = 0
        self.chunks.crash(commits_lost)

    @property
    def is_idle(self) -> bool:
        """Nothing is under way and nobody waits for an answer."""
        return not self.replica.lanes and not self._tokens

    # --- messages ----------------------------------------------------------------------------------------------------

    def heartbeat(self) -> None:
        """Tell the manager that this target is there."""
        chain = self.replica.chain
        self.around.send(self.target, MANAGER, Heartbeat(self.around.now, chain.version if chain is not None else 0))

    def receive(self, source: int, message: Message) -> None:
        """A message arrives."""
        if isinstance(message, UpdateCall):
            self._update(source, message)
        elif isinstance(message, UpdateAnswer):
            self.feed(Acked(message.chunk, message.version, message.call, message.result))
        elif isinstance(message, ReadCall):
            self.around.send(self.target, source, self.read(message))
        elif isinstance(message, HeartbeatAnswer):
            self.lease_until_ns = max(self.lease_until_ns, message.sent_ns + self.lease_ns)
            self._learn(message.chain)
        elif isinstance(message, ChainTold):
            self._learn(message.chain)
        else:
            raise AssertionError(f"a target got {message}")

    def _learn(self, chain: Chain | None) -> None:
        if chain is not None:
            if self.replica.chain is None:
                self.around.opens(self)
            self.feed(ChainChanged(chain))

    def open(self, incarnation: int) -> None:
        """The store has been looked through."""
        if self.up and incarnation == self.incarnation:
            self.feed(Opened(tuple(self.chunks.pending()) if self.parts.opens else ()))

    def _update(self, source: int, message: UpdateCall) -> None:
        if not message.update.from_target and self.around.now >= self.lease_until_ns:
            result = UpdateResult(Code.LEASE, message=f"target {self.target} has no lease")
            self.around.send(self.target, source, UpdateAnswer(message.call, message.update.chunk, 0, result))
            return
        self._token += 1
        self._tokens[self._token] = (source, message)
        self.feed(UpdateReceived(message.update, self._token))

    def read(self, message: ReadCall) -> ReadAnswer:
        """Serve a read, or say why not."""
        meta = self.chunks.get(message.chunk)
        code = self.parts.decide(
            meta, self.replica.readable_chain, self.target, message.chain_version, self.around.now, self.lease_until_ns
        )
        if code is not Code.OK:
            return ReadAnswer(message.call, code)
        version, content = self.chunks.shown(message.chunk)
        return ReadAnswer(message.call, Code.OK, version, content)

    # --- the replica -------------------------------------------------------------------------------------------------

    def feed(self, event: Event) -> None:
        """One step of the replica, and what it wants."""
        effects = self.replica.step(self.around.now, event)
        for effect in effects:
            if isinstance(effect, Commit):
                self.chunks.commit(effect.chunk, effect.version, effect.tag, effect.result)
        self.around.note(self, event, effects)
        for effect in effects:
            if isinstance(effect, Stage):
                self._staging.append(effect.update)
            elif isinstance(effect, Forward):
                self._forward(effect)
            elif isinstance(effect, Reply):
                self._reply(effect)
            elif isinstance(effect, DropPending):
                self.chunks.drop_pending(effect.chunk)
        self.replica.check()
        self._checks += 1
        if not self._checks % 8:
            invariants.check(self.replica, self.chunks.pending())
        if self._staging and self._barrier is None:
            self._begin_barrier()
        due = self.replica.next_deadline()
        if due is not None and (not self._armed_ns or due < self._armed_ns):
            self._armed_ns = due
            self.around.arm(self, due)

    def tick(self, incarnation: int) -> None:
        """A deadline the replica asked for has passed."""
        if self.up and incarnation == self.incarnation:
            self._armed_ns = 0
            self.feed(Tick())

    def _forward(self, effect: Forward) -> None:
        update = effect.update
        if update.data is None and update.length:
            content = self.chunks.pending_content(update.chunk, update.version)
            if content is None:
                gone = UpdateResult(Code.NOT_FOUND, message="no such pending version")
                self.feed(Acked(update.chunk, update.version, effect.attempt, gone))
                return
            update = msgspec.structs.replace(update, data=memoryview(content), length=len(content))
        self.around.send(self.target, effect.target, UpdateCall(effect.attempt, update))

    def _reply(self, effect: Reply) -> None:
        source, message = self._tokens.pop(effect.token)
        update = message.update
        if not update.from_target and effect.result.code is Code.OK:
            self.acknowledged(update)
        self.around.send(self.target, source, UpdateAnswer(message.call, update.chunk, update.version, effect.result))

    # --- the disk ----------------------------------------------------------------------------------------------------

    def _begin_barrier(self) -> None:
        self._barrier = (self.chunks.barrier_begins(), self._staging)
        self._staging = []
        self.around.disk_begins(self)

    @property
    def disk_is_busy(self) -> bool:
        """A barrier is on its way to the disk."""
        return self._barrier is not None

    def disk_ends(self, incarnation: int) -> None:
        """The barrier is on the disk: everything it carries is durable."""
        if not self.up or incarnation != self.incarnation or self._barrier is None:
            return
        mark, updates = self._barrier
        self._barrier = None
        self.chunks.barrier_ends(mark)
        results = [(update, self.chunks.stage(update)) for update in updates]
        for update, (code, length, checksum) in results:
            self.feed(Staged(update.chunk, update.version, code, length, checksum))
