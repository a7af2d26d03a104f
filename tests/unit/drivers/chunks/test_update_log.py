"""The log of a target: what is in it after a crash, and what of it counts."""

import errno
import os

import pytest

from fs3.base.checksum import crc32c
from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.base.units import KIB
from fs3.drivers.chunks.log_records import BlockWrite, PackedRows
from fs3.drivers.chunks.update_log import NAME, LogFull, LogPosition, UpdateLog, create_log
from fs3.ports.chunk_store import StoreDamaged

SEGMENT = 32 * KIB
PAGE = 4 * KIB


class Log:
    """A log in a directory, opened again and again."""

    def __init__(self, directory):
        self.directory = directory
        self.position = create_log(directory, SEGMENT)
        self.open_log = None

    def open(self, first=None, segments_max=2):
        self.close()
        if first is not None:
            self.position = LogPosition(self.position.log_id, first, self.position.segments)
        self.open_log = UpdateLog(self.directory, self.position, segments_max)
        return self.open_log.recover()

    def append(self, number, data=b"", place=7):
        rows = PackedRows({b"chunk %d" % number: b"row"}, {b"channel": None}, {}, number)
        return self.open_log.append(rows, [BlockWrite(place, number, memoryview(data) if data else None)])

    def change(self, offset, data):
        fd = os.open(self.directory / NAME, os.O_RDWR)
        os.pwrite(fd, data, offset)
        os.close(fd)

    def close(self):
        if self.open_log is not None:
            self.open_log.close()
            self.open_log = None


@pytest.fixture
def log(tmp_path):
    made = Log(tmp_path)
    yield made
    made.close()


def test_records_are_found_again_in_order(log):
    assert log.open() == []
    assert [log.append(number, b"x" * number) for number in range(3)] == [1, 2, 3]
    for _ in range(2):
        found = log.open()
        assert [record.seq for record in found] == [1, 2, 3]
        assert [bytes(record.writes[0].data or b"") for record in found] == [b"", b"x", b"xx"]
        assert found[2].rows == PackedRows({b"chunk 2": b"row"}, {b"channel": None}, {}, 2)
        assert (found[2].writes[0].place, found[2].writes[0].start) == (7, 2)
    assert log.append(3) == 4
    assert [record.seq for record in log.open(first=3)] == [3, 4]


@pytest.mark.parametrize("how", ["lost", "other bytes"])
def test_a_torn_tail_is_cut_and_the_log_goes_on(log, how):
    log.open()
    log.append(1, b"a" * 5000)
    before = (log.directory / NAME).read_bytes()
    log.append(2, b"b" * 5000)
    whole = (log.directory / NAME).read_bytes()
    begin = PAGE + 2 * PAGE
    for sector in range(begin, begin + 5000, 512):
        image = bytearray(whole)
        image[sector : sector + 512] = before[sector : sector + 512] if how == "lost" else b"?" * 512
        log.close()
        (log.directory / NAME).write_bytes(image)
        assert [record.seq for record in log.open()] == [1]
        assert log.append(9, b"c") == 2
        assert [bytes(record.writes[0].data[:1]) for record in log.open()] == [b"a", b"c"]


def test_a_record_that_is_missing_before_others_is_damage(log):
    log.open()
    for number in range(1, 4):
        log.append(number)
    log.change(2 * PAGE + 30, b"rot")
    with pytest.raises(StoreDamaged, match="record 2 of the log is damaged"):
        log.open()
    assert [record.seq for record in log.open(first=3)] == [3]


def test_a_full_log_is_written_anew_after_a_checkpoint(log):
    log.open()
    for number in range(1, 17):
        log.append(number)
    with pytest.raises(LogFull):
        log.append(17)
    assert [record.seq for record in log.open()] == [*range(1, 17)]
    log.open_log.release(9)
    assert log.append(17) == 17
    # What is left of the first round of the segment does not count, nor does a hole in it.
    assert [record.seq for record in log.open(first=9)] == [*range(9, 18)]
    assert not log.open_log.has_filled_segments or log.append(18) == 18


def test_a_record_larger_than_a_segment_finds_no_room(log):
    log.open()
    with pytest.raises(LogFull):
        log.append(1, bytes(SEGMENT))
    log.open_log.skip()
    assert log.append(2) == 2
    assert [record.seq for record in log.open(first=2)] == [2]


