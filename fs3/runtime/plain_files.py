"""Small files that people name: read as they are, without waiting for what is none and without an end of their own."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

plain_file_bytes_max = 16 * 1024 * 1024


def read_plain_file(path: Path) -> bytes:
    """The bytes of a regular file. OSError, with what is wrong as its `strerror`: for a FIFO, which would be waited for, for a
    device, which may have no end, and for a file of more than `plain_file_bytes_max`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "Not a regular file", str(path))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(plain_file_bytes_max + 1)
    finally:
        os.close(descriptor)
    if len(data) > plain_file_bytes_max:
        raise OSError(errno.EFBIG, f"It has more than {plain_file_bytes_max >> 20} MiB", str(path))
    return data
