"""The checker of files that several clients write and truncate."""

from __future__ import annotations

from fs3.base.units import NEVER
from fs3.sim.checkers.shared_files import Cut, SlotRead, SlotWrite, explain

A = SlotWrite(0, b"a", 10, 20, 30)


def test_what_was_published_is_there() -> None:
    assert explain([A], [], [SlotRead((b"a",), 40, 50)]) == ""
    assert "nothing has taken it away" in explain([A], [], [SlotRead((b"",), 40, 50)])
    assert explain([A], [], [SlotRead((b"",), 25, 50)]) == "", "it may have looked before the close"


def test_what_was_never_written_is_not() -> None:
    assert "no writer" in explain([A], [], [SlotRead((b"b",), 40, 50)])
    assert "no writer" in explain([A], [], [SlotRead((b"", b"a"), 25, 50)])
    assert "no writer" in explain([A], [], [SlotRead((b"a",), 1, 5)])


def test_a_truncation_takes_away_what_was_before_it_and_nothing_else() -> None:
    cut = Cut(0, 40, 50)
    assert "before the truncation" in explain([A], [cut], [SlotRead((b"a",), 60, 70)])
    assert explain([A], [cut], [SlotRead((b"",), 60, 70)]) == ""
    assert explain([A], [cut], [SlotRead((b"a",), 45, 70)]) == "", "under way"
    assert explain([A], [Cut(0, 40, NEVER)], [SlotRead((b"a",), 60, 70), SlotRead((b"",), 80, 90)]) == "", "it may come yet"
    assert explain([A], [Cut(0, 15, 50)], [SlotRead((b"a",), 60, 70)]) == "", "at the same time as the write"
    assert "nothing has taken" in explain([A], [Cut(0, 1, 5)], [SlotRead((b"",), 60, 70)])
    assert "nothing has taken" in explain([A], [Cut(1, 40, 50)], [SlotRead((b"",), 60, 70)])


def test_a_later_write_replaces_an_earlier_one() -> None:
    b = SlotWrite(0, b"b", 25, 35, NEVER)
    assert "replaced" in explain([A, b], [], [SlotRead((b"a",), 40, 50)])
    assert explain([A, b], [], [SlotRead((b"a",), 30, 50), SlotRead((b"b",), 30, 50)]) == ""
