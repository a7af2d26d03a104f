"""What stands in the way of a new file is said of that file, not of the directory above it, however it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from fs3.base.errors import FS3Error

SIZES = (0, 1, 100_000, 5_000_000)
"""Inline, small, and of several blocks."""

Way = Callable[[Any, str, bytes], object]


def _write(fs: Any, path: str, data: bytes, mode: str = "wb") -> None:
    with fs.open(path, mode) as file:
        file.write(data)


def _write_async(fs: Any, path: str, data: bytes) -> None:
    async def write() -> None:
        async with await fs.open_async(path, "wb") as file:
            await file.write(data)

    fsspec.asyn.sync(fs.loop, write)


def _write_in_transaction(fs: Any, path: str, data: bytes) -> None:
    with fs.transaction:
        _write(fs, path, data)


def _copy(fs: Any, path: str, data: bytes) -> None:
    source = f"{path.split('/')[1]}/source"
    fs.pipe_file(source, data)
    fs.cp_file(source, path)


WAYS: dict[str, Way] = {
    "pipe_file": lambda fs, path, data: fs.pipe_file(path, data),
    "create": lambda fs, path, data: fs.pipe_file(path, data, mode="create"),
    "pipe": lambda fs, path, data: fs.pipe({path: data}),
    "mapping": lambda fs, path, data: fs.get_mapper("/").__setitem__(path[1:], data),
    "wb": _write,
    "xb": lambda fs, path, data: _write(fs, path, data, "xb"),
    "ab": lambda fs, path, data: _write(fs, path, data, "ab"),
    "async": _write_async,
    "transaction": _write_in_transaction,
    "copy": _copy,
}


@pytest.fixture
def strict(fs: Any) -> Iterator[Any]:
    strict = type(fs)(**{**fs.storage_options, "auto_mkdir": False})
    yield strict
    strict.close()


@pytest.mark.parametrize("way", WAYS)
def test_a_file_in_the_place_of_a_directory(fs: Any, room: str, way: str) -> None:
    fs.pipe_file(f"{room}/file", b"x")
    for below in ("name", "deeper/name"):
        for size in SIZES:
            with pytest.raises(NotADirectoryError, match="/name'"):
                WAYS[way](fs, f"{room}/file/{below}", bytes(size))


@pytest.mark.parametrize("way", [way for way in WAYS if way != "mapping"])
def test_a_directory_that_is_not_there(strict: Any, room: str, way: str) -> None:
    for below in ("no/name", "no/deeper/name"):
        for size in SIZES:
            with pytest.raises(FileNotFoundError, match="/name'"):
                WAYS[way](strict, f"{room}/{below}", bytes(size))


@pytest.mark.parametrize("mode", ["wb", "xb", "ab"])
def test_a_name_that_is_too_long_is_refused_when_it_is_opened(fs: Any, room: str, mode: str) -> None:
    with pytest.raises(FS3Error, match="longer than 255 bytes"):
        fs.open(f"{room}/{'x' * 256}", mode)


def test_uploads_name_what_they_would_have_made(fs: Any, room: str, tmp_path: Path) -> None:
    fs.pipe_file(f"{room}/file", b"x")
    for size in SIZES:
        (tmp_path / "local").write_bytes(bytes(size))
        with pytest.raises(NotADirectoryError, match="/file/name'"):
            fs.put_file(tmp_path / "local", f"{room}/file/name")


def test_a_mapping_takes_arrays_and_makes_directories_as_the_filesystem_does(fs: Any, strict: Any, room: str) -> None:
    for mapper in (fs.get_mapper(room), strict.get_mapper(room)):
        mapper["a/b"] = np.arange(3).astype("M8[s]")
        assert np.frombuffer(mapper["a/b"], "i8").tolist() == [0, 1, 2]
        fs.rm(f"{room}/a", recursive=True)
    mapper = fs.get_mapper(room)
    mapper.setitems({"c": np.arange(2, dtype="u1"), "d/e": b"x"})
    assert dict(mapper) == {"c": b"\0\1", "d/e": b"x"}
