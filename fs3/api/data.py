"""Bytes of files: ranges become chunk IO, outcomes become lengths, zeros and errors."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Iterator, Sequence
from operator import attrgetter

from fs3.api.file import BytesProgress, File
from fs3.api.io.budget import ByteBudget, gather_bounded
from fs3.api.io.buffer_budget import buffer_budget
from fs3.api.io.buffers import buffer_pool
from fs3.base.errors import FS3Error, error
from fs3.base.ids import file_chunk
from fs3.base.limits import client_write_bytes_max, client_write_call_bytes
from fs3.base.status import Code
from fs3.base.units import MIB
from fs3.client.storage.client import StorageClient
from fs3.client.storage.reads import ReadOutcome
from fs3.core.files.layout import Slice
from fs3.core.files.read_plan import ReadIO, holes, make_read_ios, plan_read
from fs3.core.files.write_plan import WriteIO, plan_write
from fs3.model.inode import Layout

client_read_calls_max = 2
"""A longer read is cut into calls of this size, so many under way: each call has its own deadline."""

client_read_call_bytes = 64 * MIB

read_rounds_max = 4
"""How often one read begins anew because its file was truncated meanwhile."""

ReadRequest = tuple[File, int, memoryview]
"""(file, offset in bytes, where the bytes go)."""

WriteRequest = tuple[File, int, memoryview]
"""(file, offset in bytes, the bytes)."""

Refresh = Callable[[File], Awaitable[None]]
"""Brings `File.inode` up to date, and `File.data` when it is inline."""

_ZEROS = bytes(1 << 18)
_WRITES_AT_ONCE = client_write_bytes_max // client_write_call_bytes
_OK = Code.OK
_NOT_FOUND = Code.NOT_FOUND
_code_of = attrgetter("code")
_length_of = attrgetter("length")


class FileData:
    """The data path of one client. Belongs to one event loop."""

    def __init__(self, storage: StorageClient, refresh: Refresh) -> None:
        """`refresh`: brings `File.inode` up to date; STALE when the file is gone, or may be partly gone."""
        self._storage = storage
        self._refresh = refresh
        self.write_budget = ByteBudget(client_write_bytes_max)
        """Of written bytes that are under way."""

    def with_refresh(self, refresh: Refresh) -> FileData:
        """The same data path for another user of the client."""
        view = copy.copy(self)
        view._refresh = refresh
        return view

    # --- reading -----------------------------------------------------------------------------------------------------

    async def read(self, requests: Sequence[ReadRequest]) -> list[int]:
        """Fill buffers from files; how many bytes each got (fewer at the end of its file). Holes are zeros.

        Raises FS3Error with the path of the first file whose bytes could not be had; buffers are undefined then.
        """
        for file, _, _ in requests:
            if file.inode.inline:
                return await self._read_mixed(requests)
        return await self._read_chunks(requests)

    async def _read_mixed(self, requests: Sequence[ReadRequest]) -> list[int]:
        """The same, where some files are inline: their bytes have come with their inodes, or are asked for now."""
        counts: dict[int, int] = {}
        for index, (file, offset, buffer) in enumerate(requests):
            if file.inode.inline and file.data is None:
                await self._refresh(file)
            if file.inode.inline:
                part = memoryview(file.data or b"")[offset : offset + len(buffer)]
                buffer[: len(part)] = part
                counts[index] = len(part)
        others = [index for index in range(len(requests)) if index not in counts]
        if others:
            counts.update(zip(others, await self._read_chunks([requests[index] for index in others]), strict=True))
        return [counts[index] for index in range(len(requests))]

    async def _read_chunks(self, requests: Sequence[ReadRequest]) -> list[int]:
        plans: dict[int, list[Slice]] = {}
        """Of the requests that are not within one chunk and within their file, by their place."""
        known: dict[File, int] = {}
        """Of each file, the truncations that its plans know of."""
        ios: list[ReadIO] = []
        file: File | None = None
        for place, (wanted, offset, buffer) in enumerate(requests):
            if wanted is not file:
                file = wanted
                inode = file.inode
                content, layout, end = inode.content_id, inode.layout, file.length
                size, chains = layout.chunk_size, layout.chains
                known[file] = inode.truncations
            index, start = divmod(offset, size)
            count = len(buffer)
            if 0 < count <= size - start and offset + count <= end:  # as nearly every read of a batch: it needs no plan
                ios.append(ReadIO(file_chunk(content, index), chains[index % len(chains)], start, buffer))
            else:
                plans[place] = plan = plan_read(layout, content, offset, count, end)
                ios += make_read_ios(plan, buffer)
        outcomes = await self._read_ios(ios)
        if not plans:
            counts = [len(buffer) for _, _, buffer in requests]
            if counts == list(map(_length_of, outcomes)) and not any(map(_code_of, outcomes)):
                return counts
        counts = []
        at = 0
        for place, (file, offset, buffer) in enumerate(requests):
            planned = plans.get(place)
            if planned is None:
                outcome = outcomes[at]
                at += 1
                if outcome.code is _OK and outcome.length == len(buffer):
                    counts.append(outcome.length)
                    continue
                # Planned with the length that reached so far.
                end = offset + len(buffer)
                plan, mine = plan_read(file.inode.layout, file.inode.content_id, offset, len(buffer), end), [outcome]
            else:
                plan, mine = planned, outcomes[at : at + len(planned)]
                at += len(planned)
            filled = _planned_bytes(plan)
            if _has_holes(plan, mine):
                filled = await self._fill_holes(file, offset, buffer, plan, mine, known[file])
            counts.append(filled)
        return counts

    async def read_one(self, file: File, offset: int, buffer: memoryview) -> int:
        """`read` of one range: how many bytes it got."""
        io = _single_io(file, offset, buffer)
        if io is None:
            (count,) = await self.read([(file, offset, buffer)])
            return count
        truncations = file.inode.truncations
        outcome = await self._storage.read_one(io)
        count = len(buffer)
        if outcome.code is _OK and outcome.length == count:
            return count
        plan = plan_read(file.inode.layout, file.inode.content_id, offset, count, offset + count)
        return await self._fill_holes(file, offset, buffer, plan, [outcome], truncations)

    def read_directly(self, file: File, offset: int, buffer: memoryview) -> bool:
        """Fill a buffer on the thread that calls. False: not done, `read_one` will."""
        io = _single_io(file, offset, buffer)
        return io is not None and self._storage.read_directly(io)

    async def _read_ios(self, ios: list[ReadIO]) -> list[ReadOutcome]:
        """All of it, in calls of bounded size: each has its own deadline, so a long read on a slow link still ends well."""
        if sum([len(io.buffer) for io in ios]) <= client_read_call_bytes:
            return await self._storage.read(ios) if ios else []
        calls = list(_split_calls(ios))
        answers = await gather_bounded((self._storage.read(call) for call in calls), client_read_calls_max)
        return [outcome for answer in answers for outcome in answer]

    async def _fill_holes(
        self, file: File, offset: int, buffer: memoryview, plan: list[Slice], outcomes: list[ReadOutcome], truncations: int
    ) -> int:
        """Zeros where the chunks have nothing; how many bytes the read returns. `truncations`: those that the plan knows of."""
        for attempt in range(1, read_rounds_max + 1):
            for outcome in outcomes:
                if outcome.code is not _OK and outcome.code is not _NOT_FOUND:
                    raise error(outcome.code, outcome.message or _read_failure(outcome.code), file.path)
            # What is missing is a hole only while the file exists and nobody has truncated it. Both is known before the first
            # chunk goes away, so the answer to a question after the read covers it.
            await self._refresh(file)
            if file.inode.truncations == truncations or attempt == read_rounds_max:
                break
            truncations = file.inode.truncations
            plan = plan_read(file.inode.layout, file.inode.content_id, offset, len(buffer), file.length)
            outcomes = await self._read_ios(make_read_ios(plan, buffer))
            if not _has_holes(plan, outcomes):
                return _planned_bytes(plan)
        for at, length in holes(plan, [outcome.length for outcome in outcomes]):
            fill_zeros(buffer[at : at + length])
        return min(_planned_bytes(plan), max(0, file.length - offset))

    # --- writing -----------------------------------------------------------------------------------------------------

    async def write(self, file: File, offset: int, data: memoryview) -> int:
        """Store bytes; durable on every replica when it returns. The number of bytes, always all.

        On failure some of the bytes may be stored, and the file's length covers those that certainly are.
        """
        length = len(data)
        if not length:
            return 0
        cuts = list(_split_write(file.inode.layout, offset, length))
        file.begin_write(offset, offset + length)
        end = 0

        async def write_piece(at: int, size: int) -> None:
            nonlocal end
            taken = await self.write_budget.take(size)
            try:
                # Planned here, when its turn has come: the plan makes the checksums, which for a gigabyte would stall the loop.
                inode = file.inode
                plan = plan_write(inode.layout, inode.content_id, offset + at, data[at : at + size], offset + length)
                results = await self._storage.update(plan)
            finally:
                self.write_budget.give(taken)
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
        except BaseException:
            file.leaves_holes = True  # what failed may lie before what was stored
            raise
        finally:
            file.end_write(end, self._storage.clock.now())
        return length

    async def write_many(self, requests: Sequence[WriteRequest]) -> list[FS3Error | None]:
        """Store bytes of many files, with few requests: per request None, or why not all of it was stored."""
        failures: list[FS3Error | None] = []
        group: list[WriteRequest] = []
        room = client_write_call_bytes
        for request in requests:
            if group and len(request[2]) > room:
                failures += await self._write_group(group)
                group, room = [], client_write_call_bytes
            group.append(request)
            room -= len(request[2])
        return failures + await self._write_group(group) if group else failures

    async def _write_group(self, group: list[WriteRequest]) -> list[FS3Error | None]:
        if len(group) == 1:
            try:
                await self.write(*group[0])
            except FS3Error as failure:
                return [failure]
            return [None]
        plans: list[list[WriteIO]] = []
        failures: list[FS3Error | None] = []
        ends = [0] * len(group)
        for file, offset, data in group:
            file.begin_write(offset, offset + len(data))
        try:
            taken = await self.write_budget.take(sum(len(data) for _, _, data in group))
            try:
                for file, offset, data in group:
                    plans.append(plan_write(file.inode.layout, file.inode.content_id, offset, data, offset + len(data)))
                writes = [write for plan in plans for write in plan]
                results = iter(await self._storage.update(writes) if writes else [])
            finally:
                self.write_budget.give(taken)
            for index, ((file, offset, data), plan) in enumerate(zip(group, plans, strict=True)):
                failed = [result for result, _ in zip(results, plan, strict=False) if result.code is not _OK]
                failures.append(None)
                if failed:
                    first = failed[0]
                    failures[index] = error(first.code, first.message or _write_failure(first.code), file.path)
                elif plan:
                    ends[index] = offset + len(data)
        finally:
            for (file, _, _), end in zip(group, ends, strict=True):
                file.leaves_holes = file.leaves_holes or not end
                file.end_write(end, self._storage.clock.now())
        return failures

    # --- copying -----------------------------------------------------------------------------------------------------

    async def copy(self, source: File, target: File, done: BytesProgress | None = None) -> int:
        """Bytes of one file into another, several chunks under way; holes stay holes. Returns the length: the shortest that the
        source had, when it is truncated meanwhile."""
        if source.inode.inline:
            data = bytearray(source.length)
            (count,) = await self.read([(source, 0, memoryview(data))])
            await self.write(target, 0, memoryview(data)[:count])
            if done is not None and count:
                done(count)
            return count
        length = end = source.length
        begun_with = source.inode.truncations
        size = target.inode.layout.chunk_size
        step = max(size, client_write_call_bytes // size * size)

        async def copy_part(offset: int) -> None:
            count = min(step, length - offset)
            async with buffer_budget.reserve(count):
                await copy_range(offset, count)

        async def copy_range(offset: int, count: int) -> None:
            nonlocal end
            block = buffer_pool.take(count)
            buffer = memoryview(block)
            truncations = source.inode.truncations
            plan = plan_read(source.inode.layout, source.inode.content_id, offset, count, length)
            outcomes = await self._storage.read(make_read_ios(plan, buffer))
            if any(outcome.code is not _NOT_FOUND for outcome in outcomes):
                got = count
                if _has_holes(plan, outcomes):
                    got = await self._fill_holes(source, offset, buffer, plan, outcomes, truncations)
                await self.write(target, offset, buffer[:got])
            else:
                await self._refresh(source)
            if source.inode.truncations != begun_with:
                end = min(end, source.length)
            buffer_pool.give(block)
            if done is not None:
                done(count)

        await gather_bounded((copy_part(offset) for offset in range(0, length, step)), max(1, client_write_bytes_max // step))
        return end


def _single_io(file: File, offset: int, buffer: memoryview) -> ReadIO | None:
    """A read that is within one chunk and within its file; None for any other, and where the bytes are with the inode."""
    inode = file.inode
    if inode.inline:
        return None
    layout = inode.layout
    index, start = divmod(offset, layout.chunk_size)
    if not 0 < len(buffer) <= layout.chunk_size - start or offset + len(buffer) > file.length:
        return None
    return ReadIO(file_chunk(inode.content_id, index), layout.chains[index % len(layout.chains)], start, buffer)


def _planned_bytes(plan: Sequence[Slice]) -> int:
    return plan[-1].at + plan[-1].length if plan else 0


def _has_holes(plan: Sequence[Slice], outcomes: Sequence[ReadOutcome]) -> bool:
    return any(outcome.code is not _OK or outcome.length < cut.length for cut, outcome in zip(plan, outcomes, strict=True))


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
