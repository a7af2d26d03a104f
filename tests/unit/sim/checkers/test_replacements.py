"""What may be read of a file that is replaced and appended to, and what may not."""

import pytest

from fs3.sim.checkers.appends import NEVER, AppendedRecord, FileRead
from fs3.sim.checkers.replacements import explain

OLD = AppendedRecord(b"[old]", 10, 20)
NEW = AppendedRecord(b"[new]", 30, 40)
EARLY = AppendedRecord(b"<early>", 22, 25)
LATE = AppendedRecord(b"<late>", 42, 45)


def read(content, begun=50, ended=60):
    return FileRead(content, begun, ended)


@pytest.mark.parametrize(
    "reads",
    [
        [read(b"[new]<late>")],
        [read(b"[old]<early>", 26, 29)],
        [read(b"[old]<early>", 35, 36), read(b"[new]", 37, 41)],  # the replacement is seen before it is acknowledged
        [read(b"[old]", 12, 21)],
        [read(b"[old]<early>", 21, 24)],
    ],
)
def test_what_can_be_explained(reads):
    assert explain([OLD, NEW], [EARLY, LATE], reads) == ""


@pytest.mark.parametrize(
    ("reads", "why"),
    [
        ([read(b"")], "does not begin with a whole base"),
        ([read(b"[ne")], "does not begin with a whole base"),
        ([read(b"[new]\0\0\0")], "no record at 5"),
        ([read(b"[new]<late><late>")], "twice"),
        ([read(b"[new][old]")], "no record at 5"),
        ([read(b"[old]<early>")], "was replaced at 40"),
        ([read(b"[new]<late>", 5, 9)], "had not begun"),
        ([read(b"[new]<early><late>")], "belongs to an older content"),
        ([read(b"[new]")], "was appended to the base at 45"),
        ([read(b"[new]", 31, 32), read(b"[old]", 33, 34)], "has seen what replaced the base"),
        ([read(b"[old]<late>", 26, 28)], "a record had not begun"),
    ],
)
def test_what_cannot(reads, why):
    assert why in explain([OLD, NEW], [EARLY, LATE], reads)


def test_what_is_unknown_may_have_happened_or_not():
    unknown = AppendedRecord(b"[maybe]", 32, NEVER)
    assert explain([OLD, NEW, unknown], [], [read(b"[maybe]"), read(b"[maybe]", 70, 80)]) == ""
    assert explain([OLD, NEW, unknown], [], [read(b"[new]")]) == ""
    assert "now again" in explain([OLD, NEW, unknown], [], [read(b"[maybe]"), read(b"[new]", 70, 80), read(b"[maybe]", 90, 95)])


@pytest.mark.parametrize("content", [b"[refused]", b"[new]<refused>"])
def test_what_was_refused_is_nowhere(content):
    base = AppendedRecord(b"[refused]", 42, is_refused=True)
    record = AppendedRecord(b"<refused>", 42, is_refused=True)
    assert "was refused" in explain([NEW, base], [record], [read(content)])


def test_records_of_one_base_are_in_the_order_of_time():
    later = AppendedRecord(b"<later>", 46, 47)
    assert explain([NEW], [LATE, later], [read(b"[new]<late><later>")]) == ""
    assert "is before one" in explain([NEW], [LATE, later], [read(b"[new]<later><late>")])
