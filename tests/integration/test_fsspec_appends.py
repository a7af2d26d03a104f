"""Files that are appended to, as libraries use them: the same calls on a local file give the same."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path
from typing import Any

import fsspec
import pytest


@pytest.fixture
def twins(fs: Any, room: str, tmp_path: Path) -> list[tuple[Any, str, str, dict[str, Any]]]:
    """The filesystem, and a local one: instance, path, URL, options."""
    local = fsspec.filesystem("file")
    here, there = f"{room}/x", str(tmp_path / "x")
    return [(fs, here, fs.unstrip_protocol(here), fs.storage_options), (local, there, f"file://{there}", {})]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-be"])
@pytest.mark.parametrize("mode", ["a", "at"])
def test_text_is_appended_with_one_mark(fs: Any, room: str, tmp_path: Path, encoding: str, mode: str) -> None:
    """As by the builtin `open`. (fsspec's local files stand at 0 when they are opened to append, and get a second mark.)"""
    for text in ("eins", "zwei"):
        with fsspec.open(fs.unstrip_protocol(f"{room}/x"), mode, encoding=encoding, **fs.storage_options) as file:
            assert file.seekable()
            file.write(text)
        with open(tmp_path / "x", mode, encoding=encoding) as file:
            file.write(text)
    assert fs.cat_file(f"{room}/x") == (tmp_path / "x").read_bytes() == "einszwei".encode(encoding)


def test_where_an_appended_file_stands(twins: Any) -> None:
    seen = []
    for fs, path, url, options in twins:
        fs.pipe_file(path, b"12345")
        told = []
        with fsspec.open(url, "ab", **options) as file:
            told += [file.seek(0, 2), file.tell(), file.seek(0, 1), file.seekable()]
            told += [file.write(b"67"), file.tell(), file.seek(0, 2)]
        with fsspec.open(url, "a", **options) as text:
            told += [text.seek(0, 2), text.tell(), text.write("89"), text.tell(), text.seek(0, 2)]
        seen.append((told, fs.cat_file(path)))
    assert seen[0] == seen[1] == ([5, 5, 5, True, 2, 7, 7, 7, 7, 2, 9, 9], b"123456789")


def test_an_appended_file_does_not_go_back(fs: Any, room: str) -> None:
    """A local one does, and appends what is written there: a program that writes over its header has broken its file."""
    fs.pipe_file(f"{room}/x", b"12345")
    with fs.open(f"{room}/x", "ab") as file:
        for to, whence in ((0, 0), (5, 0), (-1, 1), (-1, 2), (1, 2)):
            with pytest.raises(io.UnsupportedOperation) as refused:
                file.seek(to, whence)
            assert refused.value.filename == f"{room}/x"
        assert file.tell() == 5
    assert fs.cat_file(f"{room}/x") == b"12345"


def test_archives_are_streamed_into_an_appended_file(fs: Any, room: str) -> None:
    with fs.open(f"{room}/x.zip", "ab") as file, zipfile.ZipFile(file, "w") as archive:
        for name in ("1", "2"):
            archive.writestr(name, name * 1000)
    with fs.open(f"{room}/x.zip") as file, zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        assert [archive.read(name) for name in archive.namelist()] == [b"1" * 1000, b"2" * 1000]
    with fs.open(f"{room}/x.zip", "r+b") as file, zipfile.ZipFile(file, "a") as archive:  # "ab" cannot write over the directory
        archive.writestr("3", "three")
    with fs.open(f"{room}/x.zip") as file, zipfile.ZipFile(file) as archive:
        assert (archive.testzip(), archive.namelist()) == (None, ["1", "2", "3"])


def test_members_are_appended_to_a_compressed_file(fs: Any, room: str) -> None:
    url = fs.unstrip_protocol(f"{room}/x.gz")
    for text in ("one ", "two ", "three"):
        with fsspec.open(url, "at", compression="gzip", **fs.storage_options) as file:
            file.write(text)
    assert gzip.decompress(fs.cat_file(f"{room}/x.gz")) == b"one two three"
