"""Which directory is the newest of a target, told by marks at both sides, wherever a start ends."""

from __future__ import annotations

from fs3.base.limits import generations_kept_max
from fs3.core.membership.generations import Lineage, begin, begin_beside, compare
from fs3.model.generation import Generation


def mark(number: int, letter: str = "a") -> Generation:
    return Generation(number, letter.encode() * 8)


def test_what_is_remembered_decides() -> None:
    assert compare((mark(4),), mark(4)) is Lineage.CURRENT
    assert compare((mark(4), mark(5, "b")), mark(5, "b")) is Lineage.CURRENT, "the answer to the last start was lost"
    assert compare((mark(4), mark(5, "b")), mark(5, "c")) is Lineage.BEHIND, "started from another copy since"
    assert compare((mark(4),), mark(4, "b")) is Lineage.BEHIND, "two starts from one copy"
    assert compare((mark(6),), mark(5)) is Lineage.AHEAD
    assert compare((), mark(5)) is Lineage.BEHIND, "it does not know"
    assert compare((), None) is Lineage.CURRENT
    assert compare((mark(9),), None) is Lineage.CURRENT, "it was never complete anywhere"


def test_a_copy_made_before_any_later_start_is_behind() -> None:
    """Whatever became of the starts between: those that were not registered, and those whose answer was lost."""
    directory = (mark(1),)
    copies = []
    for start in range(2, 9):
        copies.append(directory)
        directory = begin(directory, bytes([start]) * 8)
        copies.append(directory)  # of a start that did not go on
        if start % 3:
            directory = directory[-1:]
        else:
            continue
        remembered = directory[-1]
        for copy in copies[:-1]:
            assert compare(begin(copy, b"x" * 8), remembered) is Lineage.BEHIND
        assert compare(begin(directory, b"x" * 8), remembered) is Lineage.CURRENT


def test_starts_that_never_reach_the_manager_forget_nothing() -> None:
    directory = (mark(1),)
    for start in range(100):
        directory = begin(directory, bytes([start]) * 8)
        assert len(directory) <= generations_kept_max
    assert directory[0] == mark(1)
    assert compare(directory, mark(1)) is Lineage.CURRENT


def test_what_does_not_go_on_from_what_is_remembered_is_never_ahead_of_it() -> None:
    for remembered in (mark(7), None):
        beside = begin_beside(remembered, b"new mark")
        again = begin((beside,), b"x" * 8)
        assert compare(again, remembered) is (Lineage.CURRENT if remembered is None else Lineage.BEHIND)
