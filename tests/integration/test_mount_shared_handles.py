"""Files that are open on two mounts for long: followed, appended to, cut and replaced on the other one."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fs3.sim.conformance.fuse import why_no_mount

pytestmark = pytest.mark.skipif(bool(why_no_mount()), reason=f"nothing can be mounted here: {why_no_mount()}")

MAPS = """
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_APPEND)
with mmap.mmap(fd, int(sys.argv[2]), mmap.MAP_PRIVATE, mmap.PROT_READ) as mapped:
    assert mapped[:] == os.pread(fd, 1000, 0)
"""
LINE = b"0123456789\n"


@pytest.mark.parametrize("first", [1, 5000])
def test_who_follows_a_file_reads_bytes_and_no_zeros(roots: tuple[Path, Path], first: int) -> None:
    one, two = roots
    (one / "log").write_bytes(LINE * first)
    following = os.open(two / "log", os.O_RDONLY)
    found = os.read(following, len(LINE) * first)
    with (one / "log").open("ab", buffering=0) as log:
        for _ in range(20):
            log.write(LINE)
            while os.fstat(following).st_size > len(found):
                found += os.read(following, 4096)
    os.close(following)
    assert found == LINE * (first + 20)


def test_what_is_open_for_appending_is_read_and_mapped(roots: tuple[Path, Path]) -> None:
    one, two = roots
    fd = os.open(one / "f", os.O_RDWR | os.O_APPEND | os.O_CREAT)
    reader = os.open(one / "f", os.O_RDONLY)
    other = os.open(two / "f", os.O_WRONLY | os.O_APPEND)
    written = b""
    for number in range(30):
        line = b"%d\n" % number
        assert os.write(fd if number % 3 else other, line) == len(line)
        written += line
        assert os.pread(fd, 1000, 0) == written
        assert os.fstat(reader).st_size == len(written)
        assert os.pread(reader, 1000, 0) == written
    # By another process: this one serves the mount, and would wait for itself.
    subprocess.run([sys.executable, "-c", MAPS, one / "f", str(len(written))], check=True, timeout=60)
    for each in (fd, reader, other):
        os.close(each)
    assert (two / "f").read_bytes() == written


def test_a_writer_under_a_lock_learns_of_a_truncation_by_another_mount(roots: tuple[Path, Path]) -> None:
    """Both have it open for writing all the time."""
    first, second = (os.open(root / "f", os.O_RDWR | os.O_CREAT) for root in roots)
    wanted = b""
    for number in range(6):
        fd = (first, second)[number % 2]
        fcntl.flock(fd, fcntl.LOCK_EX)
        assert os.fstat(fd).st_size == len(wanted)
        assert os.pread(fd, 200_000, 0) == wanted
        os.ftruncate(fd, 10)
        os.pwrite(fd, bytes([65 + number]) * 50_000, 20_000 + number)
        wanted = wanted[:10].ljust(10, b"\0") + bytes(20_000 + number - 10) + bytes([65 + number]) * 50_000
        fcntl.flock(fd, fcntl.LOCK_UN)
    os.close(first)
    os.close(second)
    assert (roots[0] / "f").read_bytes() == (roots[1] / "f").read_bytes() == wanted


def test_a_reader_goes_on_with_a_small_file_that_is_written_elsewhere(roots: tuple[Path, Path]) -> None:
    """Each change puts all of its bytes in the place of those before; the reader sees the new ones when it asks."""
    one, two = roots
    (one / "f").write_bytes(b"0" * 100)
    reader = os.open(two / "f", os.O_RDONLY)
    for number in range(1, 8):
        with (one / "f").open("r+b") as file:
            file.write(b"%d" % number * (100 + number))
        while os.fstat(reader).st_size != 100 + number:
            pass  # what came with the look-up of the open is good until the kernel's clock ticks
        assert os.pread(reader, 1000, 0) == b"%d" % number * (100 + number)
    os.close(reader)
