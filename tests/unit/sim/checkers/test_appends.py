"""The checker of files that several clients append to."""

from __future__ import annotations

from fs3.sim.checkers.appends import AppendedRecord, FileRead, explain

A = AppendedRecord(b"<a>", 10, 20)
B = AppendedRecord(b"<bb>", 15, 30)
C = AppendedRecord(b"<ccc>", 40, 50)


def test_whole_records_in_an_order_of_real_time_are_right() -> None:
    assert explain([A, B, C], [FileRead(b"<a><bb><ccc>", 60, 70)]) == ""
    assert explain([A, B, C], [FileRead(b"<bb><a><ccc>", 60, 70), FileRead(b"<bb>", 16, 18)]) == ""
    assert "before one that was acknowledged" in explain([A, B, C], [FileRead(b"<a><ccc><bb>", 60, 70)])


def test_what_was_acknowledged_is_there_once() -> None:
    assert "acknowledged at 30" in explain([A, B], [FileRead(b"<a>", 35, 70)])
    assert explain([A, B], [FileRead(b"<a>", 25, 70)]) == ""
    assert "twice" in explain([A, B], [FileRead(b"<a><bb><a>", 60, 70)])


def test_nothing_else_is_there() -> None:
    assert "no record at 3" in explain([A, B], [FileRead(b"<a>\0\0\0\0", 60, 70)])
    assert "no record at 3" in explain([A, B], [FileRead(b"<a><b", 60, 70)])
    assert "had not begun" in explain([A, B, C], [FileRead(b"<a><bb><ccc>", 31, 35)])
    unknown, refused = AppendedRecord(b"<u>", 10), AppendedRecord(b"<r>", 10, is_refused=True)
    assert explain([unknown], [FileRead(b"", 1000, 1001)]) == ""
    assert explain([unknown], [FileRead(b"<u>", 1000, 1001)]) == ""
    assert "refused" in explain([refused], [FileRead(b"<r>", 1000, 1001)])


def test_reads_show_one_file_that_grows() -> None:
    assert "no beginning" in explain([A, B], [FileRead(b"<a>", 20, 21), FileRead(b"<bb><a>", 60, 70)])
    assert "were read before" in explain([A, B], [FileRead(b"<a><bb>", 16, 19), FileRead(b"<a>", 21, 22)])
