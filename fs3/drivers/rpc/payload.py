"""Payloads: measuring the parts that go out, checking the buffers that take them in, copying between the two."""

from __future__ import annotations

import os
from collections.abc import Sequence

from fs3.base.errors import FS3Error, error
from fs3.base.limits import frame_payload_bytes_max
from fs3.base.status import Code
from fs3.ports.rpc import BufferProvider, FileRange, FlatBuffers, Part


def part_length(part: Part) -> int:
    """Bytes of one part."""
    if isinstance(part, FileRange):
        return part.length
    return part.nbytes if isinstance(part, memoryview) else len(part)


def payload_length(parts: Sequence[Part]) -> int:
    """Bytes of all parts. FS3Error TOO_LARGE beyond `frame_payload_bytes_max`, INVALID for a part that cannot be sent."""
    total = 0
    for part in parts:
        if type(part) is FileRange:
            if part.length < 0 or part.offset < 0:
                raise error(Code.INVALID, f"there is no such file range: {part}")
            total += part.length
        elif type(part) is memoryview:
            if not part.c_contiguous:
                raise error(Code.INVALID, f"a part with strides {part.strides} is not contiguous")
            total += part.nbytes
        else:
            total += part_length(part)
    if total > frame_payload_bytes_max:
        raise error(Code.TOO_LARGE, f"payload of {total} bytes, at most {frame_payload_bytes_max} are allowed")
    return total


def flat_view(part: bytes | bytearray | memoryview) -> memoryview:
    """The bytes of a buffer, whatever its items are. Raises FS3Error INVALID when they do not lie side by side."""
    view = memoryview(part)
    if not view.c_contiguous:
        raise error(Code.INVALID, f"a buffer with strides {view.strides} is not contiguous")
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


def destinations(into: BufferProvider, message: object, length: int) -> list[memoryview]:
    """The buffers for a payload, flat and without empty ones. Raises FS3Error INVALID when they do not hold exactly
    `length` bytes; what `into` raises passes through."""
    buffers = into(message, length)
    if type(buffers) is FlatBuffers:
        if (total := sum(map(len, buffers))) != length:
            raise error(Code.INVALID, f"the buffers for the payload hold {total} bytes, it has {length}")
        return buffers
    views = []
    total = 0
    for buffer in buffers:
        view = flat_view(buffer)
        if view.readonly:
            raise error(Code.INVALID, "a buffer for the payload is read-only")
        if view.nbytes:
            views.append(view)
            total += view.nbytes
    if total != length:
        raise error(Code.INVALID, f"the buffers for the payload hold {total} bytes, it has {length}")
    return views


def read_file_range(part: FileRange, into: memoryview) -> None:
    """Fill `into` from the file. FS3Error DISK when the file ends before the range or cannot be read."""
    done = 0
    try:
        while done < part.length:
            count = os.preadv(part.fd, [into[done : part.length]], part.offset + done)
            if count == 0:
                raise error(Code.DISK, f"file {part.fd} ended at byte {part.offset + done} of {part}")
            done += count
    except FS3Error:
        raise
    except OSError as problem:
        raise error(Code.DISK, f"{part} cannot be read: {problem.strerror}") from problem


def copy_parts(parts: Sequence[Part], targets: Sequence[memoryview]) -> None:
    """Copy a payload into buffers that together hold exactly as much. FS3Error DISK when a file range cannot be read."""
    waiting = list(targets)
    waiting.reverse()
    for part in parts:
        offset = 0
        length = part_length(part)
        while offset < length:
            target = waiting.pop()
            count = min(target.nbytes, length - offset)
            if isinstance(part, FileRange):
                read_file_range(FileRange(part.fd, part.offset + offset, count), target)
            else:
                target[:count] = flat_view(part)[offset : offset + count]
            offset += count
            if count < target.nbytes:
                waiting.append(target[count:])


def join_parts(parts: Sequence[Part]) -> bytearray:
    """A copy of a payload in one buffer. FS3Error DISK when a file range cannot be read."""
    data = bytearray(sum(part_length(part) for part in parts))
    copy_parts(parts, [memoryview(data)])
    return data
