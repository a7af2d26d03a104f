"""The algebra of locked ranges against a map with one cell per byte."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fs3.base.ids import ClientId
from fs3.core.meta.locks import conflicting, give_back, own_within, set_range
from fs3.model.lock import HeldLock, LockKind, LockOwner

BYTES = 12
OWNERS = [
    LockOwner(ClientId(bytes([client]) * 16), number, by_handle)
    for client, number, by_handle in ((1, 1, False), (1, 1, True), (2, 1, False))
]

Cells = dict[tuple[LockKind, LockOwner, int], bool]


@st.composite
def locks(draw: Any) -> HeldLock:
    start = draw(st.integers(0, BYTES - 1))
    end = draw(st.integers(start + 1, BYTES))
    return HeldLock(draw(st.sampled_from(LockKind)), draw(st.sampled_from(OWNERS)), start, end, draw(st.booleans()), 1)


def cells_of(held: tuple[HeldLock, ...]) -> Cells:
    """Byte by byte; no byte twice."""
    cells: Cells = {}
    for lock in held:
        for at in range(lock.start, lock.end):
            assert (lock.kind, lock.owner, at) not in cells, "an owner holds a byte twice"
            cells[lock.kind, lock.owner, at] = lock.exclusive
    return cells


def check_form(held: tuple[HeldLock, ...]) -> None:
    """No two that could be one."""
    for lock in held:
        assert lock.start < lock.end
        for other in held:
            same = (lock.kind, lock.owner, lock.exclusive) == (other.kind, other.owner, other.exclusive)
            assert lock is other or not same or lock.end != other.start


def is_in_the_way(cells: Cells, lock: HeldLock) -> bool:
    return any(
        (kind, lock.start <= at < lock.end) == (lock.kind, True) and owner != lock.owner and (exclusive or lock.exclusive)
        for (kind, owner, at), exclusive in cells.items()
    )


Steps = st.lists(st.tuples(locks(), st.booleans()), max_size=12)


@given(Steps)
def test_each_byte_has_what_it_was_given_last(steps: list[tuple[HeldLock, bool]]) -> None:
    held: tuple[HeldLock, ...] = ()
    cells: Cells = {}
    for lock, unlock in steps:
        assert bool(conflicting(held, lock)) == is_in_the_way(cells, lock)
        if not unlock and conflicting(held, lock):
            continue
        held = set_range(held, lock, unlock=unlock)
        for at in range(lock.start, lock.end):
            cells.pop((lock.kind, lock.owner, at), None)
            if not unlock:
                cells[lock.kind, lock.owner, at] = lock.exclusive
        assert cells_of(held) == cells
        check_form(held)
        within = cells_of(own_within(held, lock))
        assert within == {
            key: mode for key, mode in cells.items() if key[:2] == (lock.kind, lock.owner) and lock.start <= key[2] < lock.end
        }


@given(Steps, locks(), Steps)
def test_what_is_given_back_is_what_was_held_before_and_still_is(
    earlier: list[tuple[HeldLock, bool]], grant: HeldLock, later: list[tuple[HeldLock, bool]]
) -> None:
    def run(held: tuple[HeldLock, ...], steps: list[tuple[HeldLock, bool]]) -> tuple[HeldLock, ...]:
        for lock, unlock in steps:
            if unlock or not conflicting(held, lock):
                held = set_range(held, lock, unlock=unlock)
        return held

    held = run((), earlier)
    if conflicting(held, grant):
        return
    before = own_within(held, grant)
    held = run(set_range(held, grant), later)
    cells = cells_of(held)
    expected = dict(cells)
    old = cells_of(before)
    for at in range(grant.start, grant.end):
        key = grant.kind, grant.owner, at
        now = expected.pop(key, None)
        if key in old and now is not None:
            expected[key] = old[key] and now
    after = give_back(held, grant, before)
    assert cells_of(after) == expected
    check_form(after)
    assert not any(conflicting(after, lock) for lock in after), "what is given back never conflicts"
