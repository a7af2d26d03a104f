"""Small reads of file objects go to the storage node directly, and to the loop when that does not work."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest

from fs3.client.storage.direct_reads import DirectReads
from tests.space import SpaceGuard

DATA = os.urandom(5 << 20)
"""Of more than one chunk."""


@pytest.fixture(scope="module")
def fs(space_guard: SpaceGuard) -> Iterator[Any]:
    with space_guard.lend("direct") as home:
        fs = fsspec.filesystem("fs3", path=str(home), skip_instance_cache=True)
        fs.pipe_file("/f", DATA)
        yield fs
        fs.close()


def direct_count(fs: Any) -> int:
    return int(fs._pool.get_nowait(fs.loop).storage.reads.direct)


def read_around(fs: Any, seed: int, count: int) -> None:
    prng = random.Random(seed)
    with fs.open("/f", "rb") as file:
        for _ in range(count):
            at, size = prng.randrange(len(DATA)), prng.choice((1, 4096, 50_000, 70_000))
            file.seek(at)
            assert file.read(size) == DATA[at : at + size]
            assert file.tell() == min(at + size, len(DATA))


def test_random_reads_do_without_the_loop(fs: Any) -> None:
    before = direct_count(fs)
    read_around(fs, 1, 60)
    assert direct_count(fs) > before + 20


def test_many_threads_at_once(fs: Any) -> None:
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda seed: read_around(fs, seed, 20), range(6)))


def test_a_read_that_was_not_done_begins_anew(fs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(self: DirectReads, io: Any) -> bool:
        io.buffer[:] = bytes(len(io.buffer))
        return False

    monkeypatch.setattr(DirectReads, "read", spoil)
    read_around(fs, 2, 10)


def test_it_goes_on_after_the_client_was_closed(fs: Any) -> None:
    with fs.open("/f", "rb") as file:
        file.seek(100_000)
        assert file.read(4096) == DATA[100_000:104_096]
        fs.close()
        file.seek(3_000_000)
        assert file.read(4096) == DATA[3_000_000:3_004_096]
    fs.pipe_file("/f", DATA)


def test_not_on_the_loops_own_thread(fs: Any) -> None:
    with fs.open("/f", "rb") as file:
        file.seek(200_000)

        async def read_blocking() -> bytes:
            return bytes(file.read(4096))

        with pytest.raises(RuntimeError, match="event loop's own thread"):
            fsspec.asyn.sync(fs.loop, read_blocking)


def test_without_verification_the_loop_reads(tmp_path: Path) -> None:
    fs = fsspec.filesystem("fs3", path=str(tmp_path / "d"), verify=False)
    fs.pipe_file("/f", DATA[:300_000])
    with fs.open("/f", "rb") as file:
        for at in (200_000, 100_000):
            file.seek(at)
            assert file.read(4096) == DATA[at : at + 4096]
    assert direct_count(fs) == 0
    fs.close()
