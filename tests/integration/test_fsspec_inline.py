"""Files that are small enough to be kept beside their inodes, through fsspec: one request, and the promises of large ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from fs3.api.small_files import NewFile, UnnamedFile
from fs3.base.errors import FS3Error
from fs3.base.limits import inline_bytes_default
from fs3.base.status import Code
from fs3.cli import embedded
from fs3.services.meta import MetaConfig
from fs3.wire.meta_verbs import verb_of

SMALL = b"0123456789"
LARGEST = bytes(range(256)) * (inline_bytes_default // 256)


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[Any]:
    """An embedded file system."""
    made = fsspec.filesystem("fs3", path=str(tmp_path / "data"), skip_instance_cache=True)
    yield made
    made.close()


@pytest.fixture
def asked(fs: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The requests to the metadata service, by the name of their method: of the loop, and of threads that ask themselves."""
    names: list[str] = []
    meta = fsspec.asyn.sync(fs.loop, fs._client).meta
    send, ask_directly = meta._send, meta.ask_directly

    async def noted(method: Any, *args: Any, **kwargs: Any) -> Any:
        names.append(method.name)
        return await send(method, *args, **kwargs)

    def noted_directly(request: Any) -> Any:
        answer = ask_directly(request)
        if answer is not None:
            names.append(verb_of(request).method.name)
        return answer

    monkeypatch.setattr(meta, "_send", noted)
    monkeypatch.setattr(meta, "ask_directly", noted_directly)
    return names


def is_inline(fs: Any, path: str) -> bool:
    client = fsspec.asyn.sync(fs.loop, fs._client)
    return bool(fsspec.asyn.sync(fs.loop, client.stat, path).inline)


def test_a_small_file_is_one_request_each_way(fs: Any, asked: list[str]) -> None:
    fs.pipe_file("/d/f", LARGEST)
    assert asked == ["Batch"]
    assert fs.cat_file("/d/f") == LARGEST
    assert fs.cat_file("/d/f", 3, -3) == LARGEST[3:-3]
    assert asked == ["Batch", "Open", "Open"]
    assert is_inline(fs, "/d/f")


