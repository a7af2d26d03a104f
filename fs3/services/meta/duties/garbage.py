"""Reclaiming what was removed: chunks of files without a name, entries of detached directories.

A garbage row says only that a file waits. Everything else is worked out from its inode, and the row is deleted when nothing
is left, so a step may be cut short anywhere, by an error or by the end of the process, and is done again.

**How far it looks.** Chunks 0 … ceil(length / chunk size) are removed. Beyond the recorded length there may be more: of a writer
that died before it told its length, or of an unnamed file that was discarded. So each of the file's chains is asked for its
first chunk from there on, whatever gap is before it, and again behind that one. A write that was still on its way in the network
when its file was reclaimed, `garbage_delay_ms` after it was removed, is not met here; `fs3 admin fsck` finds what it leaves.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice

from fs3.base.ids import ChainId, ChunkId, ClientId, InodeId, chunk_file, file_chunk
from fs3.base.limits import keys_per_find_max
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.client.routing import RoutingSource
from fs3.core.files.layout import chain_of, chunk_count, chunks
from fs3.core.files.write_plan import WriteIO
from fs3.core.meta.context import LayoutDefaults, OpContext
from fs3.core.meta.garbage import begin_reclaim, delete_file, dismantle, next_garbage
from fs3.core.meta.rows import Garbage
from fs3.core.txn import ReadTxn, Txn
from fs3.model.chunk import UpdateKind
from fs3.model.inode import Inode, User
from fs3.ports.clock import Clock
from fs3.ports.kv import KV, RoomMaker
from fs3.services.meta.chunk_client import ChunkClient
from fs3.services.meta.duties.duty import Duty
from fs3.services.meta.duties.lease import DutyLease

log = logging.getLogger("fs3.meta")

garbage_entries_per_step_max = 128
"""Entries of a detached directory that one transaction takes apart."""

garbage_files_per_step_max = 64

garbage_chunks_per_step_max = 512

_INDEX_MAX = 1 << 60
"""No write makes a chunk with such an index."""
_TIMEOUT_NS = 5 * SECOND
"""For one request to storage: other files wait behind it, and there is always a next time."""


class _FileReclaim:
    """What is left of one file. Kept between steps while a file takes several; lost with the process, which costs time only."""

    __slots__ = ("end", "extended", "first", "garbage", "inode", "problem", "remove", "stop")

    def __init__(self, garbage: Garbage, inode: Inode) -> None:
        self.garbage = garbage
        self.inode = inode
        self.first = 0
        """Chunks below this index are gone."""
        self.end = chunk_count(inode.layout, inode.length)
        """No chunk from this index on is known of."""
        self.extended = False
        """There were chunks behind the recorded end."""
        self.stop = 0
        """Chunks below this index will be gone after this step."""
        self.remove: list[int] = []
        """Indices this step removes, in order."""
        self.problem = ""
        """Why the rest has to wait."""

    def begin_step(self) -> None:
        """Go on from where the last step came to."""
        self.first = self.stop
        self.remove = []
        self.problem = ""


class GarbageDuty(Duty):
    """Works through the queues: a few entries of a detached directory, then a few files, oldest first, and so on.

    A file whose storage does not answer is passed over and met again on the next walk through the queue.
    """

    name = "garbage"

    def __init__(
        self,
        lease: DutyLease | None,
        kv: KV,
        clock: Clock,
        routing: RoutingSource,
        storage: ChunkClient,
        *,
        delay_ms: int,
        interval_ms: int,
        first_pause_ns: int = 0,
    ) -> None:
        super().__init__(lease, interval_ms, first_pause_ns)
        self._kv = kv
        self._clock = clock
        self._routing = routing
        self._storage = storage
        self._delay_ns = delay_ms * MILLISECOND
        self._passed: Garbage | None = None
        """The walk has come to behind this one."""
        self._advanced = False
        """Something was done on this walk, so another one is worth while: files take several steps, and the clock that orders
        the queue may have put a new one behind us."""
        self._begun: dict[InodeId, _FileReclaim] = {}
        """Files that take several steps."""
        self._complained = False
        self.files = 0
        """Reclaimed since the start."""
        self.chunks = 0
        """Removed since the start, whether they were there or not."""

    def set_delay(self, delay_ms: int) -> None:
        """What was removed is reclaimed after so long, from now on."""
        self._delay_ns = delay_ms * MILLISECOND

    async def step(self) -> bool:
        """A piece of a detached directory and a page of the queue of files. False when nothing more can be done now."""
        dismantled = await self._kv.transact(RoomMaker(self._dismantle))
        until_ns, passed = self._clock.wall() - self._delay_ns, self._passed

        async def next_page(txn: ReadTxn) -> list[tuple[Garbage, Inode]]:
            return await next_garbage(txn, garbage_files_per_step_max, after=passed, queued_until_ns=until_ns)

        page = await self._kv.read(next_page)
        reclaimed = await self._begin([garbage for garbage, _ in page])
        works = [
            self._begun.get(inode.id) or _FileReclaim(garbage, inode) for garbage, inode in page if garbage.inode in reclaimed
        ]
        if works:
            await self._reclaim(works)
        if len(page) == garbage_files_per_step_max:
            self._passed = page[-1][0]
            return True
        self._passed = None
        advanced, self._advanced = self._advanced, False
        return dismantled > 0 or advanced

    async def _begin(self, queued: Sequence[Garbage]) -> set[InodeId]:
        """Which of these files no reader keeps, nor can keep any more."""
        fresh = [garbage for garbage in queued if not garbage.begun]
        begun = {garbage.inode for garbage in queued if garbage.begun}
        return begun | await self._kv.transact(RoomMaker(partial(begin_reclaim, queued=fresh))) if fresh else begun

    async def _dismantle(self, txn: Txn) -> int:
        ctx = OpContext(User(0, 0), self._clock.wall(), ClientId(bytes(16)), 0, self._routing.routing, LayoutDefaults())
        return await dismantle(txn, ctx, garbage_entries_per_step_max)

    async def _reclaim(self, works: Sequence[_FileReclaim]) -> None:
        for work in works:
            work.begin_step()
            self._check_chains(work)
        await self._choose(works)
        await self._remove(works)
        at_end = [work for work in works if not work.problem and work.stop == work.end]
        await self._find_beyond_end(at_end)
        done = [work for work in at_end if not work.problem and work.stop == work.end]
        await asyncio.gather(*(self._finish(work) for work in done))
        for work in done:
            self._begun.pop(work.inode.id, None)
        ended, looked = set(map(id, done)), set(map(id, at_end))
        for work in works:
            if id(work) in ended:
                continue
            # Chunks were removed, or the look beyond its end has found more of them.
            moved = work.stop > work.first or (id(work) in looked and not work.problem)
            if moved or work.extended:
                self._begun[work.inode.id] = work
            self._advanced = self._advanced or moved
        self._advanced = self._advanced or bool(done)
        self._log_outage([work for work in works if work.problem])

    def _check_chains(self, work: _FileReclaim) -> None:
        """A chain without a target that serves is known without waiting for it."""
        known = self._routing.routing.chains
        for chain in work.inode.layout.chains:
            if chain not in known or known[chain].head() is None:
                work.problem = f"chain {chain} is not served"
                return

    async def _choose(self, works: Iterable[_FileReclaim]) -> None:
        """Which chunks this step removes: of files of one step's size all, of larger ones those that are there, since a file
        of many terabytes may be all holes."""
        room = garbage_chunks_per_step_max
        for work in works:
            if work.problem or not room:
                continue
            if work.end <= garbage_chunks_per_step_max:
                work.stop = min(work.end, work.first + room)
                work.remove = list(range(work.first, work.stop))
            else:
                there, stop = await self._find(work)
                work.remove = there[:room]
                work.stop = stop if len(there) <= room else there[room]
            room -= len(work.remove)

    async def _find(self, work: _FileReclaim) -> tuple[list[int], int]:
        """(indices of chunks that exist below some index, that index). On trouble that index is `first`."""
        nearest = (await self._find_next_chunks([work], work.first))[0]
        if work.problem:
            return [], work.first
        begin = min(nearest, default=work.end)
        stop = min(work.end, begin + keys_per_find_max)
        if begin >= stop:
            return [], work.end
        keys = list(chunks(work.inode.layout, work.inode.content_id, begin, stop))
        there = []
        for index, outcome in enumerate(await self._storage.find(keys, timeout_ns=_TIMEOUT_NS), begin):
            if outcome.code is Code.OK:
                there.append(index)
            elif outcome.code is not Code.NOT_FOUND:
                work.problem = f"chunk {index}: {outcome.message or outcome.code.name}"
                return [], work.first
        return there, stop

    async def _find_next_chunks(self, works: Sequence[_FileReclaim], begin: int | None = None) -> list[list[int]]:
        """Of each file, the first chunk of each of its chains from `begin` on (None: from its end on), where there is one."""
        keys: list[tuple[ChunkId, ChainId]] = []
        for work in works:
            first = work.end if begin is None else begin
            # As many neighbouring chunks as there are chains: each chain once.
            keys += chunks(work.inode.layout, work.inode.content_id, first, first + len(work.inode.layout.chains))
        outcomes = iter(await self._storage.find_next(keys, timeout_ns=_TIMEOUT_NS))
        found = []
        for work in works:
            there = []
            for outcome in islice(outcomes, len(work.inode.layout.chains)):
                file = chunk_file(outcome.chunk) if outcome.code is Code.OK else None
                if file is not None:
                    there.append(file[1])
                elif outcome.code is not Code.NOT_FOUND:
                    work.problem = f"inode {work.inode.id}: {outcome.message or outcome.code.name}"
            found.append(there)
        return found

    async def _remove(self, works: Iterable[_FileReclaim]) -> None:
        removals = [(work, index) for work in works for index in work.remove]
        if not removals:
            return
        writes = []
        for work, index in removals:
            layout = work.inode.layout
            writes.append(WriteIO(file_chunk(work.inode.content_id, index), chain_of(layout, index), UpdateKind.REMOVE, 0))
        results = await self._storage.update(writes, timeout_ns=_TIMEOUT_NS)
        for (work, index), result in zip(removals, results, strict=True):
            if result.code in (Code.OK, Code.NOT_FOUND):
                self.chunks += 1
            elif not work.problem:
                work.problem = f"chunk {index}: {result.message or result.code.name}"
                work.stop = index  # everything below it is gone; the others of this step are removed once more

    async def _find_beyond_end(self, works: Sequence[_FileReclaim]) -> None:
        """Where the recorded length ends, there may be chunks whose writer died. A file that has some gets a new end, and the
        next step goes on from the first of them: what is before it does not exist."""
        begin = 0
        while begin < len(works):
            end, room = begin + 1, keys_per_find_max - len(works[begin].inode.layout.chains)
            while end < len(works) and len(works[end].inode.layout.chains) <= room:
                room -= len(works[end].inode.layout.chains)
                end += 1
            for work, there in zip(works[begin:end], await self._find_next_chunks(works[begin:end]), strict=True):
                if there and max(there) < _INDEX_MAX:
                    work.stop, work.end, work.extended = min(there), max(there) + 1, True
            begin = end

    async def _finish(self, work: _FileReclaim) -> None:
        async def op(txn: Txn) -> bool:
            return await delete_file(txn, work.garbage)

        if await self._kv.transact(RoomMaker(op)):
            self.files += 1

    def _log_outage(self, troubled: Sequence[_FileReclaim]) -> None:
        """Once per outage, not once per file and second."""
        if troubled and not self._complained:
            work = troubled[0]
            log.warning("removed files wait for their storage, for instance inode %d: %s", work.inode.id, work.problem)
            self._complained = True
        elif not troubled and self._complained:
            log.info("removed files no longer wait for their storage")
            self._complained = False
