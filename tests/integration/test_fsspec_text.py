"""Text through fsspec: what is appended to it goes on as it began, as in local files."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import fsspec
import pytest

from fs3.api.fsspec import FS3FileSystem

MARKED = ("utf-8-sig", "utf_8_sig", "UTF-16", "utf-32")


def _open_here(fs: FS3FileSystem, path: str, encoding: str) -> Any:
    return fs.open(path, "a", encoding=encoding)


def _open_by_fsspec(fs: FS3FileSystem, path: str, encoding: str) -> Any:
    return fsspec.core.OpenFile(fs, path, "a", encoding=encoding)


def _wrap(fs: FS3FileSystem, path: str, encoding: str) -> Any:
    """As pandas does."""
    return io.TextIOWrapper(fs.open(path, "ab"), encoding=encoding)


def _compress(fs: FS3FileSystem, path: str, encoding: str) -> Any:
    return fs.open(path, "a", encoding=encoding, compression="gzip")


@pytest.mark.parametrize("encoding", [*MARKED, "utf-16-le", "utf-8"])
@pytest.mark.parametrize("opened", [_open_here, _open_by_fsspec, _wrap, _compress])
def test_the_mark_of_a_text_is_written_once(fs: Any, room: str, opened: Callable[..., Any], encoding: str) -> None:
    for part in ("é\n", "n", "\n"):
        with opened(fs, f"{room}/t", encoding) as file:
            file.write(part)
    compression = "gzip" if opened is _compress else None
    with fs.open(f"{room}/t", "r", encoding=encoding, compression=compression, newline="") as file:
        assert file.read() == "é\nn\n"


@pytest.mark.parametrize("mode", ["w", "a", "x"])
@pytest.mark.parametrize("encoding", MARKED)
def test_nothing_written_is_nothing(fs: Any, room: str, encoding: str, mode: str) -> None:
    fs.open(f"{room}/t", mode, encoding=encoding).close()
    assert fs.size(f"{room}/t") == 0
