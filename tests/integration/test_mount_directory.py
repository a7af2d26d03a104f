"""A mount of a directory of a cluster: nothing above it is reached, and it stays that directory."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from fs3.api.fuse.options import FuseOptions
from fs3.sim.conformance.fuse import fails_with, why_no_mount
from tests.mounts import embedded_mount

pytestmark = pytest.mark.skipif(bool(why_no_mount()), reason=f"nothing can be mounted here: {why_no_mount()}")


@pytest.fixture
def whole(tmp_path: Path) -> Iterator[Path]:
    """A mount of all, with a directory `a/b` in it."""
    (tmp_path / "whole").mkdir()
    with embedded_mount(tmp_path / "fs3", tmp_path / "whole"):
        (tmp_path / "whole" / "a" / "b").mkdir(parents=True)
        yield tmp_path / "whole"


@pytest.fixture
def below(whole: Path) -> Iterator[Path]:
    """A mount of `a/b`, reached through a symlink."""
    directory = whole.parent / "below"
    directory.mkdir()
    (whole / "link").symlink_to("a/b")
    with embedded_mount(whole.parent / "fs3", directory, FuseOptions(path="/link/")):
        yield directory


def test_names_of_its_root(whole: Path, below: Path) -> None:
    (below / "f").write_bytes(b"f")
    assert (whole / "a" / "b" / "f").read_bytes() == b"f"
    (below / "d").mkdir()
    os.rename(below / "f", below / "d" / "f")
    os.rename(below / "d" / "f", below / "g")
    os.link(below / "g", below / "h")
    (below / "s").symlink_to("h")
    assert (below / "s").read_bytes() == b"f"
    assert sorted(os.listdir(whole / "a" / "b")) == ["d", "g", "h", "s"]
    os.setxattr(below, "user.a", b"1")
    os.chmod(below, 0o750)
    found = (whole / "a" / "b").stat()
    assert (found.st_mode & 0o777, found.st_ino) == (0o750, below.stat().st_ino)
    assert os.getxattr(whole / "a" / "b", "user.a") == b"1"


def test_nothing_above_it_is_reached(whole: Path, below: Path) -> None:
    (whole / "secret").write_bytes(b"x")
    (whole / "a" / "secret").write_bytes(b"x")
    (below / "d").mkdir()
    for name in ("../secret", "d/../../secret", "d/../../../secret"):
        assert not (below / name).exists()
    (below / "up").symlink_to("../secret")
    fails_with(errno.ENOENT, os.open, below / "up", os.O_RDONLY)
    fd = os.open(below, os.O_RDONLY)
    fails_with(errno.ENOENT, partial(os.stat, "../secret", dir_fd=fd))
    with os.scandir(below) as entries:
        assert [entry.name for entry in entries] == ["d", "up"]
    os.close(fd)
    fails_with(errno.EXDEV, os.link, whole / "secret", below / "secret")


def test_it_stays_the_directory_that_it_was(whole: Path, below: Path) -> None:
    (below / "f").write_bytes(b"f")
    os.rename(whole / "a" / "b", whole / "moved")
    (whole / "a" / "b").mkdir()
    assert (below / "f").read_bytes() == b"f"
    (below / "g").write_bytes(b"g")
    assert sorted(os.listdir(whole / "moved")) == ["f", "g"]
    for name in ("f", "g"):
        os.unlink(whole / "moved" / name)
    os.rmdir(whole / "moved")
    fails_with(errno.ESTALE, os.open, below / "h", os.O_WRONLY | os.O_CREAT)


def test_what_is_no_directory_is_refused(whole: Path) -> None:
    (whole / "f").write_bytes(b"x")
    directory = whole.parent / "other"
    directory.mkdir()
    for path, kind in (("/f", NotADirectoryError), ("/none", FileNotFoundError), ("/a/b/c", FileNotFoundError)):
        with pytest.raises(kind), embedded_mount(whole.parent / "fs3", directory, FuseOptions(path=path)):
            pass
    assert not os.path.ismount(directory)
