"""Requests for locks that wait at a service: when they are asked for, and what becomes of those whose turn does not come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from fs3.base.ids import ClientId, InodeId, TableId
from fs3.base.status import Code
from fs3.core.meta.bootstrap import ensure_root
from fs3.core.meta.context import LayoutDefaults, OpContext
from fs3.core.meta.errors import MetaError
from fs3.core.meta.ops.lock import lock
from fs3.core.txn import Txn
from fs3.drivers.memory.kv import MemoryKV
from fs3.model.inode import User
from fs3.model.lock import Lock, LockStep
from fs3.model.routing import Routing
from fs3.ports.kv import OnDone
from fs3.services.meta import lock_queue
from fs3.services.meta.lock_queue import LockQueue

FILE = InodeId(1)
A, B, C = (ClientId(letter * 16) for letter in (b"a", b"b", b"c"))


class RealChanges:
    """Carries out steps on a store, and remembers whom it was asked to refuse."""

    def __init__(self, kv: MemoryKV) -> None:
        self.kv = kv
        self.submitted: list[tuple[str, bytes]] = []

    def submit(self, ctx: OpContext, request: Lock, done: OnDone[Any]) -> None:
        self.submitted.append((request.step.name, ctx.client[:1]))
        self.kv.submit(lambda txn: lock(txn, ctx, request), done)

    def refuse(self, ctx: OpContext, request: Lock, why: MetaError, done: OnDone[Any]) -> None:
        done(None, why)


class Bench:
    """Two services on one store, and how each call ended."""

    def __init__(self) -> None:
        self.kv = MemoryKV()
        self.now = 0
        self.changes = RealChanges(self.kv)
        clock: Any = SimpleNamespace(now=lambda: self.now)
        self.queues = [LockQueue(self.kv, clock, self.changes) for _ in range(2)]
        self.ended: list[tuple[str, bytes, str]] = []

        async def begin(txn: Txn) -> object:
            return await ensure_root(txn, self.context(A))

        self.kv.transact_now(begin)

    def context(self, client: ClientId, seq: int = 0) -> OpContext:
        return OpContext(User(0, 0), 5, client, seq, Routing(), LayoutDefaults(TableId(1)))

    def ask(
        self, client: ClientId, step: LockStep, *, wait: int = 1, exclusive: bool = True, at: int = 0, span: Any = None
    ) -> SimpleNamespace:
        caller = SimpleNamespace(is_cancelled=False)
        request = Lock(FILE, step, exclusive=exclusive, wait=wait)

        def done(answer: Any, why: BaseException | None) -> None:
            outcome = "granted" if why is None else why.code.name if isinstance(why, MetaError) else repr(why)
            self.ended.append((step.name, client[:1], outcome))

        context = self.context(client)
        context.span = span
        self.queues[at].submit(context, request, done, caller)
        return caller

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0)

    async def settle(self, count: int) -> list[tuple[str, bytes, str]]:
        """So many calls have ended: those that have since the last look."""
        await self.until(lambda: len(self.ended) >= count)
        found, self.ended = self.ended, []
        return found


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    for queue in made.queues:
        queue.stop()


async def test_those_who_wait_are_answered_when_the_one_before_unlocks(bench: Bench) -> None:
    bench.ask(A, LockStep.TRY)
    await bench.settle(1)
    bench.ask(B, LockStep.WAIT)
    bench.ask(C, LockStep.WAIT)
    bench.ask(A, LockStep.UNLOCK)
    assert await bench.settle(2) == [("UNLOCK", b"a", "granted"), ("WAIT", b"b", "granted")]
    bench.ask(B, LockStep.UNLOCK)
    assert await bench.settle(2) == [("UNLOCK", b"b", "granted"), ("WAIT", b"c", "granted")]
    assert bench.changes.submitted.count(("WAIT", b"c")) == 2, "it was not asked for while it was not its turn"


async def test_readers_are_answered_together(bench: Bench) -> None:
    bench.ask(A, LockStep.TRY)
    await bench.settle(1)
    for client in (B, C):
        bench.ask(client, LockStep.WAIT, exclusive=False)
    bench.ask(A, LockStep.UNLOCK)
    assert [client for _, client, _ in await bench.settle(3)] == [b"a", b"b", b"c"]


async def test_a_wait_is_short_and_its_place_is_kept(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.ask(A, LockStep.TRY)
    await bench.settle(1)
    monkeypatch.setattr(lock_queue, "lock_turn_wait_ns", 1)
    bench.ask(B, LockStep.WAIT)
    assert await bench.settle(1) == [("WAIT", b"b", "LOCKED")]
    monkeypatch.setattr(lock_queue, "lock_turn_wait_ns", 10**12)
    bench.ask(C, LockStep.WAIT)
    bench.ask(B, LockStep.WAIT)
    bench.ask(A, LockStep.UNLOCK)
    assert await bench.settle(2) == [("UNLOCK", b"a", "granted"), ("WAIT", b"b", "granted")], "C came later"


async def test_what_happens_at_another_service_is_seen_soon(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_queue, "lock_look_ns", 1)
    bench.ask(A, LockStep.TRY, at=1)
    await bench.settle(1)
    bench.ask(B, LockStep.WAIT)
    await bench.until(lambda: ("WAIT", b"b") in bench.changes.submitted)
    bench.ask(A, LockStep.UNLOCK, at=1)
    assert await bench.settle(2) == [("UNLOCK", b"a", "granted"), ("WAIT", b"b", "granted")]


async def test_a_caller_that_has_gone_gets_nothing_and_is_passed_by_later(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_queue, "lock_look_ns", 1)
    bench.ask(A, LockStep.TRY)
    await bench.settle(1)
    bench.ask(B, LockStep.WAIT).is_cancelled = True
    bench.ask(C, LockStep.WAIT)
    bench.ask(A, LockStep.UNLOCK)
    await bench.settle(1)
    tries = bench.changes.submitted.count(("WAIT", b"c"))
    for _ in range(50):
        await asyncio.sleep(0)
    assert bench.changes.submitted.count(("WAIT", b"c")) == tries, "B's place counts still"
    bench.now += lock_queue.lock_claim_ns
    assert await bench.settle(1) == [("WAIT", b"c", "granted")]


async def test_a_request_that_is_sent_twice_is_answered_twice(bench: Bench) -> None:
    bench.ask(A, LockStep.TRY)
    await bench.settle(1)
    bench.ask(B, LockStep.WAIT)
    bench.ask(B, LockStep.WAIT)
    assert await bench.settle(1) == [("WAIT", b"b", "LOCKED")]
    bench.ask(A, LockStep.UNLOCK)
    assert (await bench.settle(2))[1] == ("WAIT", b"b", "granted")


async def test_more_than_so_many_are_told_to_ask_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_queue, "lock_requests_waiting_max", 1)
    bench.ask(A, LockStep.TRY)
    bench.ask(B, LockStep.WAIT)
    bench.ask(C, LockStep.WAIT)
    assert (await bench.settle(2))[1] == ("WAIT", b"c", Code.LOCKED.name)


async def test_a_service_that_stops_sends_those_who_wait_to_another_one(bench: Bench) -> None:
    bench.ask(A, LockStep.TRY)
    await bench.settle(1)
    bench.ask(B, LockStep.WAIT)
    for _ in range(20):
        await asyncio.sleep(0)
    bench.ask(C, LockStep.WAIT)
    bench.queues[0].stop()
    assert await bench.settle(2) == [("WAIT", b"b", "SHUTTING_DOWN"), ("WAIT", b"c", "SHUTTING_DOWN")]
    bench.ask(A, LockStep.UNLOCK, at=1)
    bench.ask(C, LockStep.WAIT, at=1)
    bench.ask(B, LockStep.WAIT, at=1)
    assert await bench.settle(2) == [("UNLOCK", b"a", "granted"), ("WAIT", b"b", "granted")], "the places are kept"


async def test_the_wait_for_a_lock_is_a_part_of_a_traced_request(bench: Bench) -> None:
    parts: list[tuple[str, int, int]] = []
    moments = iter((7, 30))
    span = SimpleNamespace(now=lambda: next(moments), part=lambda *part: parts.append(part))
    bench.ask(A, LockStep.TRY)
    await bench.settle(1)
    bench.ask(B, LockStep.WAIT, span=span)
    bench.ask(A, LockStep.UNLOCK)
    assert await bench.settle(2) == [("UNLOCK", b"a", "granted"), ("WAIT", b"b", "granted")]
    assert parts == [("wait for the turn", 7, 30)]
