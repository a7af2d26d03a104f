from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fs3.api.integrations.locks import ObjectLocks


def test_a_lease_is_over_with_its_last_lock() -> None:
    locks: ObjectLocks[str, int] = ObjectLocks()
    locks.lock(1, ["a", "b", "c"], until=60, now=0)
    assert locks.unlock(["a", "c", "x"]) == []
    assert locks.unlock(["b"]) == [1]
    assert len(locks) == 0
    assert locks.unlock(["a", "b", "c"]) == []


def test_an_object_that_two_lookups_found_is_locked_twice() -> None:
    locks: ObjectLocks[str, int] = ObjectLocks()
    locks.lock(1, ["a", "b"], until=60, now=0)
    locks.lock(2, ["a"], until=61, now=1)
    assert locks.unlock(["a"]) == []
    assert locks.unlock(["a"]) == [2]
    assert locks.unlock(["b"]) == [1]


def test_what_has_ended_by_itself_is_forgotten() -> None:
    locks: ObjectLocks[str, int] = ObjectLocks()
    locks.lock(1, ["a", "b"], until=60, now=0)
    locks.unlock(["b"])
    locks.lock(2, ["a"], until=100, now=40)
    locks.lock(3, [], until=120, now=60)
    assert locks.unlock(["a"]) == [2]
    assert len(locks) == 0


@given(st.lists(st.tuples(st.sampled_from(["lock", "unlock"]), st.lists(st.sampled_from("abcd"), max_size=5)), max_size=40))
def test_every_lease_is_released_once_and_nothing_stays(steps: list[tuple[str, list[str]]]) -> None:
    locks: ObjectLocks[str, int] = ObjectLocks()
    granted, released = [], []
    for now, (action, names) in enumerate(steps):
        if action == "lock":
            if names:
                granted.append(now)
            locks.lock(now, names, until=now + 1000, now=now)
        else:
            released += locks.unlock(names)
    released += locks.unlock("abcd" * 200)
    assert sorted(released) == granted
    assert len(locks) == 0
    locks.lock(-1, [], until=5000, now=4000)
    assert not locks._by_time
