"""The linearizability checker itself: it must accept what is right and refuse what is not."""

from __future__ import annotations

import random

import pytest

from fs3.base.status import Code
from fs3.core.craq.admission.table import UNTAGGED
from fs3.model.chunk import UpdateKind, apply_update
from fs3.sim.checkers.history import ENDLESS, Operation
from fs3.sim.checkers.register import explain
from fs3.sim.ring1.one_replica import chunk, tag


def put(begin: int, end: int | None, data: bytes, kind: UpdateKind = UpdateKind.WRITE, offset: int = 0) -> Operation:
    """A write; `end` None: nobody knows."""
    code = Code.OK if end is not None else None
    return Operation(1, chunk(0), kind, offset, data, tag(begin), begin, ENDLESS if end is None else end, code, 1)


def seen(begin: int, end: int, data: bytes | None) -> Operation:
    """A read."""
    code = Code.NOT_FOUND if data is None else Code.OK
    return Operation(2, chunk(0), None, 0, data or b"", UNTAGGED, begin, end, code, 1)


@pytest.mark.parametrize(
    "history",
    [
        [],
        [seen(1, 2, None)],
        [put(1, 2, b"a"), seen(3, 4, b"a")],
        # Concurrent with the write, a read may show either.
        [put(1, 10, b"a"), seen(2, 3, None), seen(4, 5, b"a")],
        # Two concurrent writes take effect in some order.
        [put(1, 10, b"a"), put(2, 9, b"b"), seen(11, 12, b"a")],
        # Nobody knows whether it happened: it may have, at any time, or not at all.
        [put(1, None, b"a"), seen(2, 3, None)],
        [put(1, None, b"a"), seen(2, 3, None), seen(4, 5, b"a")],
        [put(1, 2, b"abc"), put(3, 4, b"X", offset=1), seen(5, 6, b"aXc")],
        [put(1, 2, b"abc"), put(3, 4, b"", UpdateKind.TRUNCATE, 1), seen(5, 6, b"a")],
        [put(1, 2, b"abc"), put(3, 4, b"", UpdateKind.REMOVE), seen(5, 6, None)],
        # A write of unknown end that only its last bytes show.
        [put(1, None, b"<1>++?"), put(2, 3, b"<2>++"), seen(4, 5, b"<2>++?")],
    ],
)
def test_right(history: list[Operation]) -> None:
    assert explain(history) == ""


def test_many_updates_of_unknown_end() -> None:
    """Each doubles the orders there are; those that nobody saw are not tried when there is an order without them."""
    unknown = [put(position, None, b"<%02d>" % position, offset=position % 7) for position in range(1, 15)]
    # The second write ends last and came first: tried in the order of their ends, the two lead nowhere.
    late = [put(20, 30, b"<20>++"), put(21, 40, b"<21>++"), seen(41, 42, b"<20>++")]
    assert explain([*unknown, *late]) == ""


@pytest.mark.parametrize(
    "history",
    [
        # An acknowledged write that nobody sees.
        [put(1, 2, b"a"), seen(3, 4, None)],
        # Going back.
        [put(1, 10, b"a"), seen(2, 3, b"a"), seen(4, 5, None)],
        [put(1, 2, b"a"), put(3, 4, b"b"), seen(5, 6, b"a")],
        # A value nobody wrote.
        [put(1, 2, b"a"), seen(3, 4, b"b")],
        # A write that shows before it began.
        [seen(1, 2, b"a"), put(3, 4, b"a")],
        # Applied twice.
        [put(1, 2, b"a"), put(3, 4, b"b"), seen(5, 6, b"b"), seen(7, 8, b"a")],
        # An unknown write happens once.
        [put(1, None, b"a"), seen(2, 3, b"a"), put(4, 5, b"b"), seen(6, 7, b"a"), seen(8, 9, b"b")],
    ],
)
def test_wrong(history: list[Operation]) -> None:
    assert "no order explains" in explain(history)


def test_an_unanswered_read_and_an_update_that_was_never_sent_say_nothing() -> None:
    unanswered = Operation(2, chunk(0), None, 0, b"", UNTAGGED, 1, ENDLESS, None, 3)
    unsent = Operation(2, chunk(0), UpdateKind.WRITE, 0, b"z", tag(1), 2, ENDLESS, None, 0)
    assert explain([unanswered, unsent, seen(3, 4, None)]) == ""
    assert explain([unsent, seen(3, 4, b"z")]) != ""


def test_a_wrong_hint_changes_nothing_but_the_time() -> None:
    history = [put(1, 10, b"a"), put(2, 9, b"b"), seen(11, 12, b"a")]
    assert explain(history, {tag(1): 1, tag(2): 2}) == ""
    assert explain(history, {tag(1): 2, tag(2): 1}) == ""
    assert explain([*history, seen(13, 14, b"b")], {tag(1): 1}) != ""


@pytest.mark.parametrize("seed", range(30))
def test_histories_of_a_real_register_are_right_and_damaged_ones_are_not(seed: int) -> None:
    # One register, operations of several clients that take effect at a point within their interval.
    rng = random.Random(seed)
    effects = sorted((rng.random() * 100, number) for number in range(14))
    history: list[Operation] = []
    content: bytes | None = None
    for at, number in effects:
        begin, end = at - rng.random() * 6, at + rng.random() * 6
        if rng.random() < 0.4:
            kind = rng.choice([UpdateKind.WRITE, UpdateKind.WRITE, UpdateKind.REMOVE])
            data = b"" if kind is UpdateKind.REMOVE else b"%d" % number
            content = apply_update(kind, 0, data, content)
            history.append(put(int(begin * 1000), int(end * 1000), data, kind))
        else:
            history.append(seen(int(begin * 1000), int(end * 1000), content))
    assert explain(history) == ""
    assert explain([*history, seen(200_000, 200_001, (content or b"") + b"!")]) != ""
