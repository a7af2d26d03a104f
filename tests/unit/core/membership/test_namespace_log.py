"""What has changed since the list of namespaces had a version, and when that is not known."""

from __future__ import annotations

import pytest

from fs3.base.prng import Prng
from fs3.core.membership.namespace_log import NamespaceLog

MANY = 100


@pytest.fixture
def log() -> NamespaceLog:
    """Of a list that had version 10 when it was loaded; one commit may be several changes."""
    log = NamespaceLog(10, kept_max=3)
    log.append(12, ["a", "b"], [])
    log.append(13, ["a"], [1])
    log.append(14, [], [2])
    return log


def test_what_was_changed_since_a_version(log: NamespaceLog) -> None:
    assert log.since(14, MANY) == ([], [])
    assert log.since(13, MANY) == ([], [2])
    assert log.since(12, MANY) == (["a"], [2, 1])
    names, gone = log.since(10, MANY) or ([], [])
    assert (sorted(names), sorted(gone)) == (["a", "b"], [1, 2])


def test_what_was_changed_before_it_was_loaded_is_not_known(log: NamespaceLog) -> None:
    assert log.since(9, MANY) is None
    assert NamespaceLog(10, 3).since(10, MANY) == ([], [])


def test_a_version_of_the_future_is_not_ours(log: NamespaceLog) -> None:
    assert log.since(15, MANY) is None


def test_the_oldest_change_is_dropped(log: NamespaceLog) -> None:
    log.append(15, ["c"], [])
    assert log.since(10, MANY) is None
    assert log.since(12, MANY) == (["c", "a"], [2, 1])


def test_too_much_is_not_told(log: NamespaceLog) -> None:
    assert log.since(10, 4) is not None
    assert log.since(10, 3) is None
    assert log.since(12, 3) is not None


@pytest.mark.parametrize("seed", range(20))
def test_changes_lead_to_what_there_is(seed: int) -> None:
    prng = Prng(seed)
    version, next_id = 0, 1
    log = NamespaceLog(version, kept_max=5)
    there: dict[str, int] = {}
    past: list[tuple[int, dict[str, int]]] = [(0, {})]
    for _ in range(60):
        names: set[str] = set()
        gone: list[int] = []
        for _ in range(1 + prng.below(3)):
            version += 1
            name = "abcd"[prng.below(4)]
            if name in there:
                gone.append(there.pop(name))
                names.discard(name)
            if prng.below(3):
                there[name], next_id = next_id, next_id + 1
                names.add(name)
        log.append(version, sorted(names), gone)
        past.append((version, dict(there)))
        known_version, known = past[prng.below(len(past))]
        changes = log.since(known_version, MANY)
        assert (changes is None) == (known_version < past[max(0, len(past) - 6)][0])
        if changes is not None:
            left = {number for number in known.values() if number not in changes[1]}
            assert left | {there[name] for name in changes[0] if name in there} == set(there.values())
