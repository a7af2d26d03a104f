"""One budget for what a client process holds: every way to read or write takes its memory out of it, however many there are."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
import pytest

from fs3.api.io.buffer_budget import buffer_budget, file_buffer_bytes_min
from fs3.base.units import MIB

LIMIT = 4 * MIB
MANY = 16
"""As many files as hold four times the limit. Each rewrites its chunks several times: the cluster, which other tests share, keeps
the space."""
DATA = random.Random(3).randbytes(MIB)


class Peak:
    """The most that was held while storage was asked for something."""

    def __init__(self) -> None:
        self.bytes = 0

    def look(self) -> None:
        self.bytes = max(self.bytes, buffer_budget.held)


@pytest.fixture
def peak(fs: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Peak]:
    """A budget of `LIMIT` bytes, of which nothing is held before and after."""
    assert buffer_budget.held == 0
    monkeypatch.setattr(buffer_budget, "_limit", LIMIT)
    monkeypatch.setattr(buffer_budget, "_transfers_min", LIMIT // 4)
    storage = fsspec.asyn.sync(fs.loop, fs._client).storage
    seen = Peak()

    def looking(name: str) -> None:
        ask = getattr(storage, name)

        async def looked(*args: Any, **kwargs: Any) -> Any:
            seen.look()
            return await ask(*args, **kwargs)

        monkeypatch.setattr(storage, name, looked)

    looking("read")
    looking("read_one")
    looking("update")
    yield seen
    assert 0 < seen.bytes <= LIMIT + MANY * file_buffer_bytes_min
    assert buffer_budget.held == 0


def test_appending_handles(fs: Any, room: str, peak: Peak) -> None:
    files = [fs.open(f"{room}/{number}", "ab") for number in range(MANY)]
    for start in range(0, MIB, MIB // 8):
        for file in files:
            file.write(DATA[start : start + MIB // 8])
            peak.look()
    for file in files:
        file.close()
    assert {fs.cat_file(f"{room}/{number}") for number in range(MANY)} == {DATA}


def test_files_written_by_coroutines(fs: Any, room: str, peak: Peak) -> None:
    async def write(number: int) -> None:
        async with await fs.open_async(f"{room}/{number}", "wb") as file:
            for start in range(0, MIB, MIB // 16):
                await file.write(DATA[start : start + MIB // 16])
                peak.look()
                await asyncio.sleep(0)

    async def write_all() -> None:
        await asyncio.gather(*(write(number) for number in range(MANY)))

    fsspec.asyn.sync(fs.loop, write_all)
    assert {fs.cat_file(f"{room}/{number}") for number in range(MANY)} == {DATA}


def test_ranges_and_whole_files_that_are_read_at_once(fs: Any, room: str, peak: Peak) -> None:
    fs.pipe_file(f"{room}/x", DATA)

    async def read_all() -> list[Any]:
        ranges = [fs._cat_ranges([f"{room}/x"] * 2, [0, MIB // 2], [MIB // 2, MIB]) for _ in range(MANY)]
        files = [fs._cat_file(f"{room}/x") for _ in range(MANY)]
        return [b"".join(one) for one in await asyncio.gather(*ranges)] + await asyncio.gather(*files)

    assert fsspec.asyn.sync(fs.loop, read_all) == [DATA] * 2 * MANY


def test_pipes_that_nothing_is_taken_out_of_hold_little_and_stop_no_other_transfer(
    fs: Any, room: str, tmp_path: Path, peak: Peak
) -> None:
    fs.pipe_file(f"{room}/x", DATA)
    pipes = [tmp_path / f"pipe{number}" for number in range(MANY)]
    for pipe in pipes:
        os.mkfifo(pipe)
    readers = [os.open(pipe, os.O_RDONLY | os.O_NONBLOCK) for pipe in pipes]
    getting = threading.Thread(target=lambda: fs.get([f"{room}/x"] * MANY, [str(pipe) for pipe in pipes], batch_size=MANY))
    getting.start()
    for reader in readers:
        first = b""
        while not first:  # until the first bytes are in every pipe, and what does not fit waits
            with suppress(BlockingIOError):
                first = os.read(reader, 1)
            os.sched_yield()
    fs.get_file(f"{room}/x", str(tmp_path / "beside"))
    assert (tmp_path / "beside").read_bytes() == DATA
    left = {reader: bytearray(DATA[:1]) for reader in readers}
    while left:
        for reader, found in list(left.items()):
            try:
                found += (part := os.read(reader, MIB))
            except BlockingIOError:
                continue
            if not part:
                assert found == DATA
                del left[reader]
    getting.join()
    for reader in readers:
        os.close(reader)
