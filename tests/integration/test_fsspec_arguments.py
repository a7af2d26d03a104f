"""Arguments of the wrong kind through fsspec: one error, which names the argument; and options that would have no effect."""

from __future__ import annotations

import asyncio
import io
import pickle
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from fs3.base.errors import InvalidArgument, InvalidType

CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "info": lambda fs, path: fs.info(path),
    "exists": lambda fs, path: fs.exists(path),
    "isdir": lambda fs, path: fs.isdir(path),
    "ls": lambda fs, path: fs.ls(path),
    "find": lambda fs, path: fs.find(path),
    "glob": lambda fs, path: fs.glob(path),
    "walk": lambda fs, path: list(fs.walk(path)),
    "du": lambda fs, path: fs.du(path),
    "open": lambda fs, path: fs.open(path),
    "open text": lambda fs, path: fs.open(path, "w", encoding="utf-16"),
    "open compressed": lambda fs, path: fs.open(path, compression="infer"),
    "open_async": lambda fs, path: asyncio.run(fs.open_async(path)),
    "cat": lambda fs, path: fs.cat(path),
    "cat of many": lambda fs, path: fs.cat(["/f", path]),
    "cat_file": lambda fs, path: fs.cat_file(path),
    "cat_ranges": lambda fs, path: fs.cat_ranges([path], 0, 1),
    "pipe_file": lambda fs, path: fs.pipe_file(path, b""),
    "touch": lambda fs, path: fs.touch(path),
    "mkdir": lambda fs, path: fs.mkdir(path),
    "makedirs": lambda fs, path: fs.makedirs(path, exist_ok=True),
    "rmdir": lambda fs, path: fs.rmdir(path),
    "rm": lambda fs, path: fs.rm(path),
    "rm_file": lambda fs, path: fs.rm_file(path),
    "rm of many": lambda fs, path: fs.rm([path], recursive=True),
    "mv from": lambda fs, path: fs.mv(path, "/goal"),
    "mv to": lambda fs, path: fs.mv("/f", path),
    "mv_file to": lambda fs, path: fs.mv_file("/f", path),
    "cp from": lambda fs, path: fs.cp(path, "/goal"),
    "cp to": lambda fs, path: fs.cp("/f", path),
    "cp_file to": lambda fs, path: fs.cp_file("/f", path),
    "get from": lambda fs, path: fs.get(path, "/nowhere/local"),
    "get to": lambda fs, path: fs.get("/f", path),
    "put from": lambda fs, path: fs.put(path, "/goal"),
    "put to": lambda fs, path: fs.put(__file__, path),
}


@pytest.mark.parametrize("path", [None, 5, b"/f", object(), io.BytesIO(b"/f")], ids=["None", "int", "bytes", "object", "file"])
@pytest.mark.parametrize("call", CALLS)
def test_what_is_no_path_is_named(fs: Any, call: str, path: Any) -> None:
    with pytest.raises(InvalidType, match=r"^\[?.*path[12]?(\[\d\])? is (None|a \w+), not a str"):
        CALLS[call](fs, path)


def test_paths_of_pathlib_are_paths(fs: Any, room: str, tmp_path: Path) -> None:
    path = PurePosixPath(room) / "x"
    fs.pipe_file(path, b"x")
    assert fs.cat(path) == b"x"
    assert fs.cat([path]) == {str(path): b"x"}
    assert fs.glob(PurePosixPath(room) / "*") == [str(path)]
    fs.cp(path, path.with_name("y"))
    fs.mv(path.with_name("y"), path.with_name("z"))
    fs.get(path, tmp_path / "x")
    fs.put(tmp_path / "x", path.with_name("put"))
    fs.rm(path)
    assert fs.ls(room, detail=False) == [f"{room}/put", f"{room}/z"]


def test_options_that_would_have_no_effect_are_refused(fs: Any, room: str) -> None:
    for options in ({"chunksize": 1 << 20}, {"buffering": 0}, {"mode": "wb", "acl": "private"}):
        name = list(options)[-1]
        for opened in (fs.open, fs._open):
            with pytest.raises(InvalidType, match=f"no option '{name}'; known are .*chunk_size") as refused:
                opened(f"{room}/x", **options)
            assert refused.value.filename == f"{room}/x"
    with pytest.raises(TypeError, match="no option 'acl'"):
        asyncio.run(fs.open_async(f"{room}/x", "wb", acl="private"))
    assert not fs.exists(f"{room}/x")


def test_options_that_callers_hand_over_as_a_matter_of_course_are_taken(fs: Any, room: str) -> None:
    text = {"encoding": None, "errors": None, "newline": None}
    cache = {"cache_type": "readahead", "cache_options": {}, "block_size": "default"}
    with fs.open(f"{room}/x", "wb", compression=None, autocommit=True, **text, **cache) as file:
        file.write(b"bytes")
    with fs.open(f"{room}/x", "rb", size=5, **text, **cache) as file:
        assert pickle.loads(pickle.dumps(file)).read() == file.read() == b"bytes"
    with fs.open(f"{room}/x", "r", **text, **cache) as file:
        assert file.read() == "bytes"
    with fs.open(f"{room}/x", default_cache="none", fill_cache=False) as file:  # dask, on any file system
        assert file.read() == b"bytes"


@pytest.mark.parametrize("mode", [None, 5, b"rb"])
def test_a_mode_that_is_no_text(fs: Any, mode: Any) -> None:
    with pytest.raises(InvalidType, match=r"mode is .*, not a str"):
        fs.open("/f", mode)


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        ({"chunk_size": 5}, "chunk_size 5 is not"),
        ({"chunk_size": -1}, "chunk_size is -1"),
        ({"chunk_size": "1M"}, "chunk_size is a str, not an int"),
        ({"chunk_size": 1 << 40}, f"chunk_size is {1 << 40}"),
        ({"stripe": 1 << 20}, "stripe"),
        ({"stripe": 1.5}, "stripe is a float, not an int"),
    ],
)
def test_bad_layouts_name_the_file(fs: Any, room: str, options: Any, refused: str) -> None:
    for call in (
        lambda path: fs.open(path, "wb", **options),
        lambda path: fs.open(path, "ab", **options),
        lambda path: fs.pipe_file(path, b"", **options),
        lambda path: fs.mkdir(path, **options),
    ):
        with pytest.raises(InvalidArgument, match=refused) as raised:
            call(f"{room}/x")
        assert raised.value.filename == f"{room}/x"
    assert fs.ls(room) == []


def test_files_get_the_chunk_size_of_the_directory_they_are_made_in(fs: Any, room: str) -> None:
    fs.mkdir(f"{room}/a/b", chunk_size=1 << 17)
    fs.pipe_file(f"{room}/a/b/x", bytes(1 << 18))
    fs.pipe_file(f"{room}/a/x", bytes(1 << 18))

    async def chunk_sizes() -> list[int]:
        client = await fs._client()
        return [(await client.stat(f"{room}/{name}")).layout.chunk_size for name in ("a/b/x", "a/x")]

    below, beside = asyncio.run_coroutine_threadsafe(chunk_sizes(), fs.loop).result()
    assert below == 1 << 17 != beside
