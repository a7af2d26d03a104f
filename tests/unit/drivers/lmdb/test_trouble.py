"""A disk that is full, or fails: what is told to whom, and that work goes on once it can."""

import asyncio
import logging
import os
import subprocess
from pathlib import Path

import lmdb
import pytest

from fs3.base.errors import FS3Error, error
from fs3.base.limits import transactions_per_commit_max
from fs3.base.status import Code
from fs3.base.units import MIB, SECOND
from fs3.drivers.lmdb import LmdbKV
from fs3.drivers.lmdb.env import Environment
from fs3.drivers.lmdb.trouble import StoreTrouble, lmdb_trouble_ns_max
from fs3.drivers.os.space_reserve import reserve_disk_share
from fs3.ports.kv import RoomMaker
from fs3.sim.conformance.kv import append_count, failure, get, puts, read_all_rows, start_transaction

EIO = "mdb_txn_commit: Input/output error"


class FailingDisk(Environment):
    """An environment whose commits fail as they are told to: (what, whether it is stored all the same)."""

    def __init__(self, directory):
        super().__init__(directory, "kv", 1, map_bytes=1 << 24, map_bytes_max=1 << 24)
        self.failures = []
        self.always = None
        self.reopened = 0

    def write(self, txn, rows, *, use_reserve=False):
        failing, stored = self.failures.pop(0) if self.failures else (self.always, False)
        if failing is None:
            return super().write(txn, rows)
        if stored:
            super().write(txn, rows)
        else:
            self.abort_write(txn)
        raise failing

    def reopen(self):
        self.reopened += 1
        super().reopen()


@pytest.fixture
async def failing(tmp_path):
    disk = FailingDisk(tmp_path)
    kv = LmdbKV(disk, None)
    await kv.transact(puts({b"a": b"1"}))
    yield disk, kv
    disk.always = None
    await kv.close()


async def test_a_failure_that_passes_is_noticed_by_nobody_but_the_log(failing, caplog):
    disk, kv = failing
    disk.failures = [(lmdb.Error(EIO), False)]
    futures = [start_transaction(kv, append_count(b"n")) for _ in range(transactions_per_commit_max + 5)]
    assert await asyncio.gather(*futures) == list(range(len(futures)))
    assert disk.reopened == 1
    assert "opened anew" in caplog.text
    assert "works again" in caplog.text


async def test_while_it_fails_everybody_is_told_and_reads_go_on(failing, caplog):
    disk, kv = failing
    disk.always = lmdb.Error(EIO)
    futures = [start_transaction(kv, append_count(b"n")) for _ in range(transactions_per_commit_max + 5)]
    assert {(await failure(future)).code for future in futures} == {Code.DISK}
    assert (await failure(start_transaction(kv, append_count(b"n")))).code is Code.DISK
    assert await read_all_rows(kv) == [(b"a", b"1")]
    disk.always = None
    assert await kv.transact(append_count(b"n")) == 0, "as if the others had never been"
    assert [record.levelname for record in caplog.records if record.name == "fs3.lmdb"] == ["ERROR", "WARNING"]


async def test_what_may_have_been_stored_is_not_done_twice(failing):
    """The disk says that it failed, and has it all the same: the caller is told that nobody knows, as it must be."""
    disk, kv = failing
    disk.failures = [(lmdb.Error(EIO), True)]
    assert (await failure(start_transaction(kv, append_count(b"n")))).code is Code.DISK
    assert await kv.read(get(b"n")) == b"1"
    assert await kv.transact(append_count(b"n")) == 1


async def test_an_environment_that_lmdb_has_given_up_is_opened_anew(tmp_path):
    """The page that makes a commit visible cannot be written: LMDB answers MDB_PANIC to everything from then on, reads too."""
    kv = LmdbKV.open(tmp_path)
    await kv.transact(puts({b"a": b"1"}))
    # The descriptor LMDB writes those pages with is the one that syncs by itself.
    data = str(tmp_path / "data.mdb")
    [synced] = [
        int(name)
        for name in os.listdir("/proc/self/fd")
        if os.path.realpath(f"/proc/self/fd/{name}") == data and _flags(name) & os.O_DSYNC
    ]
    unwritable = os.open(data, os.O_RDONLY)
    os.dup2(unwritable, synced)
    os.close(unwritable)
    await kv.transact(puts({b"b": b"1"}))
    assert await read_all_rows(kv) == [(b"a", b"1"), (b"b", b"1")]
    await kv.close()


def _flags(descriptor):
    [line] = [line for line in Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines() if line.startswith("flags:")]
    return int(line.split()[1], 8)


@pytest.fixture
def small_disk(tmp_path):
    mount = tmp_path / "small"
    mount.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "fs3-test", str(mount)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


