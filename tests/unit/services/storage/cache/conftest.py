"""A keeper by itself: a store in memory, a target whose machine commits when the test says so, a clock that stands still."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest

from fs3.base.ids import ChainId, ChunkId, ClientId, TargetId, page_chunk
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.core.craq.admission.table import UNTAGGED
from fs3.core.craq.position import ChainPosition, ChainRole
from fs3.core.kvcache.budget.seams import NamespaceLimits
from fs3.core.kvcache.leases import Leases
from fs3.core.kvcache.statistics import CacheStatistics
from fs3.drivers.memory.chunk_store import MemoryChunkStore
from fs3.drivers.memory.chunk_versions import MemoryChunk, MemoryVersion
from fs3.model.chunk import Tag, Update, UpdateKind, UpdateResult
from fs3.services.storage.cache.evictions import Evictions
from fs3.services.storage.cache.keeper import CacheKeeper
from fs3.services.storage.config import StorageConfig
from fs3.services.storage.foreground_load import ForegroundLoad

TARGET = TargetId(101)
PAGE = 100
CLIENT = ClientId(b"c" * 16)


def page(number: int, namespace: int = 1) -> ChunkId:
    return page_chunk(namespace, hashlib.sha256(b"%d" % number).digest())


class Clock:
    """Moves when it is told to."""

    def __init__(self) -> None:
        self.time = 1000 * SECOND

    def now(self) -> int:
        return self.time

    def wall(self) -> int:
        return self.time


class Limits:
    """Knows the namespaces it is told of."""

    def __init__(self) -> None:
        self.known = {1: NamespaceLimits(share_bytes=10 * PAGE)}
        self.accepts = False

    def limits(self, namespace_id: int) -> NamespaceLimits | None:
        return self.known.get(namespace_id)

    def accept_unknown(self, namespace_id: int) -> bool:
        if self.accepts:
            self.known[namespace_id] = NamespaceLimits()
        return self.accepts

    def share_of(self, namespace_id: int, budget_bytes: int) -> int | None:
        return budget_bytes


@dataclass
class Bytes:
    """The handle of a put's bytes."""

    may_park: bool = True
    is_parked: bool = False

    def park(self) -> bool:
        self.is_parked = self.may_park
        return self.may_park

    def unpark(self) -> None:
        self.is_parked = False


@dataclass
class Shell:
    """The target of the keeper: notes what reaches the machine, which does it when the test says so."""

    store: MemoryChunkStore
    clock: Clock
    lease: int = 1 << 62
    target: TargetId = TARGET
    failure: str = ""
    cache: CacheKeeper | None = None
    admitted: dict[int, tuple[Update, str]] = field(default_factory=dict)
    """Token → what reached the machine, and the refusal it came with."""
    answers: dict[int, UpdateResult] = field(default_factory=dict)
    removals: dict[ChunkId, tuple[Evictions, int]] = field(default_factory=dict)
    """Evictions that have begun and are not committed."""
    tokens: int = 0

    def __post_init__(self) -> None:
        position = ChainPosition(ChainId(1), 1, ChainRole.HEAD, is_last=True, serves=True)
        self.replica = SimpleNamespace(incarnation=1, position=position, flights=SimpleNamespace(lanes={}))

    def lease_until(self) -> int:
        return self.lease

    def fail(self, failure: Exception) -> None:
        self.failure = str(failure)

    def submit(self, update: Update, sink: Evictions, index: int) -> None:
        assert update.kind is UpdateKind.REMOVE
        self.replica.flights.lanes[update.chunk] = SimpleNamespace(flight=SimpleNamespace(update=update, length=0))
        self.removals[update.chunk] = sink, index

    def admit(self, update: Update, token: int, refusal: str = "") -> None:
        self.admitted[token] = update, refusal
        if refusal:
            self.answer_update(token, UpdateResult(Code.NO_SPACE, message=refusal))

    def answer_update(self, token: int, result: UpdateResult) -> None:
        assert token not in self.answers, "an update was answered twice"
        self.answers[token] = result
        assert self.cache is not None
        if self.cache.has_tokens:
            self.cache.on_answered(token)

    # --- what the test makes happen ----------------------------------------------------------------------------------

    def hold(self, number: int, length: int = PAGE, namespace: int = 1) -> None:
        """The store has this page."""
        self.store.chunks[page(number, namespace)] = MemoryChunk(MemoryVersion(1, 1, bytes(length)))

    def put(self, number: int, length: int = PAGE, namespace: int = 1, payload: Bytes | None = None) -> int:
        """A client's put arrives. Its token."""
        assert self.cache is not None
        self.tokens += 1
        version, tag = self.replica.position.version, Tag(CLIENT, 0, self.tokens)
        update = Update(page(number, namespace), UpdateKind.PUT, ChainId(1), version, 0, 0, length, tag, payload=payload)
        if not self.cache.wants(update, self.tokens):
            self.admit(update, self.tokens)
        return self.tokens

    def commit(self, token: int) -> None:
        """The machine stores what it was given and answers."""
        assert self.cache is not None
        update, _ = self.admitted[token]
        self.store.chunks[update.chunk] = MemoryChunk(MemoryVersion(1, 1, bytes(update.length)))
        self.cache.before_commit(update.chunk)
        self.cache.on_commit(update.chunk, update.tag)
        self.answer_update(token, UpdateResult(Code.OK, 1))

    def finish_removals(self, code: Code = Code.OK) -> int:
        """The evictions under way end. How many there were."""
        assert self.cache is not None
        ended, self.removals = self.removals, {}
        for chunk, (sink, index) in ended.items():
            del self.replica.flights.lanes[chunk]
            if code is Code.OK:
                self.cache.before_commit(chunk)
                del self.store.chunks[chunk]
                self.cache.on_commit(chunk, UNTAGGED)
            sink.answer(index, UpdateResult(code))
        return len(ended)

    def move(self, role: ChainRole) -> None:
        """The next chain version, in which the target has this place."""
        assert self.cache is not None
        position = self.replica.position
        self.replica.position = replace(position, role=role, version=position.version + 1)
        self.cache.on_position_changed()


class Waker:
    """Notes that the keeper wants to be called."""

    def __init__(self) -> None:
        self.calls = 0

    def wake(self) -> None:
        self.calls += 1


@pytest.fixture
def shell() -> Shell:
    clock = Clock()
    return Shell(MemoryChunkStore(), clock)


@pytest.fixture
def limits() -> Limits:
    return Limits()


@pytest.fixture
async def open_keeper(shell, limits):
    """Opens the target with the pages its store has; `counted=False`: they are not counted yet."""
    made: list[CacheKeeper] = []

    async def open_keeper(*, counted: bool = True, role: ChainRole = ChainRole.HEAD) -> CacheKeeper:
        context = SimpleNamespace(
            clock=shell.clock, config=StorageConfig(), cache_statistics=CacheStatistics(), page_leases=Leases()
        )
        shell.replica.position = replace(shell.replica.position, role=role)
        keeper = CacheKeeper(shell, limits, context, ForegroundLoad(shell.clock), Waker())
        made.append(keeper)
        shell.cache = keeper
        keeper.on_position_changed()
        if counted:
            await keeper.wait_counted()
            await turn()
        return keeper

    yield open_keeper
    for each in made:
        each.cache.check()
        await each.stop()


async def turn() -> None:
    """What was put off to the next turns of the loop happens."""
    for _ in range(3):
        await asyncio.sleep(0)


@pytest.fixture
def help():
    """What test modules need of this one, which they cannot import."""
    return SimpleNamespace(Bytes=Bytes, page=page, turn=turn, PAGE=PAGE)