def test_a_disk_without_room_for_a_segment(log, monkeypatch):
    log.open()
    real = os.pwrite

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(LogFull):
            log.append(1)
    assert os.pwrite is real
    assert log.append(1) == 1
    assert [record.seq for record in log.open()] == [1]


def test_a_segment_there_is_no_room_for_keeps_nothing_of_the_disk(log, monkeypatch):
    log.open()
    log.append(1, bytes(SEGMENT - PAGE))
    before = (log.directory / NAME).stat().st_size
    real, calls = os.pwrite, []

    def fill_up(fd, data, at):
        calls.append(at)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data[:PAGE], at)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", fill_up)
        with pytest.raises(LogFull):
            log.append(2)
    assert len(calls) == 2
    assert (log.directory / NAME).stat().st_size == before
    assert log.append(2) == 2
    assert [record.seq for record in log.open()] == [1, 2]


def test_a_log_of_another_format_is_left_alone(log):
    head = bytearray((log.directory / NAME).read_bytes()[:24])
    head[8] = 9
    log.change(0, bytes(head) + crc32c(bytes(head)).to_bytes(4, "little"))
    with pytest.raises(FS3Error, match="the log is in format 9") as caught:
        log.open()
    assert caught.value.code is Code.UNSUPPORTED


def test_a_copy_of_a_record_among_data_does_not_count(log):
    log.open()
    log.append(1)
    record = (log.directory / NAME).read_bytes()[PAGE : 2 * PAGE]
    # So that the copy begins at a page of the segment, where a record might.
    body = len(record.rstrip(b"\0"))
    log.open(first=1)
    log.append(2, bytes(PAGE - body) + record * 2)
    assert [record.seq for record in log.open()] == [1, 2]
    log.change(2 * PAGE + 30, b"torn")
    assert [record.seq for record in log.open()] == [1]


def test_after_a_failed_sync_nothing_is_appended(log, monkeypatch):
    log.open()
    log.append(1)

    def fail(fd):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(OSError, match="Input/output error"):
            log.append(2)
    with pytest.raises(OSError, match="Input/output error"):
        log.append(2)


def test_the_last_record_is_synced_again_before_anybody_hears_of_it(log, monkeypatch):
    """A process that was killed may have left it in the page cache only, marked clean by a sync that had failed."""
    log.open()
    log.append(1)
    log.append(2, b"b" * 5000)
    calls = []
    pwrite, fdatasync = os.pwrite, os.fdatasync
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: calls.append((at, len(data))) or pwrite(fd, data, at))
    monkeypatch.setattr(os, "fdatasync", lambda fd: calls.append("sync") or fdatasync(fd))
    log.open()
    assert calls == [(2 * PAGE, 2 * PAGE), "sync"]
    calls.clear()
    log.open(first=3)
    assert calls == []


def test_a_log_that_is_not_the_one_of_the_index(log, tmp_path):
    log.open()
    log.append(1)
    log.close()
    file = log.directory / NAME
    whole = file.read_bytes()
    log.position = LogPosition(log.position.log_id, 1, 1)
    file.write_bytes(whole[:-1])
    with pytest.raises(StoreDamaged, match="has 0 segments, it had 1"):
        log.open()
    file.write_bytes(whole[:100])
    with pytest.raises(StoreDamaged, match="it had 1"):
        log.open()
    file.write_bytes(b"!" + whole[1:])
    with pytest.raises(StoreDamaged, match="head of the log is damaged"):
        log.open()
    file.write_bytes(b"")
    with pytest.raises(StoreDamaged, match="head of the log is damaged"):
        log.open()
    other = tmp_path / "other"
    other.mkdir()
    create_log(other, SEGMENT)
    file.write_bytes((other / NAME).read_bytes())
    with pytest.raises(StoreDamaged, match="not the one of this index"):
        log.open()
    file.unlink()
    with pytest.raises(StoreDamaged, match="the log is gone"):
        log.open()


def test_a_log_that_cannot_be_read(log, monkeypatch):
    log.open()

    def fail(*args):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(FS3Error, match="cannot read the log: Input/output error") as caught:
        log.open()
    assert caught.value.code is Code.DISK
