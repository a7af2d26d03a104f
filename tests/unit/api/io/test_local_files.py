"""Small files of this machine, read and replaced as a whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fs3.api.io import transfer
from fs3.api.io.transfer import read_local, save_local

DATA = memoryview(b"new bytes")


def test_a_file_and_the_directories_above_it_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert save_local(str(tmp_path / "a/b/x"), DATA)
    assert (tmp_path / "a/b/x").read_bytes() == DATA
    monkeypatch.chdir(tmp_path)
    assert save_local("beside", DATA)
    assert (tmp_path / "beside").read_bytes() == DATA
    assert sorted(os.listdir(tmp_path)) == ["a", "beside"]


def test_a_file_is_replaced_and_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"a longer one that was there before")
    path.chmod(0o640)
    assert save_local(str(path), DATA)
    assert path.read_bytes() == DATA
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_symlink_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there/x").write_bytes(b"old")
    (tmp_path / "file").symlink_to("there/x")
    (tmp_path / "dangling").symlink_to("there/y")
    (tmp_path / "directory").symlink_to("there")
    for name in ("file", "dangling", "directory/z"):
        assert save_local(str(tmp_path / name), DATA)
        assert (tmp_path / name).read_bytes() == DATA
    assert os.readlink(tmp_path / "file") == "there/x"
    assert sorted(os.listdir(tmp_path / "there")) == ["x", "y", "z"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_what_is_no_regular_file_is_left_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        assert not save_local(str(path), DATA)
        assert read_local(str(path), 100) is None
    assert not save_local(str(tmp_path / "pipe/x"), DATA)
    assert os.listdir(tmp_path) == ["pipe"]


def test_nothing_is_left_of_a_file_that_could_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "no space left on device")

    (tmp_path / "x").write_bytes(b"old")
    monkeypatch.setattr(transfer, "_pwrite_all", fail)
    assert not save_local(str(tmp_path / "x"), DATA)
    assert not save_local(str(tmp_path / "y"), DATA)
    assert os.listdir(tmp_path) == ["x"]
    assert (tmp_path / "x").read_bytes() == b"old"


def test_a_file_that_is_larger_or_missing_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    (tmp_path / "empty").write_bytes(b"")
    assert read_local(str(tmp_path / "x"), 5) == b"12345"
    assert read_local(str(tmp_path / "empty"), 5) == b""
    assert read_local(str(tmp_path / "x"), 4) is None
    assert read_local(str(tmp_path / "none"), 5) is None
