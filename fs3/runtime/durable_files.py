"""Small files that must survive a power loss."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def write_durably(file: Path, content: bytes) -> None:
    """Write a file anew: a reader finds all of the old or all of the new content, and the new one once this has returned.

    A power loss may leave `<file>.new` behind; the next write takes its place. For one writer at a time. Raises OSError.
    """
    temporary = file.with_name(file.name + ".new")
    with temporary.open("wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
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
