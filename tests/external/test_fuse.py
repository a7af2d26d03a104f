"""fsspec's own FUSE mount (`fsspec.fuse`), which seeks before each read and write, and tells the kernel the errno of what fails.

Its calls are made directly, which needs nothing; the same through the kernel is a skip where fusepy, libfuse, /dev/fuse or the
right to mount is missing (`FUSE_LIBRARY_PATH` names a libfuse that is not installed)."""

from __future__ import annotations

import errno
import importlib
import os
import shutil
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from tests.external.library import library

pytestmark = [pytest.mark.external, pytest.mark.processes, pytest.mark.timeout(180), pytest.mark.filterwarnings("ignore")]

SERVE = """
import sys, fsspec, fsspec.fuse
fs, path = fsspec.url_to_fs(sys.argv[1])
fsspec.fuse.run(fs, path, sys.argv[2], foreground=True, threads=False)
"""


class FuseOSError(OSError):
    """As fusepy has it."""

    def __init__(self, number: int) -> None:
        super().__init__(number, os.strerror(number))


@pytest.fixture
def calls(url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the kernel calls, on an empty directory. Of fusepy, only names that `fsspec.fuse` imports are needed for that."""
    names = {"FUSE": object, "FuseOSError": FuseOSError, "LoggingMixIn": object, "Operations": object}
    fuse = types.ModuleType("fuse")
    vars(fuse).update(names)
    monkeypatch.setitem(sys.modules, "fuse", fuse)
    monkeypatch.delitem(sys.modules, "fsspec.fuse", raising=False)
    fs, path = fsspec.url_to_fs(url)
    operations = importlib.import_module("fsspec.fuse").FUSEr(fs, path)
    monkeypatch.delitem(sys.modules, "fsspec.fuse")
    return operations


def test_files_by_the_calls_of_a_mount(calls: Any) -> None:
    handle = calls.create("/x", 0o644)
    assert calls.getattr("/x")["st_size"] == 0
    assert calls.write("/x", b"hello ", 0, handle) == 6
    assert calls.write("/x", b"world", 6, handle) == 5
    assert calls.write("/x", b"J", 0, handle) == 1  # back, as `cp` of parts that arrive in another order
    assert calls.write("/x", b"!", 11, handle) == 1
    calls.release("/x", handle)
    assert calls.getattr("/x")["st_size"] == 12

    handle = calls.open("/x", os.O_RDONLY)
    assert calls.read("/x", 100, 6, handle) == b"world!"
    assert calls.read("/x", 5, 0, handle) == b"Jello"
    assert calls.read("/x", 5, 50, handle) == b""
    with pytest.raises(OSError, match="not writable") as refused:
        calls.write("/x", b"x", 0, handle)
    assert (refused.value.errno, refused.value.filename) == (errno.EBADF, f"{calls.root}x")
    calls.release("/x", handle)

    calls.truncate("/x", 0)
    assert calls.getattr("/x")["st_size"] == 0
    calls.chmod("/x", 0o100600)  # as the kernel says it
    assert calls.getattr("/x")["st_mode"] & 0o7777 == 0o600
    calls.unlink("/x")
    with pytest.raises(OSError) as missing:  # noqa: PT011
        calls.getattr("/x")
    assert missing.value.errno == errno.ENOENT


def test_adding_behind_the_end_of_a_file_opened_anew_is_refused(calls: Any) -> None:
    """`fsspec.fuse` knows no appending: it opens for writing from nothing. Zeros in the place of the old bytes would be worse."""
    handle = calls.open("/x", os.O_WRONLY)
    with pytest.raises(OSError, match="the new file has 0 bytes") as refused:
        calls.write("/x", b"more", 8, handle)
    assert (refused.value.errno, refused.value.filename) == (errno.ESPIPE, f"{calls.root}x")
    calls.release("/x", handle)


def test_directories_by_the_calls_of_a_mount(calls: Any) -> None:
    calls.mkdir("/d", 0o755)
    calls.release("/d/y", calls.create("/d/y", 0o644))
    assert calls.readdir("/", None) == [".", "..", "d"]
    assert calls.readdir("/d", None) == [".", "..", "y"]
    with pytest.raises(OSError) as full:  # noqa: PT011
        calls.rmdir("/d")
    assert full.value.errno == errno.ENOTEMPTY
    with pytest.raises(OSError) as taken:  # noqa: PT011
        calls.mkdir("/d", 0o755)
    assert taken.value.errno == errno.EEXIST
    calls.unlink("/d/y")
    calls.rmdir("/d")
    assert calls.readdir("/", None) == [".", ".."]


@pytest.fixture
def mount(url: str, tmp_path: Path) -> Iterator[Path]:
    """The same directory, mounted."""
    try:
        library("fuse").FUSE  # noqa: B018
    except (OSError, AttributeError):
        pytest.skip("there is no fusepy that finds a libfuse")
    if not os.access("/dev/fuse", os.W_OK) or shutil.which("umount") is None:
        pytest.skip("there is no /dev/fuse that this user may open, or no umount")
    where = tmp_path / "mounted"
    where.mkdir()
    serving = subprocess.Popen(
        [sys.executable, "-c", SERVE, url, str(where)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        while serving.poll() is None and not os.path.ismount(where):
            time.sleep(0.05)
        if serving.poll() is not None:
            assert serving.stdout is not None
            said = serving.stdout.read()
            if "permitted" in said or "EPERM" in said or "fusermount" in said:
                pytest.skip(f"this user may not mount: {said[-200:]}")
            pytest.fail(said)
        yield where
    finally:
        subprocess.run(["umount", str(where)], check=False, capture_output=True)
        serving.terminate()
        serving.communicate(timeout=60)


def test_a_real_mount(mount: Path) -> None:
    data = os.urandom(3_000_000)
    (mount / "x").write_bytes(data)
    assert (mount / "x").read_bytes() == data
    assert (mount / "x").stat().st_size == len(data)
    with (mount / "y").open("wb") as out:
        out.write(b"0123456789")
        out.seek(2)
        out.write(b"--")
    assert (mount / "y").read_bytes() == b"01--456789"
    with pytest.raises(OSError) as refused, (mount / "y").open("ab", buffering=0) as out:  # noqa: PT011
        out.write(b"more")
    assert refused.value.errno == errno.ESPIPE
    shutil.copy(mount / "x", mount / "z")
    assert (mount / "z").read_bytes() == data
    (mount / "d").mkdir()
    assert sorted(path.name for path in mount.iterdir()) == ["d", "x", "y", "z"]
    for path in (mount / "x", mount / "y", mount / "z"):
        path.unlink()
    (mount / "d").rmdir()
    assert list(mount.iterdir()) == []