def test_a_look_at_a_path_is_one_request_of_the_callers_own_thread(
    fs: Any, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fs.pipe_file("/d/f", SMALL)
    fs.symlink("f", "/d/link")
    fs.symlink("nothing", "/d/broken")
    del asked[:]
    links = [
        fs.info("/d/link")["size"],
        fs.exists("/d/link"),
        fs.exists("/d/broken"),
        fs.isfile("/d/link"),
        fs.isdir("/d/broken"),
    ]
    assert links == [len(SMALL), True, False, True, False]
    monkeypatch.setattr(fsspec.asyn.sync(fs.loop, fs._client).meta, "_send", None)  # the loop asks nothing
    del asked[:]
    assert fs.info("/d/f")["size"] == len(SMALL)
    found = [(fs.exists(path), fs.isfile(path), fs.isdir(path)) for path in ("/d/f", "/d", "/", "/nothing", "/d/f/below")]
    assert found == [(True, True, False), (True, False, True), (True, False, True), (False,) * 3, (False,) * 3]
    assert asked == ["Stat"] * 10  # the others are refusals
    with pytest.raises(FileNotFoundError, match="/nothing"):
        fs.info("/nothing")


def test_a_file_that_is_written_and_closed_is_a_question_and_a_request(fs: Any, asked: list[str]) -> None:
    with fs.open("/d/f", "wb") as file:
        file.write(SMALL)
        file.write(SMALL)
        assert not fs.exists("/d/f")
    assert [name for name in asked if name != "Stat"] == ["Batch", "Put"]
    with fs.open("/d/f") as file:
        assert (file.read(3), file.seek(-3, 2), file.read()) == (SMALL[:3], 17, SMALL[-3:])
        buffer = bytearray(5)
        file.seek(18)
        assert (file.readinto(buffer), buffer) == (2, b"89\0\0\0")
    assert is_inline(fs, "/d/f")


def test_what_stands_in_the_way_is_said_when_a_file_is_opened(fs: Any) -> None:
    fs.mkdir("/d")
    fs.pipe_file("/f", b"1")
    for path, mode, kind in [("/d", "wb", IsADirectoryError), ("/f", "xb", FileExistsError), ("/f/x", "wb", NotADirectoryError)]:
        with pytest.raises(kind):
            fs.open(path, mode)
    strict = fsspec.filesystem("fs3", path=fs.embedded, auto_mkdir=False, skip_instance_cache=True)
    with pytest.raises(FileNotFoundError):
        strict.open("/new/f", "wb")
    strict.close()


def test_an_exception_leaves_no_trace(fs: Any) -> None:
    def write_half() -> None:
        with fs.open("/f", "wb") as file:
            file.write(SMALL)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()
    assert fs.ls("/") == []


def test_a_file_that_appears_while_another_is_written_is_not_replaced_by_xb(fs: Any) -> None:
    file = fs.open("/f", "xb")
    file.write(SMALL)
    fs.pipe_file("/f", b"first")
    with pytest.raises(FileExistsError):
        file.close()
    assert fs.cat_file("/f") == b"first"
    with pytest.raises(FileExistsError):
        fs.pipe_file("/f", SMALL, mode="create")


def test_a_transaction_makes_the_directories_of_its_files(fs: Any) -> None:
    with fs.transaction:
        with fs.open("/new/f", "wb") as file:
            file.write(SMALL)
        assert not fs.exists("/new/f")
    assert fs.cat_file("/new/f") == SMALL


def test_a_flush_makes_it_durable_and_a_large_file_of_it(fs: Any) -> None:
    with fs.open("/f", "wb") as file:
        file.write(SMALL)
        file.flush()
        file.write(SMALL)
    assert fs.cat_file("/f") == SMALL * 2
    assert not is_inline(fs, "/f")


def test_it_grows_shrinks_and_is_changed_in_place(fs: Any) -> None:
    fs.pipe_file("/f", SMALL)
    with fs.open("/f", "ab") as file:
        file.write(b"abc")
    assert is_inline(fs, "/f")
    reader = fs.open("/f")
    with fs.open("/f", "r+b") as file:
        file.seek(2)
        file.write(b"XY")
        file.truncate(12)
    assert fs.cat_file("/f") == b"01XY456789ab"
    assert reader.read() == SMALL + b"abc", "a reader has what was there when it was opened"
    fs.pipe_file("/f", LARGEST)
    with fs.open("/f", "ab") as file:
        file.write(b"one more")
    assert fs.cat_file("/f") == LARGEST + b"one more"
    assert not is_inline(fs, "/f")
    fs.touch("/f")
    assert (fs.cat_file("/f"), is_inline(fs, "/f")) == (b"", True)


def test_many_are_read_and_copied_together(fs: Any, asked: list[str]) -> None:
    files = {f"/d/{index:03}": b"%03d" % index * 1000 for index in range(300)}
    fs.pipe(files)
    asked.clear()
    assert fs.cat(list(files)) == files
    assert len([name for name in asked if name == "Batch"]) <= 4
    fs.copy("/d/", "/e/", recursive=True)
    assert fs.cat(sorted(fs.find("/e"))) == {path.replace("/d/", "/e/"): data for path, data in files.items()}
    fs.rm("/d", recursive=True)


def test_asynchronous_files_keep_the_same_promises(fs: Any) -> None:
    async def run() -> None:
        async with await fs.open_async("/f", "wb") as file:
            await file.write(SMALL)
        async with await fs.open_async("/f") as file:
            assert await file.read() == SMALL
        async with await fs.open_async("/large", "wb") as file:
            await file.write(LARGEST + SMALL)
        file = await fs.open_async("/none", "wb")
        await file.write(SMALL)
        await file.discard()

    fsspec.asyn.sync(fs.loop, run)
    assert (is_inline(fs, "/f"), is_inline(fs, "/large")) == (True, False)
    assert fs.cat_file("/large") == LARGEST + SMALL
    assert not fs.exists("/none")


def test_a_service_that_keeps_nothing_inline_stores_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "MetaConfig", lambda: MetaConfig(inline_bytes=0))
    fs = fsspec.filesystem("fs3", path=str(tmp_path / "data"), skip_instance_cache=True)
    fs.pipe_file("/a/f", SMALL)
    fs.pipe_file("/a/g", SMALL, mode="create")
    fs.touch("/a/empty")
    with fs.open("/a/h", "wb") as file:
        file.write(SMALL)
    with fs.open("/a/log", "ab") as file:
        file.write(SMALL)
    assert fs.cat(["/a/f", "/a/g", "/a/h", "/a/log", "/a/empty"]) == {
        "/a/f": SMALL, "/a/g": SMALL, "/a/h": SMALL, "/a/log": SMALL, "/a/empty": b"",
    }  # fmt: skip
    assert not any(is_inline(fs, path) for path in fs.find("/a"))
    fs.close()


def test_a_put_of_too_many_bytes_does_nothing(fs: Any) -> None:
    async def run() -> Code:
        client = await fs._client()
        try:
            await client.put(NewFile("/f", memoryview(LARGEST + b"x"), UnnamedFile("/")))
        except FS3Error as failure:
            return failure.code
        return Code.OK

    assert fsspec.asyn.sync(fs.loop, run) is Code.NOT_INLINE
    assert not fs.exists("/f")
