"""The space of files: holes, room, copies of ranges."""

from __future__ import annotations

import errno
import os

from fs3.api.fuse.files import FileOperations
from fs3.base.limits import file_bytes_max
from fs3.base.units import KIB
from fs3.drivers.fuse.records import KernelRequest

copy_range_bytes_max = 1 << 30
"""Of one request: a program that copies more asks again, and can be interrupted in between."""

_COPIED_AS_BYTES_MAX = 128 * KIB
"""Copies of so few bytes are a read and a write, so that a copy of a small file is stored whole by its close."""


class SpaceOperations(FileOperations):
    """See `Operations`."""

    async def fallocate(self, request: KernelRequest, handle: int, offset: int, length: int, mode: int) -> None:
        if offset + length > file_bytes_max:
            raise OSError(errno.EFBIG, f"a file has at most {file_bytes_max} bytes")
        await self.file(handle).opened.fallocate(offset, length, mode)

    async def lseek(self, request: KernelRequest, handle: int, offset: int, whence: int) -> int:
        if whence not in (os.SEEK_DATA, os.SEEK_HOLE):
            raise OSError(errno.EINVAL, f"whence {whence} is not known")
        return await self.file(handle).opened.seek(offset, is_data=whence == os.SEEK_DATA)

    async def copy_file_range(
        self,
        request: KernelRequest,
        handle: int,
        offset: int,
        target: int,
        target_handle: int,
        target_offset: int,
        length: int,
    ) -> int:
        source, sink = self.file(handle).opened, self.file(target_handle).opened
        count = min(length, copy_range_bytes_max, source.length - offset)
        if count <= 0:
            return 0
        if target_offset + count > file_bytes_max:
            raise OSError(errno.EFBIG, f"a file has at most {file_bytes_max} bytes")
        if count <= _COPIED_AS_BYTES_MAX:
            data = await source.read(offset, count)
            await sink.write(memoryview(data), target_offset)
            return len(data)
        return await sink.copy_from(source, offset, target_offset, count)
