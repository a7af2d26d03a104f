"""Trees of small files through fsspec: few requests, bounded memory, and each file as if it were alone."""

from __future__ import annotations

import asyncio
import os
import random
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.callbacks import Callback

from fs3.api.io.buffer_budget import buffer_budget
from fs3.api.small_files import small_file_bytes_max

FILES = 300


@pytest.fixture
def tree(tmp_path: Path) -> dict[str, bytes]:
    """Files of a local directory "tree", by their names below it."""
    rng = random.Random(5)
    files = {f"d{index % 7}/f{index:04}": rng.randbytes(rng.randrange(20_000)) for index in range(FILES)}
    files |= {
        "empty": b"",
        "odd [a]*?.bin": b"odd",
        "largest small": rng.randbytes(small_file_bytes_max),
        "smallest large": rng.randbytes(small_file_bytes_max + 1),
        "deep/er/and/deeper/x": b"deep",
    }
    for name, data in files.items():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return files


def read_tree(top: Path) -> dict[str, bytes]:
    return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}


def cat_tree(fs: Any, top: str) -> dict[str, bytes]:
    return {name[len(top) + 1 :]: data for name, data in fs.cat(fs.find(top)).items()}


class Counting(Callback):
    """Files and bytes that have arrived, and the most memory that was held meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, Counting] = {}
        self.held = 0

    def branched(self, path_1: str, path_2: str, **_: Any) -> Counting:
        return self.files.setdefault(path_1, Counting())

    def relative_update(self, inc: int = 1) -> None:
        super().relative_update(inc)
        self.held = max(self.held, buffer_budget.held)


@pytest.fixture
def requests(fs: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The requests to the metadata service, by the name of their method."""
    asked: list[str] = []
    client = fsspec.asyn.sync(fs.loop, fs._client)
    send = client.meta._send

    async def noted(method: Any, *args: Any, **kwargs: Any) -> Any:
        asked.append(str(method))
        return await send(method, *args, **kwargs)

    monkeypatch.setattr(client.meta, "_send", noted)
    return asked


def test_trees_are_put_copied_and_got_with_few_requests(
    fs: Any, room: str, tmp_path: Path, tree: dict[str, bytes], requests: list[str]
) -> None:
    progress = Counting()
    fs.put(str(tmp_path / "tree"), f"{room}/put", recursive=True, callback=progress)
    assert len(requests) < FILES // 2
    assert sum(one.value for one in progress.files.values()) == sum(map(len, tree.values()))
    assert all(one.value == one.size for one in progress.files.values() if one.size is not None)
    assert cat_tree(fs, f"{room}/put") == tree

    fs.chmod(f"{room}/put/d0/f0000", 0o640)
    requests.clear()
    fs.copy(f"{room}/put", f"{room}/copy", recursive=True)
    assert len(requests) < FILES // 2
    assert cat_tree(fs, f"{room}/copy") == tree
    assert fs.info(f"{room}/copy/d0/f0000")["mode"] == 0o640

    requests.clear()
    progress = Counting()
    fs.get(f"{room}/copy", str(tmp_path / "got"), recursive=True, callback=progress)
    assert len(requests) < FILES // 2
    assert read_tree(tmp_path / "got") == tree
    assert sum(one.value for one in progress.files.values()) == sum(map(len, tree.values()))
    assert buffer_budget.held == 0


def test_many_values_are_piped_with_few_requests(fs: Any, room: str, requests: list[str]) -> None:
    values = {f"{room}/new/d{index % 5}/{index}": str(index).encode() for index in range(FILES)}
    fs.pipe(values)
    assert len(requests) < FILES // 2
    assert fs.cat(list(values)) == values
    fs.pipe(dict.fromkeys(values, b"again"))
    assert set(fs.cat(list(values)).values()) == {b"again"}


def test_what_is_there_is_treated_as_for_a_file_alone(fs: Any, room: str, tmp_path: Path) -> None:
    local = [tmp_path / name for name in ("a", "b", "c", "d")]
    for path in local:
        path.write_bytes(path.name.encode())
    fs.pipe_file(f"{room}/b", b"old")
    fs.put([str(path) for path in local[:3]], [f"{room}/{name}" for name in "abc"])
    assert [fs.cat_file(f"{room}/{name}") for name in "abc"] == [b"a", b"b", b"c"]
    fs.mkdir(f"{room}/d")
    with pytest.raises(IsADirectoryError, match="d"):
        fs.put([str(path) for path in local], [f"{room}/{name}" for name in "abcd"])
    with pytest.raises(FileNotFoundError, match="missing"):
        fs.get([f"{room}/a", f"{room}/missing"], [str(tmp_path / "x"), str(tmp_path / "y")])
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError):
        fs.get([f"{room}/a", f"{room}/b"], [str(tmp_path / "x"), str(tmp_path / "taken")])
    deadline = time.monotonic() + 30
    while left := [path for path in tmp_path.iterdir() if path.name.endswith(".part")]:
        assert time.monotonic() < deadline, left  # fsspec raises the first failure, while the other file is still on its way
        time.sleep(0.01)


