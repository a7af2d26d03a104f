"""Reads into and writes from device memory, by way of host memory of which a call holds little, or where it is mapped.

A call is made in rounds. Each has the bytes of some of its buffers in host memory, `staged_bytes_max` of them at most or those of
one page, within what transfers of the process may hold together. Copies run on the thread of the event loop, so that none is
under way any more once a call was given up. What is mapped, of a dma-buf, takes part as it is: the kernel is told before
and after.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fs3.api.file import File, check_range
from fs3.api.io.buffer_budget import buffer_budget
from fs3.api.io.buffers import source_of, target_of
from fs3.api.io.device_memory import DeviceCopier, DeviceMemory, Spot, copier_for, device_memory, is_on_device
from fs3.api.io.dma_buf import MappedMemory, accessing
from fs3.base.errors import FS3Error, InvalidType, error
from fs3.base.status import Code
from fs3.base.units import MIB

staged_bytes_max = 16 * MIB
"""Of device memory that one round of a call copies, unless one page has more."""

Pieces = tuple[Spot, ...]
"""The bytes of one page, of a part of it, or of a range of a file, in order."""

FileRequest = tuple[File, int, Any]
"""(file, offset in bytes, buffer)."""

ReadMany = Callable[[Sequence[FileRequest]], Awaitable[list[int]]]
"""As `Client.preadv_many`."""

WriteMany = Callable[[Sequence[FileRequest]], Awaitable[list[FS3Error | None]]]
"""As `Client.pwritev_many`."""


class HostStage:
    """The buffers of one round as they are in host memory."""

    def __init__(self, buffers: Sequence[Pieces], copier: DeviceCopier | None) -> None:
        """`copier`: None where all of them are in memory of this process."""
        self._buffers = buffers
        self._copier = copier
        self.views: list[tuple[memoryview, ...]] = [tuple(map(_room_for, pieces)) for pieces in buffers]

    def fill(self) -> None:
        """Have the bytes that are on the device."""
        for copier, memory, room in self._find_pairs():
            if len(room):
                copier.copy_to_host(room, memory.address)

    def empty(self, index: int, count: int | None = None) -> None:
        """Copy what arrived for a buffer to the device: its first `count` bytes, or all."""
        left = sum(map(len, self.views[index])) if count is None else count
        for spot, room in zip(self._buffers[index], self.views[index], strict=True):
            part = min(left, len(room))
            left -= part
            if part and isinstance(spot, DeviceMemory) and self._copier is not None:
                self._copier.copy_to_device(spot.address, room[:part])

    def synchronize(self) -> None:
        """Wait for what callers have begun on the memory."""
        for copier, stream in {(copier, memory.stream): None for copier, memory, _ in self._find_pairs()}:
            if stream is not None:
                copier.synchronize(stream)

    def _find_pairs(self) -> Iterator[tuple[DeviceCopier, DeviceMemory, memoryview]]:
        if self._copier is None:
            return
        for pieces, views in zip(self._buffers, self.views, strict=True):
            for spot, room in zip(pieces, views, strict=True):
                if isinstance(spot, DeviceMemory):
                    yield self._copier, spot, room


def _room_for(spot: Spot) -> memoryview:
    if isinstance(spot, DeviceMemory):
        return memoryview(bytearray(len(spot)))
    return spot.view if isinstance(spot, MappedMemory) else spot


def _staged_bytes(pieces: Pieces) -> int:
    return sum(len(spot) for spot in pieces if isinstance(spot, DeviceMemory))


def rounds_of(buffers: Sequence[Pieces]) -> Iterator[tuple[int, int]]:
    """The first buffer of each round, and the one behind its last."""
    first = held = 0
    for index, pieces in enumerate(buffers):
        count = _staged_bytes(pieces)
        if index > first and held + count > staged_bytes_max:
            yield first, index
            first, held = index, 0
        held += count
    if buffers:
        yield first, len(buffers)


@asynccontextmanager
async def stage_of(buffers: Sequence[Pieces], copier: DeviceCopier | None, *, writable: bool) -> AsyncIterator[HostStage]:
    """The buffers of a round in memory of this process, once it has so much of it to spare. `writable`: they are read into."""
    async with buffer_budget.reserve(sum(map(_staged_bytes, buffers))):
        mapped = [spot for pieces in buffers for spot in pieces if isinstance(spot, MappedMemory)]
        with accessing(mapped, writable=writable):
            stage = HostStage(buffers, copier)
            stage.synchronize()
            yield stage


async def read_staged(read: ReadMany, requests: Sequence[FileRequest]) -> list[int]:
    """How many bytes each buffer got by `read`, where some are in device memory. Raises as `read`, and before it is called for a
    buffer that cannot be."""
    pieces = _cut([(file, offset, _spot_of(buffer, file.path, writable=True)) for file, offset, buffer in requests])
    copier = copier_for(spot for _, _, _, spot in pieces)
    counts = [0] * len(requests)
    ended: set[int] = set()
    for first, end in rounds_of([(spot,) for _, _, _, spot in pieces]):
        some = pieces[first:end]
        async with stage_of([(spot,) for _, _, _, spot in some], copier, writable=True) as stage:
            wanted = [(file, offset, view) for (_, file, offset, _), (view,) in zip(some, stage.views, strict=True)]
            got = await read(wanted)
            for at, ((index, _, _, spot), count) in enumerate(zip(some, got, strict=True)):
                if index not in ended:  # what is behind the end of a file counts for nothing, also when it grows meanwhile
                    stage.empty(at, count)
                    counts[index] += count
                    if count < len(spot):
                        ended.add(index)
    return counts


async def write_one_staged(write: WriteMany, request: FileRequest) -> int:
    """`write_staged` of one range, which is on the device: the number of its bytes. Raises its error."""
    file, _, data = request
    (failure,) = await write_staged(write, [request])
    if failure is not None:
        raise failure
    return len(_spot_of(data, file.path, writable=False))


async def write_staged(write: WriteMany, requests: Sequence[FileRequest]) -> list[FS3Error | None]:
    """None or its error for each, by `write`, where some of the bytes are in device memory. Raises likewise."""
    pieces = _cut([(file, offset, _spot_of(data, file.path, writable=False)) for file, offset, data in requests])
    copier = copier_for(spot for _, _, _, spot in pieces)
    failures: list[FS3Error | None] = [None] * len(requests)
    for first, end in rounds_of([(spot,) for _, _, _, spot in pieces]):
        some = pieces[first:end]
        async with stage_of([(spot,) for _, _, _, spot in some], copier, writable=False) as stage:
            stage.fill()
            wanted = [(file, offset, view) for (_, file, offset, _), (view,) in zip(some, stage.views, strict=True)]
            for (index, _, _, _), failure in zip(some, await write(wanted), strict=True):
                failures[index] = failures[index] or failure
    return failures


def _cut(requests: Sequence[tuple[File, int, Spot]]) -> list[tuple[int, File, int, Spot]]:
    """The requests by their index, those for device memory in pieces that can be staged."""
    pieces: list[tuple[int, File, int, Spot]] = []
    for index, (file, offset, spot) in enumerate(requests):
        begin = check_range(offset, len(spot), file.path)
        step = staged_bytes_max if isinstance(spot, DeviceMemory) else max(1, len(spot))
        pieces += [(index, file, begin + at, spot[at : at + step]) for at in range(0, max(1, len(spot)), step)]
    return pieces


def _spot_of(buffer: Any, path: str, *, writable: bool) -> Spot:
    if not is_on_device(buffer):
        return target_of(buffer, path) if writable else source_of(buffer, path)
    argument = "buffer" if writable else "data"
    try:
        memory = device_memory(buffer)
    except TypeError as wrong:
        raise InvalidType(f"{argument} {wrong}", path) from wrong
    except ValueError as wrong:
        raise error(Code.INVALID, f"{argument} {wrong}", path) from wrong
    assert memory is not None
    if writable and memory.readonly:
        raise InvalidType(f"{argument} is read-only ({type(buffer).__name__})", path)
    return memory
