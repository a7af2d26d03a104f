"""Who waits for the turn to append, and when it is asked for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fs3.base.ids import InodeId, SessionId
from fs3.base.status import Code
from fs3.core.meta.errors import MetaError
from fs3.model.requests import Append, AppendStep
from fs3.services.meta import append_queue
from fs3.services.meta.append_queue import AppendQueue

CONTEXT: Any = SimpleNamespace(span=None)


class FakeChanges:
    """Carries out what it is told to, in order."""

    def __init__(self) -> None:
        self.submitted: list[tuple[str, int]] = []
        self.dones: list[Any] = []

    def submit(self, ctx: Any, request: Append, done: Any) -> None:
        self.submitted.append((request.step.name, request.session))
        self.dones.append(done)

    def answer(self, index: int = -1, why: Exception | None = None) -> None:
        self.dones[index](None, why)


class Bench:
    """A queue, and how each call ended."""

    def __init__(self) -> None:
        self.changes = FakeChanges()
        self.queue = AppendQueue(self.changes)
        self.ended: list[tuple[str, int]] = []

    def ask(self, step: AppendStep, session: int, *, serial: int = 0, inode: int = 1, context: Any = CONTEXT) -> SimpleNamespace:
        caller = SimpleNamespace(is_cancelled=False)
        request = Append(InodeId(inode), SessionId(session), step, serial)
        self.queue.submit(context, request, lambda _, why: self.ended.append((step.name, session)), caller)
        return caller


@pytest.fixture
async def bench() -> Any:
    made = Bench()
    yield made
    made.queue.stop()


NOT_YET = MetaError(Code.NOT_ITS_TURN, "another session has the turn")


async def test_those_who_wait_are_given_the_turn_together_with_what_ends_the_one_before(bench: Bench) -> None:
    for session in (1, 2, 3):
        bench.ask(AppendStep.TAKE, session)
    assert bench.changes.submitted == [("TAKE", 1)]
    bench.changes.answer()
    bench.ask(AppendStep.RENEW, 1, serial=1)
    assert bench.changes.submitted[1:] == [("RENEW", 1)]
    bench.ask(AppendStep.PUBLISH, 1, serial=1)
    assert bench.changes.submitted[2:] == [("PUBLISH", 1), ("TAKE", 2)], "in one turn of the loop, so in one commit"
    bench.ask(AppendStep.TAKE, 1)
    bench.ask(AppendStep.GIVE_UP, 2, serial=2)
    assert bench.changes.submitted[4:] == [("GIVE_UP", 2), ("TAKE", 3)]
    bench.ask(AppendStep.PUBLISH, 3, serial=3)
    assert bench.changes.submitted[6:] == [("PUBLISH", 3), ("TAKE", 1)]


async def test_another_file_waits_for_nothing(bench: Bench) -> None:
    bench.ask(AppendStep.TAKE, 1)
    bench.ask(AppendStep.TAKE, 2, inode=2)
    assert bench.changes.submitted == [("TAKE", 1), ("TAKE", 2)]


async def test_a_client_that_has_gone_is_passed_over(bench: Bench) -> None:
    bench.ask(AppendStep.TAKE, 1)
    bench.ask(AppendStep.TAKE, 2).is_cancelled = True
    bench.ask(AppendStep.TAKE, 3)
    bench.ask(AppendStep.PUBLISH, 1, serial=1)
    assert bench.changes.submitted[1:] == [("PUBLISH", 1), ("TAKE", 3)]


async def test_a_refused_turn_leaves_no_waiter_behind(bench: Bench) -> None:
    """Another service knows more."""
    bench.ask(AppendStep.TAKE, 1)
    bench.ask(AppendStep.TAKE, 2)
    bench.changes.answer(why=NOT_YET)
    assert bench.changes.submitted == [("TAKE", 1), ("TAKE", 2)]
    bench.changes.answer(why=NOT_YET)
    assert bench.ended == [("TAKE", 1), ("TAKE", 2)]
    bench.ask(AppendStep.TAKE, 3)
    assert bench.changes.submitted[2:] == [("TAKE", 3)], "nothing is known of the turn any more"


async def test_who_takes_a_turn_over_does_not_wait_and_then_has_it(bench: Bench) -> None:
    bench.ask(AppendStep.TAKE, 1)
    bench.changes.answer()
    bench.ask(AppendStep.TAKE, 2, serial=1)
    assert bench.changes.submitted[1:] == [("TAKE", 2)]
    bench.changes.answer()
    bench.ask(AppendStep.TAKE, 3)
    bench.ask(AppendStep.PUBLISH, 1, serial=1)
    assert bench.changes.submitted[2:] == [("PUBLISH", 1)], "it is late, and ends nothing"
    bench.ask(AppendStep.PUBLISH, 2, serial=2)
    assert bench.changes.submitted[3:] == [("PUBLISH", 2), ("TAKE", 3)]


async def test_a_wait_is_short_and_those_behind_go_on_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(append_queue, "append_turn_wait_ns", 1)
    bench = Bench()
    bench.ask(AppendStep.TAKE, 1)
    bench.changes.answer()
    bench.ask(AppendStep.TAKE, 2)
    while len(bench.changes.submitted) < 2:
        await append_queue.asyncio.sleep(0)
    monkeypatch.setattr(append_queue, "append_turn_wait_ns", 10**18)
    bench.ask(AppendStep.TAKE, 3)
    bench.changes.answer(why=NOT_YET)
    assert bench.ended == [("TAKE", 1), ("TAKE", 2)]
    bench.ask(AppendStep.PUBLISH, 1, serial=1)
    assert bench.changes.submitted[2:] == [("PUBLISH", 1), ("TAKE", 3)]
    bench.queue.stop()


async def test_more_than_so_many_do_not_wait(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(append_queue, "appends_waiting_max", 1)
    for session in (1, 2, 3):
        bench.ask(AppendStep.TAKE, session)
    assert bench.changes.submitted == [("TAKE", 1), ("TAKE", 3)]


async def test_the_wait_for_the_turn_is_a_part_of_a_traced_request(bench: Bench) -> None:
    parts: list[tuple[str, int, int]] = []
    moments = iter((7, 30))
    span = SimpleNamespace(now=lambda: next(moments), part=lambda *part: parts.append(part))
    bench.ask(AppendStep.TAKE, 1)
    bench.ask(AppendStep.TAKE, 2, context=SimpleNamespace(span=span))
    assert not parts
    bench.ask(AppendStep.PUBLISH, 1, serial=1)
    assert parts == [("wait for the turn", 7, 30)]