def test_a_link_is_written_through(fs: Any, room: str, tmp_path: Path) -> None:
    async def link() -> None:
        await (await fs._client()).symlink("behind", f"{room}/link")

    fsspec.asyn.sync(fs.loop, link)
    fs.pipe({f"{room}/link": b"through", f"{room}/other": b"o"})
    assert fs.cat_file(f"{room}/behind") == b"through"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_pipes_and_missing_files_of_this_machine_are_named(fs: Any, room: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"file")
    os.mkfifo(tmp_path / "fifo")
    assert stat.S_ISFIFO((tmp_path / "fifo").stat().st_mode)
    with pytest.raises(OSError, match="fifo"):
        fs.put([str(tmp_path / "file"), str(tmp_path / "fifo")], [f"{room}/file", f"{room}/fifo"])
    with pytest.raises(FileNotFoundError, match="nothing"):
        fs.put([str(tmp_path / "file"), str(tmp_path / "nothing")], [f"{room}/file", f"{room}/nothing"])


def test_a_transaction_holds_small_files_back(fs: Any, room: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    with fs.transaction:
        fs.put_file(str(tmp_path / "a"), f"{room}/a")
        fs.pipe_file(f"{room}/b", b"b")
        assert not fs.exists(f"{room}/a")
        assert not fs.exists(f"{room}/b")
    assert fs.cat_file(f"{room}/a") == b"a"


def test_five_hundred_open_writers_and_readers_hold_little(fs: Any, room: str) -> None:
    writers = [fs.open(f"{room}/w{index}", "wb") for index in range(500)]
    for writer in writers:
        writer.write(b"1")
    assert 0 < buffer_budget.held <= 500 * 4096
    for writer in writers:
        writer.close()
    readers = [fs.open(f"{room}/w{index}", "rb") for index in range(500)]
    assert {reader.read(1) for reader in readers} == {b"1"}
    assert buffer_budget.held <= 500 * 4096
    del readers, writer, writers
    assert buffer_budget.held == 0


def test_a_put_that_is_cancelled_holds_nothing_afterwards(
    fs: Any, room: str, tmp_path: Path, tree: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def put_and_cancel() -> int:
        client = await fs._client()
        begun = asyncio.Event()
        publish = client.publish_many

        async def published(files: Any) -> Any:
            begun.set()
            return await publish(files)

        monkeypatch.setattr(client, "publish_many", published)
        task = asyncio.ensure_future(fs._put(str(tmp_path / "tree"), f"{room}/put", recursive=True))
        await begun.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*(other for other in others if "_run_coro" in repr(other)), return_exceptions=True)
        return buffer_budget.held

    assert fsspec.asyn.sync(fs.loop, put_and_cancel) == 0
    found = cat_tree(fs, f"{room}/put")
    assert all(tree[name] == data for name, data in found.items())


def _start_and_wait_for_the_pipe(command: str) -> subprocess.Popen[bytes]:
    """A shell that is opening a pipe, with no process at its other end yet."""
    shell = subprocess.Popen(["sh", "-c", command])
    while Path(f"/proc/{shell.pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
        os.sched_yield()
    return shell


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_who_waits_at_the_other_end_of_a_pipe_is_not_broken_off(fs: Any, room: str, tmp_path: Path) -> None:
    pipe, copy = tmp_path / "pipe", tmp_path / "copy"
    os.mkfifo(pipe)
    with _start_and_wait_for_the_pipe(f"exec printf hello > '{pipe}'") as writer:
        fs.put_file(str(pipe), f"{room}/x")
    assert writer.returncode == 0
    assert fs.cat_file(f"{room}/x") == b"hello"
    with _start_and_wait_for_the_pipe(f"exec cat < '{pipe}' > '{copy}'"):
        fs.get_file(f"{room}/x", str(pipe))
    assert copy.read_bytes() == b"hello"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_local_disk_that_is_full_is_named(fs: Any, room: str) -> None:
    fs.pipe_file(f"{room}/x", b"x")
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        fs.get_file(f"{room}/x", "/dev/full")
