"""Pages put from device memory and read into it, by way of host memory or where it is mapped (`fs3.api.io.device_staging`).

Each round of a call is a call of its own, with a timeout of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableSequence, Sequence
from itertools import chain

from fs3.api.io.device_memory import copier_for
from fs3.api.io.device_staging import rounds_of, stage_of
from fs3.api.kvcache.arguments import Spots, Views
from fs3.api.kvcache.results import Status

PutPages = Callable[[Sequence[bytes], Sequence[Views]], Awaitable[list[Status]]]
GetPages = Callable[[Sequence[bytes], Sequence[Views], MutableSequence[int] | None], Awaitable[list[Status]]]
GetParts = Callable[[Sequence[bytes], Sequence[int], Sequence[Views]], Awaitable[list[Status]]]


async def put_staged(put: PutPages, keys: Sequence[bytes], buffers: Sequence[Spots]) -> list[Status]:
    """What `put` answers for pages of which some are in device memory."""
    copier = copier_for(chain.from_iterable(buffers))
    statuses: list[Status] = []
    for first, end in rounds_of(buffers):
        async with stage_of(buffers[first:end], copier, writable=False) as stage:
            stage.fill()
            statuses += await put(keys[first:end], stage.views)
    return statuses


async def get_staged(
    get: GetPages, keys: Sequence[bytes], buffers: Sequence[Spots], lengths: MutableSequence[int] | None
) -> list[Status]:
    """The same of `get`. Device memory that is staged is written to where a page was read, and nowhere else."""
    copier = copier_for(chain.from_iterable(buffers))
    statuses: list[Status] = []
    for first, end in rounds_of(buffers):
        async with stage_of(buffers[first:end], copier, writable=True) as stage:
            some = None if lengths is None else [0] * (end - first)
            found = await get(keys[first:end], stage.views, some)
            for index, status in enumerate(found):
                if status.ok:
                    stage.empty(index, None if some is None else some[index])
                if lengths is not None and some is not None:
                    lengths[first + index] = some[index]
            statuses += found
    return statuses


async def get_parts_staged(
    get: GetParts,
    keys: Sequence[bytes],
    offsets: Sequence[int],
    buffers: Sequence[Spots],
) -> list[Status]:
    """The same of parts of pages, from these offsets on."""
    copier = copier_for(chain.from_iterable(buffers))
    statuses: list[Status] = []
    for first, end in rounds_of(buffers):
        async with stage_of(buffers[first:end], copier, writable=True) as stage:
            found = await get(keys[first:end], offsets[first:end], stage.views)
            for index, status in enumerate(found):
                if status.ok:
                    stage.empty(index)
            statuses += found
    return statuses
