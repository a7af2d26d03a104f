"""The checker of files that several clients change and read as a whole."""

from __future__ import annotations

from fs3.base.units import NEVER
from fs3.sim.checkers.whole_files import WholeFileOperation, WholeFileStep, explain

PUT, APPEND, PATCH, CUT, READ = WholeFileStep


def one(step: WholeFileStep, begun: int, ended: int, data: bytes = b"", length: int = 0) -> WholeFileOperation:
    return WholeFileOperation(step, begun, data, length, ended)


def test_operations_one_after_the_other_are_explained() -> None:
    history = [
        one(PUT, 0, 1, b"abcdef"),
        one(APPEND, 2, 3, b"gh"),
        one(PATCH, 4, 5, b"XY"),
        one(READ, 6, 7, b"XYcdefgh"),
        one(CUT, 8, 9, length=4),
        one(READ, 10, 11, b"XYcd"),
    ]
    assert explain(history) == ""
    assert "read of 8 bytes" in explain([*history, one(READ, 12, 13, b"XYcdefgh")])


def test_what_was_acknowledged_is_there() -> None:
    history = [one(PUT, 0, 1, b"abcd"), one(APPEND, 2, 3, b"ef")]
    assert explain([*history, one(READ, 4, 5, b"abcd")])
    assert explain([*history, one(READ, 2, 5, b"abcd")]) == ""


def test_operations_at_once_may_be_in_either_order() -> None:
    history = [one(PUT, 0, 1, b"abcd"), one(APPEND, 2, 5, b"ef"), one(PUT, 3, 6, b"xyz")]
    assert explain([*history, one(READ, 7, 8, b"xyz")]) == ""
    assert explain([*history, one(READ, 7, 8, b"xyzef")]) == ""
    assert explain([*history, one(READ, 7, 8, b"abcdef")])
    assert explain([*history, one(READ, 7, 8, b"xyz"), one(READ, 9, 10, b"xyzef")])


def test_what_nobody_was_told_of_may_happen_late_or_never() -> None:
    history = [one(PUT, 0, 1, b"abcd"), one(APPEND, 2, NEVER, b"ef"), one(CUT, 2, NEVER, length=2)]
    assert explain([*history, one(READ, 100, 101, b"abcd")]) == ""
    assert explain([*history, one(READ, 100, 101, b"abcd"), one(READ, 102, 103, b"abcdef")]) == ""
    assert explain([*history, one(READ, 100, 101, b"ab")]) == ""
    assert explain([*history, one(READ, 100, 101, b"abcdef"), one(READ, 102, 103, b"abcd")])


def test_zeros_and_mixtures_are_wrong() -> None:
    history = [one(PUT, 0, 1, b"abcd"), one(PATCH, 2, 5, b"XY")]
    assert explain([*history, one(READ, 3, 4, b"\0\0\0\0")])
    assert explain([*history, one(READ, 3, 4, b"Xbcd")])