@pytest.mark.parametrize("value_bytes", [300, 3000, 30_000])
async def test_a_full_disk_is_full_for_long_and_then_there_is_room(small_disk, caplog, value_bytes):
    """Whatever LMDB says of it: a write of several pages that ends early is an EIO to it, and may be so again and again."""
    ballast = small_disk / "ballast"
    kv = LmdbKV.open(small_disk / "kv")
    await kv.transact(puts({b"first": b"1"}))
    room = os.statvfs(small_disk)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(0, room.f_bavail * room.f_frsize - 1_000_000))
    stored, refused = 0, 0
    while refused < 200:
        values = [puts({b"%06d-%d" % (stored, index): bytes(value_bytes)}) for index in range(7)]
        for future in [start_transaction(kv, value) for value in values]:
            await asyncio.wait({future})
            if (why := future.exception()) is None:
                stored += 1
            else:
                refused += 1
                assert isinstance(why, FS3Error)
                assert why.code is Code.NO_SPACE, why
    rows = await read_all_rows(kv)
    assert len(rows) == stored + 1, "nothing is lost, and nothing is there by halves"
    ballast.unlink()
    for number in range(100):
        await kv.transact(puts({b"later%d" % number: bytes(value_bytes)}))
    assert len(await read_all_rows(kv)) == stored + 101
    await kv.close()
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) < 50, "one line when it changes, not one for each operation"
    again = LmdbKV.open(small_disk / "kv")
    assert len(await read_all_rows(again)) == stored + 101
    await again.close()


async def test_what_makes_room_is_done_on_a_full_disk(small_disk):
    """No page can be used again, as somebody reads for long: every commit needs room. Only what makes room gets it."""
    kv = LmdbKV.open(small_disk / "kv")
    reserve = small_disk / "kv" / "reserve"
    whole = reserve.stat().st_size
    assert whole == 12 * MIB // reserve_disk_share
    await kv.transact(puts({b"%04d" % number: bytes(1000) for number in range(500)}))
    held = kv._environment.hold_state()
    ballast = fill(small_disk)

    def removal(number):
        return puts({b"%04d" % number: None})

    assert (await failure(start_transaction(kv, puts({b"new": bytes(1000)})))).code is Code.NO_SPACE
    assert (await failure(start_transaction(kv, removal(0)))).code is Code.NO_SPACE
    # In one batch with what does not fit, and one after another.
    mixed = [start_transaction(kv, RoomMaker(removal(0))), start_transaction(kv, puts({b"new": bytes(1000)}))]
    assert (await failure(mixed[1])).code is Code.NO_SPACE
    await mixed[0]
    for number in range(1, 20):
        await kv.transact(RoomMaker(removal(number)))
    assert reserve.stat().st_size < whole
    assert (await failure(start_transaction(kv, puts({b"new": bytes(100_000)})))).code is Code.NO_SPACE
    assert [key for key, _ in await read_all_rows(kv)] == [b"%04d" % number for number in range(20, 500)]
    ballast.unlink()
    await kv.transact(puts({b"new": bytes(1000)}))
    assert reserve.stat().st_size == whole, "it is filled up before anything else gets room"
    held.release()
    await kv.close()


def fill(disk):
    """Leave not one block free."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        room = os.statvfs(disk)
        os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize)
    return ballast


def test_a_full_disk_at_opening_is_named(small_disk):
    fill(small_disk)
    with pytest.raises(FS3Error) as refused:
        LmdbKV.open(small_disk / "kv")
    assert refused.value.code is Code.NO_SPACE


class TestGivingUp:
    """A store that has not worked for long never will: the process that has it is told, once, and ends."""

    def make(self, tmp_path):
        told = []
        return StoreTrouble(tmp_path, told.append), told

    def test_after_failing_for_long(self, tmp_path):
        trouble, told = self.make(tmp_path)
        why = error(Code.DISK, "no disk")
        for now in range(0, lmdb_trouble_ns_max, SECOND):
            trouble.note_failure(now, why)
        assert told == []
        assert trouble.failure is None
        for now in range(lmdb_trouble_ns_max, 2 * lmdb_trouble_ns_max, SECOND):
            trouble.note_failure(now, why)
        assert told == [why]
        assert trouble.failure is why

    def test_not_when_it_has_worked_in_between(self, tmp_path):
        trouble, told = self.make(tmp_path)
        for now in range(0, 10 * lmdb_trouble_ns_max, SECOND):
            trouble.note_failure(now, error(Code.DISK, "no disk"))
            if now % (lmdb_trouble_ns_max // 2) == 0:
                trouble.end()
        assert told == []

    def test_not_for_being_full(self, tmp_path):
        trouble, told = self.make(tmp_path)
        for _ in range(1000):
            trouble.note_full(error(Code.NO_SPACE, "full"))
        assert told == []
        assert not trouble.is_failing

    async def test_then_every_transaction_is_refused_with_the_reason(self, tmp_path, monkeypatch):
        told = []
        disk = FailingDisk(tmp_path)
        kv = LmdbKV(disk, None, told.append)
        await kv.transact(puts({b"a": b"1"}))
        disk.always = lmdb.Error(EIO)
        monkeypatch.setattr("fs3.drivers.lmdb.trouble.lmdb_trouble_ns_max", 0)
        await failure(start_transaction(kv, append_count(b"n")))
        assert len(told) == 1
        disk.always = None
        refused = await failure(start_transaction(kv, append_count(b"n")))
        assert refused.code is Code.DISK
        assert "given up" in str(refused)
        assert "Input/output error" in str(refused)
        assert await read_all_rows(kv) == [(b"a", b"1")]
        await kv.close()
