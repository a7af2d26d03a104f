"""Locks through fsspec."""

from __future__ import annotations

import asyncio
import math
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from fs3.api.fsspec.filesystem import FS3FileSystem
from fs3.base.errors import DeadlineExceeded, InvalidArgument, IsADirectory


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[FS3FileSystem]:
    made = fsspec.filesystem("fs3", path=str(tmp_path / "fs3"), skip_instance_cache=True)
    yield made
    made.close()


def test_one_block_at_a_time(fs: FS3FileSystem) -> None:
    fs.pipe_file("/counter", b"0")

    def work() -> None:
        for _ in range(5):
            with fs.lock("/locks/counter"):
                fs.pipe_file("/counter", str(int(fs.cat_file("/counter")) + 1).encode())

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fs.cat_file("/counter") == b"30"
    assert fs.size("/locks/counter") == 0


def test_waiting_has_an_end_and_an_exception_ends_a_block(fs: FS3FileSystem) -> None:
    with fs.lock("fs3:///f") as held:
        with pytest.raises(DeadlineExceeded, match="'/f'"), fs.lock("/f", shared=True, timeout=0.01):
            raise AssertionError("two are in the block")
        with pytest.raises(InvalidArgument, match="held already"), held:
            raise AssertionError("entered twice")
    with pytest.raises(ZeroDivisionError), fs.lock("/f"):
        raise ZeroDivisionError
    with fs.lock("/f", shared=True), fs.lock("/f", shared=True, timeout=0):
        pass


@pytest.mark.parametrize("timeout", [-1, math.nan, math.inf])
def test_a_timeout_is_a_number_of_seconds(fs: FS3FileSystem, timeout: float) -> None:
    with pytest.raises(InvalidArgument, match="timeout"):
        fs.lock("/f", timeout=timeout)


def test_a_directory_is_no_lock(fs: FS3FileSystem) -> None:
    fs.mkdir("/d")
    with pytest.raises(IsADirectory), fs.lock("/d"):
        pass


def test_a_forked_child_leaves_the_lock_to_its_parent(fs: FS3FileSystem) -> None:
    with fs.lock("/f") as held:
        held._held = (*held._held[:2], os.getpid() + 1)  # type: ignore[misc, index]
        held.__exit__(None, None, None)
        with pytest.raises(DeadlineExceeded), fs.lock("/f", timeout=0.01):
            pass


async def test_on_an_event_loop(tmp_path: Path) -> None:
    fs = fsspec.filesystem("fs3", path=str(tmp_path / "fs3"), asynchronous=True, skip_instance_cache=True)
    inside = 0

    async def work() -> None:
        nonlocal inside
        async with fs.lock("/f"):
            inside += 1
            await asyncio.sleep(0)
            assert inside == 1
            inside -= 1

    await asyncio.gather(*(work() for _ in range(5)))
    await fs.aclose()
