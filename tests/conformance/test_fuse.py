"""Every file system on the FUSE driver passes the same suite."""

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from fs3.drivers.fuse.mount import DEVICE, is_mounted, list_mounts, mount, unmount
from fs3.drivers.fuse.operations import Operations
from fs3.drivers.fuse.records import MountOptions
from fs3.sim.conformance.fuse import FuseTests, fails_with, mounted, why_no_mount
from fs3.sim.conformance.fuse_memory import MemoryOperations


async def _memory() -> Operations:
    return MemoryOperations()


class TestMemory(FuseTests):
    def mount(self, directory: Path) -> AbstractContextManager[Path]:
        return mounted(directory, _memory)


@pytest.mark.skipif(bool(why_no_mount()), reason=f"nothing can be mounted here: {why_no_mount()}")
@pytest.mark.skipif(shutil.which("fusermount3") is None, reason="fusermount3 is not installed")
def test_the_helper_mounts_and_unmounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fs3.drivers.fuse.mount.is_privileged", lambda: False)
    directory = tmp_path / "a mount"
    directory.mkdir()
    options = MountOptions(source="fs3://a:1,b:2", allow_other=True, read_only=True)
    with mounted(directory, _memory, options):
        assert (os.path.realpath(directory), "fuse.fs3", "fs3://a:1,b:2") in list_mounts()
        assert os.listdir(directory) == []
        fails_with(errno.EROFS, os.mkdir, directory / "d")
        with pytest.raises(OSError, match="something is mounted there already"):
            mount(str(directory), options)
        with pytest.raises(OSError, match="not"):
            unmount(str(tmp_path))
    assert not is_mounted(str(directory))


UNPRIVILEGED = """
import asyncio, os, sys
# What is imported late could not be read by then.
import concurrent.futures.thread, encodings.ascii, encodings.utf_8
from fs3.drivers.fuse.mount import is_privileged, mount, unmount
from fs3.drivers.fuse.records import MountOptions
from fs3.drivers.fuse.session import Session
from fs3.sim.conformance.fuse_memory import MemoryOperations

os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)

async def main(directory):
    assert not is_privileged()
    session = Session(mount(directory, MountOptions(source="a,b")), MemoryOperations())
    await session.wait_ready()
    def use():
        with open(directory + "/file", "w") as file:
            file.write("hello")
        print(os.stat(directory + "/file").st_uid, open(directory + "/file").read())
        unmount(directory)
    await asyncio.to_thread(use)
    await session.wait_ended()
    await session.close()

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.skipif(bool(why_no_mount()), reason=f"nothing can be mounted here: {why_no_mount()}")
@pytest.mark.skipif(shutil.which("fusermount3") is None, reason="fusermount3 is not installed")
@pytest.mark.skipif(not os.path.exists(DEVICE) or not os.stat(DEVICE).st_mode & 0o002, reason=f"only root opens {DEVICE} here")
def test_a_user_without_privileges_mounts_by_the_helper() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as home:
        directory = Path(home) / "mnt"
        directory.mkdir()
        os.chmod(home, 0o755)
        os.chown(directory, 65534, 65534)
        done = subprocess.run([sys.executable, "-c", UNPRIVILEGED, directory], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (0, "65534 hello\n", "")
        assert not is_mounted(str(directory))
