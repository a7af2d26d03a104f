"""The filesystem in many processes, threads and event loops."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fsspec
import pytest

pytestmark = [
    pytest.mark.processes,
    # Python 3.12 warns of fork() beside threads. That it works nevertheless is what is tested here.
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]

DATA = bytes(range(256)) * 4096


@pytest.fixture
def fs(cluster_url: str) -> Any:
    return fsspec.filesystem("fs3", cluster=cluster_url.partition("://")[2])


@pytest.fixture
def room(fs: Any) -> Iterator[str]:
    path = f"/room-{uuid.uuid4().hex[:12]}"
    fs.mkdir(path)
    yield path
    fs.rm(path, recursive=True)


def in_child(method: str, target: Callable[..., Any], *args: Any) -> Any:
    """What `target(*args)` returns in another process; its exception is raised here."""
    context = multiprocessing.get_context(method)
    here, there = context.Pipe()
    child = context.Process(target=_call, args=(there, target, args))
    child.start()
    there.close()
    try:
        assert here.poll(40), "the child does not answer"
        failed, result = here.recv()
    finally:
        child.join(5)
        child.kill()
    if failed:
        raise result
    assert child.exitcode == 0
    return result


def _call(pipe: Any, target: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        pipe.send((False, target(*args)))
    except BaseException as failure:
        pipe.send((True, failure))


def read_and_write(fs: Any, room: str) -> bytes:
    data: bytes = fs.cat_file(f"{room}/x")
    with fs.open(f"{room}/y", "wb") as file:
        file.write(data[::-1])
    return data


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_child_uses_what_its_parent_used(fs: Any, room: str, method: str) -> None:
    fs.pipe_file(f"{room}/x", DATA)
    assert in_child(method, read_and_write, fs, room) == DATA
    assert fs.cat_file(f"{room}/y") == DATA[::-1]  # the parent goes on


def read_rest(file: Any) -> bytes:
    data: bytes = file.read()
    file.seek(5)
    return data + bytes(file.read(3))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_reads_from_its_parents_open_file(fs: Any, room: str, method: str) -> None:
    fs.pipe_file(f"{room}/x", DATA)
    with fs.open(f"{room}/x", "rb") as file:
        for _ in range(10):
            file.read(10_000)  # something is being fetched ahead
        assert in_child(method, read_rest, file) == DATA[100_000:] + DATA[5:8]
        assert file.read(10) == DATA[100_000:100_010]


def close_it(file: Any) -> str:
    with pytest.raises(ValueError, match="another process"):
        file.write(b"x")
    file.close()
    return "closed"


def test_a_child_cannot_finish_its_parents_writing(fs: Any, room: str) -> None:
    with fs.open(f"{room}/x", "wb") as file:
        file.write(DATA)
        assert in_child("fork", close_it, file) == "closed"
        assert fs.ls(room) == []
        file.write(b"more")
    assert fs.size(f"{room}/x") == len(DATA) + 4


def grandchild(fs: Any, room: str) -> bytes:
    fs.cat_file(f"{room}/x")
    return bytes(in_child("fork", read_and_write, fs, room))


def test_children_of_children(fs: Any, room: str) -> None:
    fs.pipe_file(f"{room}/x", DATA)
    assert in_child("fork", grandchild, fs, room) == DATA


def part(fs: Any, path: str, start: int, end: int) -> bytes:
    return bytes(fs.cat_file(path, start, end))


def test_many_forked_children_at_once(fs: Any, room: str) -> None:
    fs.pipe_file(f"{room}/x", DATA)
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert pool.starmap(part, [(fs, f"{room}/x", index, index + 100) for index in range(40)]) == [
            DATA[index : index + 100] for index in range(40)
        ]


def fail(fs: Any, room: str) -> None:
    fs.cat_file(f"{room}/missing")


def test_errors_come_back_from_children(fs: Any, room: str) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        in_child("fork", fail, fs, room)
    assert caught.value.filename == f"{room}/missing"


def test_pickle_carries_arguments_only(fs: Any, room: str) -> None:
    fs.ls(room)
    packed = pickle.dumps(fs)
    assert len(packed) < 1000
    assert pickle.loads(packed) is fs
    assert fsspec.AbstractFileSystem.from_json(fs.to_json()) == fs
    fresh = subprocess.run(
        [sys.executable, "-c", f"import pickle; print(pickle.loads({packed!r}).ls({room!r}))"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert fresh.stdout.strip() == "[]", fresh.stderr


def test_instances_are_shared_and_compared_by_their_arguments(cluster_url: str) -> None:
    address = cluster_url.partition("://")[2]
    fs = fsspec.filesystem("fs3", cluster=address)
    assert fsspec.core.url_to_fs(f"{cluster_url}/x")[0] is fs
    assert fsspec.filesystem("fs3", cluster=address, verify=False) != fs
    assert fs.fsid == type(fs)(cluster=address, skip_instance_cache=True).fsid


def test_the_environment_names_the_cluster(cluster_url: str, room: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FS3_CLUSTER", cluster_url.partition("://")[2])
    with fsspec.open(f"fs3://{room}/x", "wb", skip_instance_cache=True) as file:
        file.write(b"1")
    assert fsspec.open(f"{cluster_url}{room}/x").open().read() == b"1"


def test_two_loops_in_two_threads(fs: Any, room: str) -> None:
    address = fs.addresses[0]
    ready = threading.Barrier(2)

    async def work(name: str) -> bytes:
        mine = fsspec.filesystem("fs3", cluster=address, asynchronous=True)
        await mine._pipe_file(f"{room}/{name}", name.encode() * 100_000)
        ready.wait(30)
        other = "one" if name == "two" else "two"
        data: bytes = await mine._cat_file(f"{room}/{other}")
        await mine.aclose()
        return data

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda name: asyncio.run(work(name)), ("one", "two")))
    assert results == [b"two" * 100_000, b"one" * 100_000]


def test_one_instance_on_many_loops(fs: Any, room: str) -> None:
    mine = fsspec.filesystem("fs3", cluster=fs.addresses[0], asynchronous=True)

    async def work(index: int) -> int:
        await mine._pipe_file(f"{room}/{index}", b"x" * index)
        size: int = (await mine._info(f"{room}/{index}"))["size"]
        await mine.aclose()
        return size

    assert [asyncio.run(work(index)) for index in range(3)] == [0, 1, 2]


def test_many_threads_share_an_instance(fs: Any, room: str) -> None:
    def work(index: int) -> bool:
        data = os.urandom(100_000)
        with fs.open(f"{room}/{index}", "wb") as file:
            file.write(data)
        return bool(fs.cat_file(f"{room}/{index}") == data)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(32)))


async def test_asynchronous_methods_and_files(cluster_url: str, room: str) -> None:
    fs = fsspec.filesystem("fs3", cluster=cluster_url.partition("://")[2], asynchronous=True, skip_instance_cache=True)
    async with await fs.open_async(f"{room}/x", "wb") as file:
        await file.write(DATA)
        assert await fs._ls(room) == []
    async with await fs.open_async(f"{room}/x", "rb") as file:
        assert await file.read(10) == DATA[:10]
        file.seek(-5, 2)
        assert await file.read() == DATA[-5:]
        assert await asyncio.gather(file.pread(7, 3), file.pread(100, 2)) == [DATA[7:10], DATA[100:102]]
    with pytest.raises(RuntimeError):  # noqa: PT012
        async with await fs.open_async(f"{room}/y", "wb") as file:
            await file.write(DATA)
            raise RuntimeError
    async with await fs.open_async(f"{room}/x", "ab") as file:
        await file.write(b"end")
    assert await fs._cat_ranges([f"{room}/x"] * 2, [-3, 0], [None, 1]) == [b"end", b"\0"]
    assert await fs._ls(room, detail=False) == [f"{room}/x"]
    with pytest.raises(RuntimeError):
        fs.ls(room)  # blocking calls need the other kind of instance
    await fs.aclose()


def test_blocking_calls_on_the_loops_own_thread_fail_instead_of_hanging(fs: Any, room: str) -> None:
    fs.touch(f"{room}/x")

    async def wrong() -> None:
        fs.open(f"{room}/x")

    with pytest.raises(RuntimeError, match="own thread"):
        fsspec.asyn.sync(fs.loop, wrong)


INTERRUPTED = """
import sys, signal, fsspec
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background inherits SIG_IGN
fs = fsspec.filesystem("fs3", cluster=sys.argv[1])
with fs.open(sys.argv[2] + "/partial", "wb") as file:
    file.write(b"x" * 10_000_000)
    print("writing", flush=True)
    for _ in range(2_000):  # bounded: one that nothing interrupts must not fill the disk
        file.write(b"x" * 100_000)
