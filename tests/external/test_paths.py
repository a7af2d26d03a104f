"""Paths and chained URLs."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
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


def test_universal_pathlib_moves_copies_and_names(url: str, tmp_path: Path) -> None:
    upath = library("upath")
    path = upath.UPath(url)
    (path / "new").write_text("new")
    (path / "old").write_text("old")
    assert str((path / "new").replace(path / "old")) == f"{url}/old"
    assert (path / "old").read_text() == "new"
    assert not (path / "new").exists()
    odd = path / "odd [1]#?.txt"
    odd.write_text("odd")
    assert upath.UPath(str(odd)).read_text() == "odd"
    assert str(pickle.loads(pickle.dumps(odd))) == str(odd)
    (path / "tree" / "deep").mkdir(parents=True)
    odd.copy_into(path / "tree" / "deep")
    (path / "tree").copy(path / "copied")
    assert sorted(str(found) for found in path.rglob("odd*")) == [
        f"{url}/copied/deep/{odd.name}", str(odd), f"{url}/tree/deep/{odd.name}",
    ]  # fmt: skip
    odd.copy(upath.UPath(tmp_path / "here"))
    assert (tmp_path / "here").read_text() == "odd"
    assert [str(parent) for parent in (path / "tree").parents] == [url, f"{url.rpartition('/')[0]}/"]
    with pytest.raises(FileNotFoundError, match="no such file"):
        (path / "nothing").read_text()


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


def test_chained_urls_of_other_kinds(url: str, tmp_path: Path) -> None:
    with fsspec.open(f"{url}/x.tar.gz", "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as out:
        member = tarfile.TarInfo("inner.txt")
        member.size = 8
        out.addfile(member, io.BytesIO(b"in a tar"))
    with fsspec.open(f"tar://inner.txt::{url}/x.tar.gz") as file:
        assert file.read() == b"in a tar"
    with fsspec.open(f"zip://inner.txt::{url}/x.zip", "wb", zip={"mode": "w"}) as file:
        file.write(b"in a zip")
    for cached in ("", "filecache::", "blockcache::"):
        how = {cached.removesuffix("::"): {"cache_storage": str(tmp_path / cached)}} if cached else {}
        with fsspec.open(f"zip://inner.txt::{cached}{url}/x.zip", **how) as file:
            assert file.read() == b"in a zip"
    storage = {"simplecache": {"cache_storage": str(tmp_path / "simple")}}
    with fsspec.open(f"simplecache::{url}/through", "wb", **storage) as file:
        file.write(b"0123456789")
    with fsspec.open(f"{url}/through") as file:
        assert file.read() == b"0123456789"
    assert Path(fsspec.open_local(f"simplecache::{url}/through", **storage)).read_bytes() == b"0123456789"
    fs, path = fsspec.url_to_fs(url)
    fs.pipe_file(f"{path}/references.json", json.dumps({"part": [f"{url}/through", 2, 3], "said": "text"}).encode())
    references = fsspec.filesystem("reference", fo=f"{url}/references.json", remote_protocol="fs3")
    assert (references.cat("part"), references.cat("said")) == (b"234", b"text")
    assert fsspec.filesystem("dir", path=path, fs=fs).cat("through") == b"0123456789"


def test_rsync_by_url(url: str, tmp_path: Path) -> None:
    generic = library("fsspec.generic")
    fs, path = fsspec.url_to_fs(url)
    for name in ("a", "b [1].txt", "deep/c"):
        (tmp_path / "from" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "from" / name).write_text(name)
    generic.rsync(f"file://{tmp_path}/from", f"{url}/there")
    assert fs.find(f"{path}/there") == [f"{path}/there/{name}" for name in ("a", "b [1].txt", "deep/c")]
    (tmp_path / "from" / "a").write_text("longer than it was")
    (tmp_path / "from" / "deep" / "c").unlink()
    generic.rsync(f"file://{tmp_path}/from", f"{url}/there", delete_missing=True)
    assert fs.find(f"{path}/there") == [f"{path}/there/{name}" for name in ("a", "b [1].txt")]
    assert fs.cat_file(f"{path}/there/a") == b"longer than it was"
    generic.rsync(f"{url}/there", f"{url}/again")
    generic.rsync(f"{url}/again", f"file://{tmp_path}/back")
    assert (tmp_path / "back" / "b [1].txt").read_text() == "b [1].txt"
    assert (tmp_path / "back" / "a").read_text() == "longer than it was"


def test_progress_bars(url: str, tmp_path: Path) -> None:
    library("tqdm")
    fs, path = fsspec.url_to_fs(url)
    for index in range(30):
        (tmp_path / "from" / f"d{index % 3}").mkdir(parents=True, exist_ok=True)
        (tmp_path / "from" / f"d{index % 3}" / str(index)).write_bytes(bytes(index))
    for move, source, target in ((fs.put, f"{tmp_path}/from/", f"{path}/there"), (fs.get, f"{path}/there/", f"{tmp_path}/back")):
        with fsspec.callbacks.TqdmCallback(tqdm_kwargs={"file": io.StringIO()}) as bar:
            move(source, target, recursive=True, callback=bar)
            assert bar.value == bar.size >= 30
    assert (tmp_path / "back" / "d2" / "29").read_bytes() == bytes(29)
