"""Small reads of file objects go to the storage node directly, and to the loop when that does not work."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest

from fs3.client.meta.direct_requests import DirectRequests
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


def count_opens(fs: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths that are opened on the loop from now on."""
    client = fs._pool.get_nowait(fs.loop)
    asked: list[str] = []
    open_on_loop = client.open

    async def open_counted(path: str, mode: str = "r", *args: Any, **how: Any) -> Any:
        asked.append(path)
        return await open_on_loop(path, mode, *args, **how)

    monkeypatch.setattr(client, "open", open_counted)
    return asked


def test_cat_file_does_without_the_loop(fs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fs.pipe_file("/small", b"beside its inode")
    on_loop = count_opens(fs, monkeypatch)
    before = direct_count(fs)
    assert fs.cat_file("/f", 5, 4096) == DATA[5:4096]
    assert fs.cat_file("/f", -70, None) == DATA[-70:]
    assert direct_count(fs) == before + 2
    assert fs.cat_file("/f") == DATA
    assert fs.cat_file("/f", 9, 9) == fs.cat_file("/f", 9, 3) == b""
    assert fs.cat_file("/small") == b"beside its inode"
    assert fs.cat_file("/small", 7, 10) == b"its"
    assert on_loop == []


def test_refusals_are_answers(fs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fs.makedirs("/directory", exist_ok=True)
    fs.cat_file("/f", 0, 1)
    on_loop = count_opens(fs, monkeypatch)
    for _ in range(2):
        with pytest.raises(FileNotFoundError) as missing:
            fs.cat_file("/missing")
        assert missing.value.filename == "/missing"
        with pytest.raises(IsADirectoryError):
            fs.cat_file("/directory")
        with pytest.raises(FileNotFoundError):
            fs.open("/missing", "rb")
    assert fs.cat_file("/f", 0, 1) == DATA[:1]
    assert on_loop == []


def test_an_open_that_was_not_done_begins_anew(fs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fs.cat_file("/f", 0, 1)
    on_loop = count_opens(fs, monkeypatch)
    monkeypatch.setattr(DirectRequests, "ask", lambda self, request: None)
    assert fs.cat_file("/f", 10, 20) == DATA[10:20]
    with fs.open("/f", "rb") as file:
        assert file.read(10) == DATA[:10]
    assert on_loop == ["/f", "/f"]


def test_cat_file_of_many_threads(fs: Any) -> None:
    def cat(seed: int) -> None:
        prng = random.Random(seed)
        for _ in range(20):
            at, size = prng.randrange(len(DATA)), prng.choice((0, 1, 4096, 70_000))
            assert fs.cat_file("/f", at, at + size) == DATA[at : at + size]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(cat, range(8)))


def test_a_missing_file_among_those_of_many_coroutines(fs: Any) -> None:
    async def cat_all() -> list[Any]:
        paths = ["/f", "/missing", "/f", "/f"]
        return await asyncio.gather(*(fs._cat_file(path, 5, 4101) for path in paths), return_exceptions=True)

    first, missing, *others = fsspec.asyn.sync(fs.loop, cat_all)
    assert isinstance(missing, FileNotFoundError)
    assert [first, *others] == [DATA[5:4101]] * 3


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
