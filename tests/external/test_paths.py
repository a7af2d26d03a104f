"""Paths and chained URLs."""

from __future__ import annotations

import zipfile
from pathlib import Path

import fsspec
import pytest

from tests.external.library import library

pytestmark = [
    pytest.mark.external,
    pytest.mark.processes,
    pytest.mark.timeout(180),
    # What these libraries warn about among themselves, and that fork() and threads do not go together in general.
    pytest.mark.filterwarnings("ignore"),
]


def test_universal_pathlib(url: str) -> None:
    upath = library("upath")
    path = upath.UPath(url)
    assert str(path) == url
    (path / "a").mkdir()
    (path / "a" / "x.txt").write_text("text")
    assert (path / "a" / "x.txt").read_text() == "text"
    assert str(path / "a" / "x.txt") == f"{url}/a/x.txt"
    assert [str(child) for child in (path / "a").iterdir()] == [f"{url}/a/x.txt"]
    assert [child.name for child in path.glob("**/*.txt")] == ["x.txt"]
    (path / "a" / "x.txt").rename(str(path / "a" / "y.txt"))
    assert (path / "a" / "y.txt").stat().st_size == 4
    (path / "a" / "y.txt").unlink()
    assert not (path / "a" / "y.txt").exists()


def test_chained_urls(url: str, tmp_path: Path) -> None:
    with fsspec.open(f"{url}/x.zip", "wb") as file, zipfile.ZipFile(file, "w") as out:
        out.writestr("inner.txt", "in a zip")
    with fsspec.open(f"zip://inner.txt::{url}/x.zip", "rt") as file:
        assert file.read() == "in a zip"
    for cache in ("simplecache", "filecache", "blockcache"):
        for _ in range(2):
            with fsspec.open(f"{cache}::{url}/x.zip", "rb", **{cache: {"cache_storage": str(tmp_path / cache)}}) as file:
                assert zipfile.ZipFile(file).read("inner.txt") == b"in a zip"
        assert list((tmp_path / cache).iterdir())
