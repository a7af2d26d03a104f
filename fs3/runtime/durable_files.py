"""Small files that must survive a power loss."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

from fs3.model.cluster import DiskSpace

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a write fails with when the file system, a quota or the limit of the process leaves no room."""


def write_durably(file: Path, content: bytes) -> None:
    """Write a file anew, for its owner alone: a reader finds all of the old or all of the new content, and the new one once this
    has returned.

    A power loss may leave `<file>.new` behind; the next write takes its place. For one writer at a time. Raises OSError.
    """
    temporary = file.with_name(file.name + ".new")
    try:
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    temporary.replace(file)
    sync_directory(file.parent)


def sync_directory(directory: Path) -> None:
    """Which names are in a directory is durable on return: a file that is synced can still lose its name when the power fails.
    Raises OSError."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as problem:
        if problem.errno != errno.EINVAL:  # a file system that has no such thing
            raise
    finally:
        os.close(handle)


def directory_identity(directory: Path) -> str:
    """Which directory this is, as its host numbers them; "" when there is none. One that was copied or made anew is another one,
    and a process that has a file in it open keeps its number from being used again."""
    try:
        status = directory.stat()
    except OSError:
        return ""
    return f"{status.st_dev:x}:{status.st_ino:x}"


def device_of(directory: Path) -> int:
    """The host's number of the file system that a directory is on. OSError."""
    return directory.stat().st_dev


def measure_space(directories: Iterable[Path]) -> list[DiskSpace]:
    """How much room there is for a process without privileges, once for each file system that answers."""
    found: dict[int, DiskSpace] = {}
    for directory in directories:
        try:
            usage, device = os.statvfs(directory), device_of(directory)
        except OSError:
            continue
        size, free = usage.f_blocks * usage.f_frsize, usage.f_bavail * usage.f_frsize
        found.setdefault(device, DiskSpace(str(directory), size, free, device))
    return list(found.values())
