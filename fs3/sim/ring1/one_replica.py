"""One replica on a simulated store, moved by hand: for tests that look at single steps.

The rest of the chain is the test: it answers what the replica sends.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from fs3.base.ids import ChainId, ChunkId, ClientId, NodeId, TargetId
from fs3.base.status import Code
from fs3.base.units import MILLISECOND
from fs3.core.craq import invariants
from fs3.core.craq.effects import AnswerUpdate, Commit, DropPending, Effect, Forward, Stage
from fs3.core.craq.events import ChainChanged, DropDone, Event, ForwardDone, StageDone, StoreOpened, Tick, UpdateReceived
from fs3.core.craq.lanes import ReplicaLimits
from fs3.core.craq.replica import Replica
from fs3.model.chain import Chain, PublicState, Slot
from fs3.model.chunk import Tag, Update, UpdateKind, UpdateResult
from fs3.sim.ring1.chunks import SimChunks, newest_lost

CHAIN = ChainId(7)
E = TypeVar("E", bound=Effect)
LIMITS = ReplicaLimits(
    lane_waiting_max=2,
    flights_max=3,
    waiters_max=3,
    flight_deadline_ns=1000 * MILLISECOND,
    forward_timeout_min_ns=100 * MILLISECOND,
    forward_timeout_max_ns=400 * MILLISECOND,
    forward_backoff_min_ns=10 * MILLISECOND,
    forward_backoff_max_ns=40 * MILLISECOND,
)


def chunk(number: int) -> ChunkId:
    """A chunk id."""
    return ChunkId(number.to_bytes(16, "big"))


def tag(seq: int, client: int = 1, channel: int = 0) -> Tag:
    """A tag."""
    return Tag(ClientId(client.to_bytes(16, "big")), channel, seq)


def chain(version: int, *serving: int, syncing: tuple[int, ...] = (), out: tuple[int, ...] = ()) -> Chain:
    """A chain of targets in these states."""
    states = [(target, PublicState.SERVING) for target in serving]
    states += [(target, PublicState.SYNCING) for target in syncing]
    states += [(target, PublicState.OFFLINE) for target in out]
    return Chain(CHAIN, version, tuple(Slot(TargetId(target), NodeId(target), state) for target, state in states))


def write(seq: int, number: int = 0, data: bytes = b"data", client: int = 1, **changes: object) -> Update:
    """A client's write."""
    fields: dict[str, object] = {
        "chunk": chunk(number),
        "kind": UpdateKind.WRITE,
        "chain": CHAIN,
        "chain_version": 1,
        "version": 0,
        "offset": 0,
        "length": len(data),
        "tag": tag(seq, client),
        "data": memoryview(data) if data else None,
    }
    return Update(**{**fields, **changes})  # type: ignore[arg-type]


def remove(seq: int, number: int = 0, **changes: object) -> Update:
    """A client's removal."""
    return write(seq, number, b"", kind=UpdateKind.REMOVE, **changes)  # type: ignore[arg-type]


class OneReplica:
    """One replica and its store. Effects are returned; commits are carried out at once, the rest when asked."""

    def __init__(self, target: int, limits: ReplicaLimits = LIMITS) -> None:
        self.store = SimChunks()
        self.target = TargetId(target)
        self.limits = limits
        self.incarnation = 0
        self.now = 0
        self.token = 0
        self.replica = self.restart()

    def restart(self, lost: int = 0) -> Replica:
        """A new replica over what a crash leaves of the store."""
        self.store.crash(newest_lost(self.store, lost))
        self.incarnation += 1
        self.replica = Replica(self.target, self.store, incarnation=self.incarnation, limits=self.limits)
        return self.replica

    def feed(self, event: Event) -> list[Effect]:
        """One step, its commits, and all invariants."""
        effects = self.replica.step(self.now, event)
        for effect in effects:
            if isinstance(effect, Commit):
                self.store.commit(effect.chunk, effect.version, effect.tag, effect.result)
        invariants.check(self.replica, self.store.list_pending())
        return effects

    def join(self, chain: Chain | None) -> list[Effect]:
        """It learns of a chain."""
        return self.feed(ChainChanged(chain))

    def open(self, chain: Chain) -> list[Effect]:
        """It learns of a chain and what its store has pending."""
        return self.join(chain) + self.feed(StoreOpened(tuple(self.store.list_pending())))

    def ask(self, update: Update) -> list[Effect]:
        """An update arrives, under a new token."""
        self.token += 1
        return self.feed(UpdateReceived(update, self.token))

    def complete_stage(self, effects: list[Effect], code: Code = Code.OK) -> list[Effect]:
        """Carries out the Stage among these effects."""
        (effect,) = (effect for effect in effects if isinstance(effect, Stage))
        if code is not Code.OK:
            return self.feed(StageDone(effect.update.chunk, effect.update.version, code, 0, 0, "says the disk"))
        return self.feed(StageDone(effect.update.chunk, effect.update.version, *self.store.stage(effect.update)))

    def ack(self, effects: list[Effect], code: Code = Code.OK, **changes: int) -> list[Effect]:
        """Answers the Forward among these effects, as a successor with the same bytes would."""
        (effect,) = (effect for effect in effects if isinstance(effect, Forward))
        meta = self.store.get(effect.update.chunk)
        assert meta is not None
        result = UpdateResult(code, message="says the successor")
        if code is Code.OK:
            same = UpdateResult(code, effect.update.version, meta.pending_length, meta.pending_checksum)
            result = msgspec.structs.replace(same, **changes)
        return self.feed(ForwardDone(effect.update.chunk, effect.update.version, effect.attempt, result))

    def complete_drop(self, effects: list[Effect]) -> list[Effect]:
        """Carries out the DropPending among these effects."""
        (effect,) = (effect for effect in effects if isinstance(effect, DropPending))
        self.store.drop_pending(effect.chunk)
        return self.feed(DropDone(effect.chunk, effect.version))

    def tick(self, milliseconds: int) -> list[Effect]:
        """Time passes."""
        self.now += milliseconds * MILLISECOND
        return self.feed(Tick())


def kinds(effects: list[Effect]) -> list[str]:
    """The names of effects."""
    return [type(effect).__name__ for effect in effects]


def codes(effects: list[Effect]) -> list[Code]:
    """The codes of the answers among effects."""
    return [effect.result.code for effect in effects if isinstance(effect, AnswerUpdate)]


def forwarded_write(seq: int, number: int = 0, **changes: object) -> Update:
    """A write as target 1 sends it on; version and serial are 1 unless told."""
    return write(seq, number, **{"version": 1, "from_target": TargetId(1), "serial": 1, "floor": 1, **changes})  # type: ignore[arg-type]


def only(effects: list[Effect], kind: type[E]) -> E:
    """The one effect of this kind. ValueError when there is none, or more."""
    (effect,) = (effect for effect in effects if isinstance(effect, kind))
    return effect


def put_through(head: OneReplica, update: Update) -> list[Effect]:
    """A whole update at a replica with a successor."""
    return head.ack(head.complete_stage(head.ask(update)))
