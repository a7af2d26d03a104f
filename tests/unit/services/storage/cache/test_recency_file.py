"""The order of pages as a file on a real disk: what was written is read, a damaged one is a cold start and a line in the log."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from pathlib import Path

import pytest

from fs3.base.errors import FS3Error
from fs3.base.ids import TargetId
from fs3.base.status import Code
from fs3.core.kvcache.budget.seams import NamespaceLimits
from fs3.core.kvcache.recency.sample import PART_PAGES
from fs3.drivers.os.data_directories import DataDirectories
from fs3.services.storage.cache.recency_file import load_recency, save_recency

TARGET = TargetId(101)
PAGES = 20


@pytest.fixture
def disks(tmp_path):
    disks = DataDirectories([tmp_path / "data"], "storage-1")
    disks.make(TARGET, whole=True)
    return disks


@pytest.fixture
def file(tmp_path):
    return tmp_path / "data" / "targets" / str(TARGET) / "recency"


@pytest.fixture
def warnings(caplog):
    """What the log has of the storage node, at warning and above."""
    caplog.set_level(logging.WARNING, "fs3.storage")
    return lambda: caplog.messages


@pytest.fixture
async def make(shell, open_keeper, limits, disks):
    """A keeper of the pages the target has, that has taken over what was written down; as after a restart."""
    limits.known[1] = NamespaceLimits()

    async def make(pages=PAGES):
        for number in range(pages):
            shell.hold(number)
        keeper = await open_keeper()
        await load_recency(disks, keeper, shell.clock)
        return keeper

    return make


def order_of(keeper):
    """The pages, from the next one to go."""
    recency = keeper.cache.namespaces[1].recency
    now = keeper.shell.clock.now()
    return [recency.victim(now, lambda chunk: False) for _ in range(len(recency))]


async def use(shell, keeper, disks, help, numbers=range(PAGES)):
    """Read pages one after the other, in this order, and write that down."""
    for number in numbers:
        shell.clock.time += 10**9
        keeper.note_reads([help.page(number)])
        keeper.apply_reads(shell.clock.now())
    await save_recency(disks, keeper, shell.clock)
    return [help.page(number) for number in numbers]


BACKWARDS = range(PAGES - 1, -1, -1)


async def test_a_restart_keeps_the_order(shell, make, disks, help, warnings):
    used = await use(shell, await make(), disks, help, BACKWARDS)
    assert order_of(await make()) == used
    assert warnings() == []


async def test_a_first_start_is_cold_and_says_nothing(make, file, warnings):
    keeper = await make()
    assert keeper.is_restored
    assert not file.exists()
    assert warnings() == []


@pytest.mark.parametrize("name", ["one byte", "half", "all but one byte", "a flipped bit", "another format", "zeros"])
async def test_a_damaged_file_is_a_cold_start_and_a_line_in_the_log(shell, make, disks, file, help, warnings, name):
    await use(shell, await make(), disks, help, BACKWARDS)
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 4
    damaged = {
        "one byte": whole[:1],
        "half": whole[: len(whole) // 2],
        "all but one byte": whole[:-1],
        "a flipped bit": bytes(flipped),
        "another format": b'{"format": 2}' * 10,
        "zeros": bytes(5000),
    }[name]
    file.write_bytes(damaged)
    keeper = await make()
    assert keeper.is_restored
    assert keeper.cache.pages == PAGES
    assert set(order_of(keeper)) == {help.page(number) for number in range(PAGES)}
    (line,) = warnings()
    assert line.startswith("target 101: the order of its pages is damaged")
    # And it is written anew as ever.
    used = await use(shell, keeper, disks, help)
    assert order_of(await make()) == used


async def test_an_empty_file_is_a_cold_start(shell, make, disks, file, help):
    await use(shell, await make(), disks, help, BACKWARDS)
    file.write_bytes(b"")
    keeper = await make()
    assert keeper.is_restored
    assert len(order_of(keeper)) == PAGES


async def test_of_several_parts_only_the_damaged_one_is_lost(shell, make, disks, file, help, warnings):
    count = 2 * PART_PAGES + 100
    keeper = await make(count)
    keeper.note_reads([help.page(number) for number in range(count)])
    await save_recency(disks, keeper, shell.clock)
    data = bytearray(file.read_bytes())
    data[PART_PAGES * 10] ^= 1
    file.write_bytes(data)
    before = order_of(keeper)
    lost = set(before[:PART_PAGES])
    found = order_of(await make(count))
    assert [chunk for chunk in found if chunk not in lost] == before[PART_PAGES:]
    assert len(warnings()) == 1


async def test_a_file_that_cannot_be_read_is_a_cold_start_and_a_line_in_the_log(shell, make, disks, file, help, warnings):
    await use(shell, await make(), disks, help)
    file.unlink()
    file.mkdir()
    keeper = await make()
    assert keeper.is_restored
    assert "the order of its pages is not known any more" in warnings()[0]
    file.rmdir()


async def test_a_disk_without_room_keeps_what_is_written(shell, make, disks, file, help, warnings, monkeypatch):
    keeper = await make()
    used = await use(shell, keeper, disks, help, BACKWARDS)
    write = Path.write_bytes

    def write_half(path, content):
        write(path, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", write_half)
        await use(shell, keeper, disks, help)
    assert "the order of its pages is not written down" in warnings()[0]
    assert sorted(path.name for path in file.parent.iterdir()) == ["recency", "target.json"], "half a file takes room"
    assert order_of(await make()) == used
    # With room again it is written at the next occasion, though nothing was read since.
    await save_recency(disks, keeper, shell.clock)
    assert order_of(await make()) == [help.page(number) for number in range(PAGES)]


async def test_the_disk_says_why_it_was_not_written(disks, file):
    file.mkdir()
    with pytest.raises(FS3Error, match="recency cannot be written") as wrong:
        await disks.write_recency(TARGET, b"x")
    assert wrong.value.code is Code.DISK
    with pytest.raises(FS3Error, match="target 7 has no directory here"):
        await disks.read_recency(TargetId(7))
    file.rmdir()
    assert await disks.read_recency(TARGET) == b""
    await disks.write_recency(TARGET, b"x")
    assert await disks.read_recency(TARGET) == b"x"


async def test_what_is_not_taken_over_yet_does_not_replace_what_is_written(shell, make, open_keeper, disks, file, help):
    await use(shell, await make(), disks, help, BACKWARDS)
    written = file.read_bytes()
    young = await open_keeper(counted=False)
    young.note_reads([help.page(1)])
    await save_recency(disks, young, shell.clock)
    assert file.read_bytes() == written


async def test_nothing_is_written_when_nothing_has_changed(shell, make, disks, file, help):
    await use(shell, await make(), disks, help)
    file.unlink()
    keeper = await make()
    await save_recency(disks, keeper, shell.clock)
    assert not file.exists()
    shell.put(50)
    shell.commit(shell.tokens)
    await save_recency(disks, keeper, shell.clock)
    assert file.exists()


async def test_a_target_that_closes_while_it_is_counted_takes_nothing_over(shell, open_keeper, disks, file, help):
    for number in range(PAGES):
        shell.hold(number)
    keeper = await open_keeper(counted=False)
    loading = asyncio.ensure_future(load_recency(disks, keeper, shell.clock))
    await keeper.stop()
    with pytest.raises(asyncio.CancelledError):
        await loading
    await save_recency(disks, keeper, shell.clock)
    assert not file.exists()
