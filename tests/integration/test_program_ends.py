"""The ordinary ways a program ends without closing what it has open: only what is meant is printed, and nothing is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest

pytestmark = pytest.mark.processes

BEGIN = """
import asyncio, os, sys, threading, time
import fsspec
from concurrent.futures import ThreadPoolExecutor
from fs3.api.connect import connect, connect_embedded
from fs3.api.kvcache.cache import KVCache

options, room = {options!r}, {room!r}
fs = fsspec.filesystem("fs3", **options)
fs.pipe_file(f"{{room}}/x", b"x")

async def use():
    global client
    client = await (connect(options["cluster"]) if "cluster" in options else connect_embedded(options["path"]))
    assert await client.exists(f"{{room}}/x")
    return client
"""

SILENT = {
    "the end of the script": "",
    "an open reader": "file = fs.open(f'{room}/x')",
    "exit in a thread": """
def work():
    fs.cat_file(f"{room}/x")
    sys.exit(3)
thread = threading.Thread(target=work)
thread.start()
thread.join()
""",
    "a thread that goes on": """
def work():
    threading.main_thread().join()
    fs.pipe_file(f"{room}/late", b"late")
threading.Thread(target=work).start()
""",
    "a pool with work": """
pool = ThreadPoolExecutor(2)
for number in range(8):
    pool.submit(fs.pipe_file, f"{room}/{number}", bytes(100_000))
""",
    "a handler of its own": "import atexit; atexit.register(lambda: fs.cat_file(f'{room}/x'))",
    "a forked child": """
child = os.fork()
if child == 0:
    sys.exit(0)
os.waitpid(child, 0)
""",
    "a client": "asyncio.run(use())",
    "a client on a loop that is left": "loop = asyncio.new_event_loop(); loop.run_until_complete(use())",
    "a client on a loop that is closed": "loop = asyncio.new_event_loop(); loop.run_until_complete(use()); loop.close()",
    "a session on a loop that is left": """
async def write():
    global file
    file = await (await use()).open(f"{room}/s", "w")
    await client.pwrite(file, b"x")
loop = asyncio.new_event_loop()
loop.run_until_complete(write())
""",
    "a forked child of a running loop": """
async def fork():
    await use()
    child = os.fork()
    if child == 0:
        sys.exit(0)
    os.waitpid(child, 0)
asyncio.run(fork())
""",
    "a KVCache on a loop that is left": """
async def put():
    global cache
    cache = await KVCache.of(await use(), namespace="end", page_bytes=4096)
    await cache.put_from([b"key"], [bytes(4096)])
loop = asyncio.new_event_loop()
loop.run_until_complete(put())
""",
}


def end(fs: fsspec.AbstractFileSystem, options: dict[str, str], room: str, program: str) -> tuple[int, str]:
    """Return code and standard error of a program. An embedded directory is left to it."""
    if "path" in options:
        fs.close()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    source = BEGIN.format(options=options, room=room) + program
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=90, env=environment)
    return done.returncode, done.stderr


@pytest.mark.parametrize("way", SILENT)
def test_a_program_that_closes_nothing_ends_without_a_word(
    fs: fsspec.AbstractFileSystem, fs3_options: dict[str, str], room: str, way: str
) -> None:
    assert end(fs, fs3_options, room, SILENT[way]) == (0, "")


def test_threads_that_outlive_the_main_one_write_what_they_have(
    fs: fsspec.AbstractFileSystem, fs3_options: dict[str, str], room: str
) -> None:
    end(fs, fs3_options, room, SILENT["a thread that goes on"] + SILENT["a pool with work"])
    assert sorted(fs.ls(room, detail=False)) == [*(f"{room}/{number}" for number in range(8)), f"{room}/late", f"{room}/x"]


def test_a_file_left_open_is_closed_and_said(fs: fsspec.AbstractFileSystem, fs3_options: dict[str, str], room: str) -> None:
    left = "file = fs.open(f'{room}/w', 'wb'); file.write(b'y' * 100_000)"
    assert end(fs, fs3_options, room, left) == (0, f"{room}/w was not closed: it is closed now\n")
    assert fs.cat_file(f"{room}/w") == b"y" * 100_000


def test_a_file_left_to_a_loop_that_ends_is_dropped_and_said(
    fs: fsspec.AbstractFileSystem, fs3_options: dict[str, str], room: str
) -> None:
    left = """
async def write():
    there = fsspec.filesystem("fs3", asynchronous=True, **options)
    file = await there.open_async(f"{room}/w", "wb")
    await file.write(b"y")
asyncio.run(write())
"""
    code, said = end(fs, fs3_options, room, left)
    assert (code, "never awaited" in said, "what was written to it is dropped" in said) == (0, False, True)
    assert not fs.exists(f"{room}/w")


def test_a_store_closes_after_the_executors_of_the_standard_library(tmp_path: Path) -> None:
    program = (
        f"import fsspec; fs = fsspec.filesystem('fs3', path={str(tmp_path)!r}); fs.pipe_file('/a', bytes(5_000_000)); "
        "import atexit; atexit.register(lambda: fs.pipe_file('/b', fs.cat_file('/a')))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=90, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    fs = fsspec.filesystem("fs3", path=str(tmp_path))
    assert fs.cat_file("/b") == bytes(5_000_000)
    fs.close()
