"""Mounts for tests: by `fs3 mount`, each served by a process of its own, of a cluster of real processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fs3.cli.local import LocalCluster
from fs3.drivers.fuse.mount import is_dead, is_mounted


def fs3(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, whatever it says."""
    command = [sys.executable, "-m", "fs3.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def run(*command: str, cwd: Path | None = None) -> str:
    """What a program says; it must succeed."""
    settings = {**os.environ, "GIT_AUTHOR_NAME": "a", "GIT_COMMITTER_NAME": "a", "HOME": "/"}
    settings |= {"GIT_AUTHOR_EMAIL": "a@example.org", "GIT_COMMITTER_EMAIL": "a@example.org"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=cwd, env=settings)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


@contextmanager
def two_mounts(cluster: LocalCluster, home: Path) -> Iterator[tuple[Path, Path]]:
    """Two mounts, each by a process of its own, on an empty directory of their own."""
    points = home / "one", home / "two"
    try:
        for point in points:
            point.mkdir()
            done = fs3("mount", cluster.url, str(point), "--log", str(home / "log"))
            assert done.returncode == 0, done.stderr
        work = [point / home.name for point in points]
        work[0].mkdir()
        yield work[0], work[1]
        shutil.rmtree(work[1])
    finally:
        for point in points:
            if is_mounted(str(point)):
                fs3("umount", "--lazy", str(point))


DETACH_COPIES = """\
while read -r _ place kind _; do case $kind in fuse*) umount -l "$place" 2>/dev/null || :;; esac; done < /proc/self/mounts
"""
"""First lines of a script in a new mount namespace: a mount that another test unmounts meanwhile would live on in its copy."""


def server_of(point: Path) -> int:
    """The process that answers the kernel for a mount, or the next one."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        found = _process_of(point, b"fs3.cli.mount_server")
        if found is not None:
            return found
        time.sleep(0.01)
    raise AssertionError(f"no process serves {point}")


def holder_of(point: Path) -> int | None:
    """The process that holds a mount."""
    return _process_of(point, b"fs3.cli.mount_holder")


def _process_of(point: Path, module: bytes) -> int | None:
    for process in Path("/proc").iterdir():
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            continue
        if module in words and os.fsencode(point) in words:
            return int(process.name)
    return None


def kill_both(point: Path) -> None:
    """The holder first, so that nothing is replaced; until the kernel knows."""
    server, holder = server_of(point), holder_of(point)
    assert holder is not None
    for process in (holder, server):
        os.kill(process, signal.SIGKILL)
    wait_dead(point)


def wait_dead(point: Path) -> None:
    """Until the kernel knows that the process that served a mount has died."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            os.stat(point / "name")
        except OSError as wrong:
            if is_dead(wrong):
                return
    raise AssertionError(f"{point} still answers")
