"""The embedded cluster of one directory, used from many event loops, threads and spellings of its path."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import os
import subprocess
import sys
import threading
from asyncio import BaseEventLoop
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest

from fs3.api.embedded import EmbeddedServices
from fs3.api.fsspec import unclosed


def test_every_loop_and_thread_of_the_process_uses_it(tmp_path: Path) -> None:
    options = {"path": str(tmp_path / "d")}
    fs = fsspec.filesystem("fs3", **options)
    fs.pipe_file("/x", b"1")

    async def beside() -> bytes:
        other = fsspec.filesystem("fs3", asynchronous=True, **options)
        data: bytes = await other._cat_file("/x")
        return data

    assert [asyncio.run(beside()) for _ in range(2)] == [b"1", b"1"]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: asyncio.run(beside()), range(4))) == [b"1"] * 4
    assert fs.cat_file("/x") == b"1"
    fs.close()


def test_files_that_are_collected_by_the_services_own_loop_are_closed(tmp_path: Path) -> None:
    """It must not wait for what it has to do itself."""
    fs = fsspec.filesystem("fs3", path=str(tmp_path / "d"))
    dropped = [fs.open(f"/{number}", "wb") for number in range(3)]
    for file in dropped:
        file.write(b"1")
    del file
    (services,) = (one for one in EmbeddedServices._running.values() if one._path == tmp_path / "d")
    (loop,) = (
        one
        for one in gc.get_objects()
        if isinstance(one, BaseEventLoop) and getattr(one, "_thread_id", 0) == services._thread.ident
    )
    collected = threading.Event()

    def collect() -> None:
        with pytest.warns(ResourceWarning, match="was not closed"):
            dropped.clear()
        collected.set()

    loop.call_soon_threadsafe(collect)
    assert collected.wait(60)
    concurrent.futures.wait(list(unclosed._endings))
    assert fs.cat(["/0", "/1", "/2"]) == {"/0": b"1", "/1": b"1", "/2": b"1"}
    fs.close()


def test_one_directory_has_many_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = tmp_path / "real"
    one = fsspec.filesystem("fs3", path=str(real))
    one.pipe_file("/x", b"1")
    (tmp_path / "link").symlink_to(real)
    monkeypatch.chdir(tmp_path)
    spellings = (f"{real}/", real, f"{tmp_path}/real/../real", "real", tmp_path / "link")
    others = [fsspec.filesystem("fs3", path=spelling) for spelling in spellings]
    assert [other.cat_file("/x") for other in others] == [b"1"] * len(spellings)
    for each in (one, *others):
        each.close()


def test_a_program_ends_without_a_word(tmp_path: Path) -> None:
    program = f"import fsspec; fs = fsspec.filesystem('fs3', path={str(tmp_path)!r}); fs.pipe_file('/a', b'x'); print(fs.ls('/'))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=90, env=environment)
    assert (done.returncode, done.stderr) == (0, "")


def test_directories_are_made_while_another_client_removes_them(fs: Any, room: str, fs3_options: dict[str, str]) -> None:
    other = type(fs)(skip_instance_cache=True, **fs3_options)
    done = threading.Event()

    def sweep() -> None:
        while not done.is_set():
            try:
                other.rmdir(f"{room}/d")
            except OSError:
                continue

    with ThreadPoolExecutor(1) as pool:
        sweeping = pool.submit(sweep)
        try:
            for number in range(20):
                fs.pipe_file(f"{room}/d/{number}", b"x")
                assert fs.cat_file(f"{room}/d/{number}") == b"x"
                fs.rm_file(f"{room}/d/{number}")
        finally:
            done.set()
        sweeping.result()
    other.close()


def test_a_pipe_does_not_stop_the_process(fs: Any, room: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe that nobody writes to"):
        fs.put_file(str(tmp_path / "pipe"), f"{room}/x")
    fs.pipe_file(f"{room}/y", b"bytes")
    with pytest.raises(OSError, match="pipe"):
        fs.get_file(f"{room}/y", str(tmp_path / "pipe"))
    with ThreadPoolExecutor(1) as pool:
        reading = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
        writing = os.open(tmp_path / "pipe", os.O_WRONLY)
        upload = pool.submit(fs.put_file, str(tmp_path / "pipe"), f"{room}/x")
        assert fs.exists(room)
        os.write(writing, b"through a pipe")
        os.close(writing)
        upload.result(60)
        os.close(reading)
    assert fs.cat_file(f"{room}/x") == b"through a pipe"
