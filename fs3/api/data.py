"""Bytes of files: ranges become chunk IO, outcomes become lengths, zeros and errors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import islice

from fs3.api.file import READ_ONLY, BytesProgress, File
from fs3.api.io.budget import ByteBudget, gather_bounded
from fs3.api.io.buffers import buffer_pool
from fs3.base.errors import FS3Error, NotFound, error
from fs3.base.ids import InodeId, file_chunk
from fs3.base.limits import client_write_bytes_max, client_write_call_bytes, updates_per_request_max
from fs3.base.status import Code
from fs3.base.units import MIB
from fs3.client.storage.client import StorageClient
from fs3.client.storage.reads import ReadOutcome
from fs3.core.files.layout import Slice
from fs3.core.files.read_plan import ReadIO, holes, make_read_ios, plan_read
from fs3.core.files.write_plan import WriteIO, plan_truncate, plan_write
from fs3.model.inode import Inode, Layout

client_read_calls_max = 2
"""A longer read is cut into calls of this size, so many under way: each call has its own deadline."""

client_read_call_bytes = 64 * MIB

ReadRequest = tuple[File, int, memoryview]
"""(file, offset in bytes, where the bytes go)."""

_ZEROS = bytes(1 << 18)
_WRITES_AT_ONCE = client_write_bytes_max // client_write_call_bytes
_OK = Code.OK
_NOT_FOUND = Code.NOT_FOUND


class FileData:
    """The data path of one client. Belongs to one event loop."""

    def __init__(self, storage: StorageClient, fetch_inode: Callable[[InodeId], Awaitable[Inode]]) -> None:
        """`fetch_inode`: the attributes of an inode as they are now; NotFound when it is gone."""
        self._storage = storage
        self._fetch_inode = fetch_inode
        self._write_budget = ByteBudget(client_write_bytes_max)

    # --- reading -----------------------------------------------------------------------------------------------------

    async def read(self, requests: Sequence[ReadRequest]) -> list[int]:
        """Fill buffers from files; how many bytes each got (fewer at the end of its file). Holes are zeros.

        Raises FS3Error with the path of the first file whose bytes could not be had; buffers are undefined then.
        """
        plans: list[list[Slice] | None] = []
        ios: list[ReadIO] = []
        for file, offset, buffer in requests:
            inode = file.inode
            layout = inode.layout
            index, start = divmod(offset, layout.chunk_size)
            if 0 < len(buffer) <= layout.chunk_size - start and offset + len(buffer) <= file.length:
                # Within one chunk and within the file, as nearly every read of a batch: it needs no plan.
                ios.append(ReadIO(file_chunk(inode.id, index), layout.chains[index % len(layout.chains)], start, buffer))
                plans.append(None)
            else:
                plan = plan_read(layout, inode.id, offset, len(buffer), file.length)
                plans.append(plan)
                ios += make_read_ios(plan, buffer)
        outcomes = await self._read_ios(ios)
        counts: list[int] = []
        at = 0
        for (file, offset, buffer), known in zip(requests, plans, strict=True):
            if known is None:
                outcome = outcomes[at]
                at += 1
                if outcome.code is _OK and outcome.length == len(buffer):
                    counts.append(outcome.length)
                    continue
                plan, mine = plan_read(file.inode.layout, file.inode.id, offset, len(buffer), file.length), [outcome]
            else:
                plan, mine = known, outcomes[at : at + len(known)]
                at += len(known)
            wanted = plan[-1].at + plan[-1].length if plan else 0
            if any(outcome.code is not _OK or outcome.length < cut.length for cut, outcome in zip(plan, mine, strict=True)):
                wanted = await self._fill_holes(file, offset, buffer, plan, mine, wanted)
            counts.append(wanted)
        return counts

    async def _read_ios(self, ios: list[ReadIO]) -> list[ReadOutcome]:
        """All of it, in calls of bounded size: each has its own deadline, so a long read on a slow link still ends well."""
        calls = list(_split_calls(ios))
        if len(calls) <= 1:
            return await self._storage.read(ios) if ios else []
        answers = await gather_bounded((self._storage.read(call) for call in calls), client_read_calls_max)
        return [outcome for answer in answers for outcome in answer]

    async def _fill_holes(
        self, file: File, offset: int, buffer: memoryview, plan: list[Slice], outcomes: list[ReadOutcome], wanted: int
    ) -> int:
        """Zeros where the chunks have nothing; how many bytes the read returns."""
        for outcome in outcomes:
            if outcome.code is not _OK and outcome.code is not _NOT_FOUND:
                raise error(outcome.code, outcome.message or _read_failure(outcome.code), file.path)
        if file.session == READ_ONLY:
            # A missing chunk is a hole only while the file exists: readers hold no session, so the chunks of a file that was
            # replaced or removed go away under them. Asked after the read, the answer covers it.
            wanted = min(wanted, max(0, await self._fetch_length(file) - offset))
        for at, length in holes(plan, [outcome.length for outcome in outcomes]):
            fill_zeros(buffer[at : at + length])
        return wanted

    async def _fetch_length(self, file: File) -> int:
        """The file's length now. STALE when it is gone, or has no name any more and so may be partly gone."""
        try:
            inode = await self._fetch_inode(file.inode.id)
        except NotFound:
            inode = None
        if inode is None or inode.nlink == 0:
            raise error(Code.STALE, "the file was replaced or removed while it was read", file.path)
        file.inode = inode
        return inode.length

    # --- writing -----------------------------------------------------------------------------------------------------

    async def write(self, file: File, offset: int, data: memoryview) -> int:
        """Store bytes; durable on every replica when it returns. The number of bytes, always all.

        On failure some of the bytes may be stored, and the file's length covers those that certainly are.
        """
        length = len(data)
        if not length:
            return 0
        cuts = list(_split_write(file.inode.layout, offset, length))
        file.begin_write()
        end = 0

        async def write_piece(at: int, size: int) -> None:
            nonlocal end
            taken = await self._write_budget.take(size)
            try:
                # Planned here, when its turn has come: the plan makes the checksums, which for a gigabyte would stall the loop.
                inode = file.inode
                plan = plan_write(inode.layout, inode.id, offset + at, data[at : at + size], offset + length)
                results = await self._storage.update(plan)
            finally:
                self._write_budget.give(taken)
            stored = at
            failure: FS3Error | None = None
            for write, result in zip(plan, results, strict=True):
                stored += len(write.data or ())
                if result.code is _OK:
                    end = max(end, offset + stored)
                elif failure is None:
                    failure = error(result.code, result.message or _write_failure(result.code), file.path)
            if failure is not None:
                raise failure

        try:
            if len(cuts) == 1:
                await write_piece(*cuts[0])
            else:
                await gather_bounded((write_piece(at, size) for at, size in cuts), _WRITES_AT_ONCE)
        finally:
            file.end_write(end)
        return length

    async def truncate_chunks(self, layout: Layout, inode: InodeId, old_length: int, new_length: int, path: str) -> None:
        """Take away what lies behind a new, shorter end. Nothing for a file that grows."""
        updates = plan_truncate(layout, inode, old_length, new_length)
        while batch := list(islice(updates, updates_per_request_max)):
            await self.apply(batch, path)

    async def apply(self, writes: Sequence[WriteIO], path: str) -> None:
        """Updates that all have to succeed."""
        for result in await self._storage.update(writes):
            if result.code is not _OK:
                raise error(result.code, result.message or _write_failure(result.code), path)

    # --- copying -----------------------------------------------------------------------------------------------------

    async def copy(self, source: File, target: File, done: BytesProgress | None = None) -> int:
        """Bytes of one file into another, several chunks under way; holes stay holes. Returns the length."""
        length = source.length
        size = target.inode.layout.chunk_size
        step = max(size, client_write_call_bytes // size * size)

        async def copy_part(offset: int) -> None:
            count = min(step, length - offset)
            block = buffer_pool.take(step)
            buffer = memoryview(block)[:count]
            plan = plan_read(source.inode.layout, source.inode.id, offset, count, length)
            outcomes = await self._storage.read(make_read_ios(plan, buffer))
            if any(outcome.code is not _NOT_FOUND for outcome in outcomes):
                await self._fill_holes(source, offset, buffer, plan, outcomes, count)
                await self.write(target, offset, buffer)
            elif source.session == READ_ONLY:
                await self._fetch_length(source)
            buffer_pool.give(block)
            if done is not None:
                done(count)

        await gather_bounded((copy_part(offset) for offset in range(0, length, step)), max(1, client_write_bytes_max // step))
        return length


def fill_zeros(view: memoryview) -> None:
    """Every byte of a buffer becomes zero."""
    for at in range(0, len(view), len(_ZEROS)):
        part = view[at : at + len(_ZEROS)]
        part[:] = _ZEROS[: len(part)]


def _split_calls(ios: list[ReadIO]) -> Iterator[list[ReadIO]]:
    """The IOs in runs of about `client_read_call_bytes`; usually one run."""
    run: list[ReadIO] = []
    room = client_read_call_bytes
    for io in ios:
        if run and room < len(io.buffer):
            yield run
            run, room = [], client_read_call_bytes
        run.append(io)
        room -= len(io.buffer)
    if run:
        yield run


def _split_write(layout: Layout, offset: int, length: int) -> Iterator[tuple[int, int]]:
    """(at, size) of the parts of a write that are sent together: whole chunks, about `client_write_call_bytes`."""
    size = layout.chunk_size
    step = max(size, client_write_call_bytes // size * size)
    at = 0
    while at < length:
        count = min(step - (offset + at) % size, length - at)
        yield at, count
        at += count


def _read_failure(code: Code) -> str:
    return f"bytes could not be read ({code.name.lower().replace('_', ' ')})"


def _write_failure(code: Code) -> str:
    return f"bytes could not be written ({code.name.lower().replace('_', ' ')})"