"""


def test_ctrl_c_while_writing_leaves_no_file(fs: Any, room: str) -> None:
    import signal

    child = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, fs.addresses[0], room], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "writing\n"
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=40)
    finally:
        child.kill()
    assert "KeyboardInterrupt" in said
    assert fs.ls(room) == []


IMPORTS = """
import sys, fs3
assert not [name for name in sys.modules if name.split(".")[0] in ("grpc", "lmdb", "asyncio")], "import fs3 is heavy"
import fsspec
fs = fsspec.filesystem("fs3", cluster=sys.argv[1])
fs.ls("/")
fs.pipe_file(sys.argv[2] + "/x", b"1")
loaded = sorted(name for name in sys.modules if name.split(".")[0] == "grpc" or name.startswith(("fs3.services.", "fs3.cli.")))
assert not loaded, loaded
"""


def test_a_client_loads_no_grpc_and_no_server(fs: Any, room: str) -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTS, fs.addresses[0], room], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_nobody_there(tmp_path: Any) -> None:
    fs = fsspec.filesystem("fs3", cluster="127.0.0.1:1")
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1:1"):
        fs.exists("/x")
    for bad in ({"cluster": "host:port"}, {"transport": "pigeon"}, {"cluster": "a:1", "path": str(tmp_path)}):
        with pytest.raises(ValueError, match=r"port|pigeon|cluster"):
            fsspec.filesystem("fs3", **bad)
