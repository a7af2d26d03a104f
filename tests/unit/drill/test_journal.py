"""The oracle must find what is wrong: a check that cannot fail proves nothing."""

import json
from pathlib import Path

import pytest

from fs3.drill.journal import (
    Journal,
    JournalWriter,
    Register,
    WrongBytes,
    read_journal,
    read_records,
    register_bytes,
    register_seq,
)

SIZE = 500


def test_contents_describe_themselves():
    data = register_bytes(7, 3, SIZE)
    assert len(data) == SIZE
    assert register_seq(7, data) == 3
    assert data != register_bytes(7, 4, SIZE)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda data: b"", "no content"),
        (lambda data: bytes(SIZE), "somebody else"),
        (lambda data: register_bytes(8, 3, SIZE), "somebody else"),
        (lambda data: data[:-1], "499 are there"),
        (lambda data: data[:250] + register_bytes(7, 4, SIZE)[250:], "mixed"),
        (lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:], "mixed"),
    ],
)
def test_other_bytes_are_found(spoil, why):
    with pytest.raises(WrongBytes, match=why):
        register_seq(7, spoil(register_bytes(7, 3, SIZE)))


def test_what_a_read_may_show():
    register = Register(7, SIZE, acknowledged_seq=3, sent_seq=4)
    assert register.check_read(register_bytes(7, 3, SIZE), register.floor) == 3
    assert register.check_read(register_bytes(7, 4, SIZE), register.floor) == 4
    # Somebody has seen write 4, although nobody has been told that it happened: nobody sees write 3 any more.
    with pytest.raises(WrongBytes, match="a read shows write 3"):
        register.check_read(register_bytes(7, 3, SIZE), register.floor)
    with pytest.raises(WrongBytes, match="a read shows write 5"):
        register.check_read(register_bytes(7, 5, SIZE), register.floor)
    with pytest.raises(WrongBytes, match="a read shows write 0"):
        register.check_read(None, register.floor)


def test_a_read_that_began_earlier_may_show_less():
    register = Register(7, SIZE, acknowledged_seq=3, sent_seq=4)
    floor = register.floor
    register.acknowledge(4, 0)
    assert register.check_read(register_bytes(7, 3, SIZE), floor) == 3
    assert register.floor == 4


def test_a_write_that_happened_twice_is_found():
    register = Register(7, SIZE, sent_seq=2)
    register.acknowledge(1, 1)
    with pytest.raises(WrongBytes, match="each must happen once"):
        register.acknowledge(2, 3)


def test_a_journal_says_what_happened(tmp_path: Path):
    path = tmp_path / "journal"
    journal = JournalWriter(path)
    for record in (
        ("register", 1, SIZE), ("send", 1, 1), ("ack", 1, 1, 1), ("send", 1, 2), ("seen", 1, 2), ("uncertain", 1),
        ("file", "/a", 10), ("file", "/b", 20), ("remove", "/a"), ("pages", 99), ("page", "k"),
        ("time", "write", 1_000_000_000, 3_000_000_000), ("failed", "put", "NO_SPACE"), ("wrong", "x"),
    ):  # fmt: skip
        journal.append(*record)
    journal.close()
    with path.open("ab") as out:
        out.write(b'["send",1')  # it was killed in the middle of a line
    journal = read_journal(path)
    assert journal.registers == {
        1: Register(1, SIZE, acknowledged_seq=1, sent_seq=2, seen_seq=2, chunk_version=1, is_uncertain=True)
    }
    assert journal.files == {"/b": 20}
    assert (journal.page_bytes, journal.pages) == (99, ["k"])
    assert journal.longest("write") == 2.0
    assert journal.longest("write", since=3_000_000_000) == 0
    assert (journal.count("write"), journal.count("read")) == (1, 0)
    assert journal.failed == [("put", "NO_SPACE")]
    assert journal.wrong == ["x"]
    # The rest of the line is read once it is there.
    offset = max(behind for _, behind in read_records(path))
    with path.open("ab") as out:
        out.write(b",3]\n")
    assert [record for record, _ in read_records(path, offset)] == [["send", 1, 3]]


def test_a_journal_of_another_kind_is_refused(tmp_path: Path):
    path = tmp_path / "journal"
    path.write_text(json.dumps(["nonsense"]) + "\n")
    with pytest.raises(ValueError, match="nonsense"):
        read_journal(path)
    assert Journal().wrong == []
