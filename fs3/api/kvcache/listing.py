"""The keys of a namespace, from what stands in front of its pages.

The pages of a namespace are neighbours among the chunks of each of its chains. So a listing goes through its chains one after the
other, has one replica tell the next few hundred chunks, and reads the header and key in front of each. A cursor says how far it
has come. Pages that are there from the begin of a listing to its end are found once; those that are stored or removed meanwhile
may be found or not.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple

from fs3.api.client import Client
from fs3.api.kvcache.arguments import Key
from fs3.api.kvcache.page_io import Storage
from fs3.api.kvcache.results import ListedPage, PageList
from fs3.base.errors import FS3Error, error
from fs3.base.ids import ChainId, ChunkId, page_range
from fs3.base.limits import page_header_bytes
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.client.storage.reads import ReadOutcome
from fs3.core.files.read_plan import ReadIO
from fs3.core.kvcache.pages import PageHeader, is_stored_as, parse_header
from fs3.core.kvcache.placement import Placement
from fs3.model.cluster import CacheNamespace
from fs3.model.upkeep import ChunkPage, ChunkRow

pages_per_list_default = 1000
pages_per_list_max = 8192
"""Pages of one answer; their keys may have 4 KiB each."""
chunks_per_step = 256
"""Chunks that one replica is asked for at once, and that one batch of reads is about."""
chunks_per_list_max = 8 * pages_per_list_max
"""Chunks that one call looks at, however few of them have the prefix."""
first_read_bytes = 192
"""Of each chunk: the header, and most keys."""

_CURSOR = Struct(">4sII16s")
_CURSOR_MAGIC = b"fs3L"


class ListsPages(ABC):
    """`list`, in a class of its own: in one that has a method of this name, annotations cannot speak of lists."""

    @abstractmethod
    async def _list_pages(self, prefix: Key, after: bytes | None, limit: int) -> PageList: ...

    async def list(self, prefix: Key = b"", after: bytes | None = None, limit: int = pages_per_list_default) -> PageList:
        """Up to `limit` of the pages whose keys begin with `prefix`, with their lengths, from the begin or from where an earlier
        part ended: its `after`. When that is None, it was the last part. A part may be smaller than `limit`, or empty: each
        call looks at a bounded number of pages.

        Raises TypeError or InvalidArgument for a bad argument, such as `after` of a listing that began before the namespace was
        cleared; FS3Error when no target of a chain answers.
        """
        return await self._list_pages(prefix, after, limit)


class ListPosition(NamedTuple):
    """How far a listing has come."""

    place: int
    """Of the chain that is next, in the table."""
    after: ChunkId
    """The last chunk of it that was looked at."""


def pack_cursor(namespace_id: int, position: ListPosition) -> bytes:
    """The cursor of a position."""
    return _CURSOR.pack(_CURSOR_MAGIC, namespace_id, *position)


def parse_cursor(namespace_id: int, cursor: bytes | None) -> ListPosition:
    """Where to go on. Raises InvalidArgument for what is no cursor of this namespace, or of one that was cleared since: what was
    listed before is gone."""
    begin = ListPosition(0, page_range(namespace_id)[0])
    if cursor is None:
        return begin
    if not isinstance(cursor, bytes):
        raise TypeError(f"after is neither bytes nor None but {type(cursor).__name__}")
    if len(cursor) == _CURSOR.size:
        magic, whose, place, after = _CURSOR.unpack(cursor)
        if magic == _CURSOR_MAGIC and whose == namespace_id:
            return ListPosition(place, max(ChunkId(after), begin.after))
        if magic == _CURSOR_MAGIC:
            raise error(Code.INVALID, "after: of another namespace, or of this one before it was cleared: list it from the begin")
    raise error(Code.INVALID, "after: not from a listing")


class _Found(NamedTuple):
    chunk: ChunkId
    page: ListedPage


class PageLister:
    """One call of `list`."""

    def __init__(
        self, client: Client, storage: Storage, placement: Placement, namespace: CacheNamespace, prefix: bytes, timeout_ns: int
    ) -> None:
        self._client = client
        self._storage = storage
        self._placement = placement
        self._namespace_id = namespace.id
        self._salt = namespace.salt
        self._prefix = prefix
        self._deadline = _now_ns() + timeout_ns
        self._skipped = 0

    async def run(self, position: ListPosition, limit: int) -> PageList:
        """The pages from a position on. Raises FS3Error when no target of a chain answers."""
        pages: list[ListedPage] = []
        looked_at = 0
        place, after = position
        begin, until = page_range(self._namespace_id)
        chains = self._placement.chains
        while place < len(chains):
            wanted = min(chunks_per_step, limit - len(pages)) if not self._prefix else chunks_per_step
            if not wanted or looked_at >= chunks_per_list_max or (looked_at and self._left_ns() <= 1):
                return self._part(pages, ListPosition(place, after))
            chain = chains[place]
            part = await self._list_range(chain, after, until, wanted)
            looked_at += len(part.rows) or 1
            found = await self._read_keys(chain, [row for row in part.rows if self._is_page(row, chain)])
            room = limit - len(pages)
            pages += [each.page for each in found[:room]]
            if len(found) > room:
                return self._part(pages, ListPosition(place, found[room - 1].chunk if room else after))
            if part.more and part.rows:
                after = part.rows[-1].chunk
            else:
                place, after = place + 1, begin
        return PageList(pages, None, self._skipped)

    def _part(self, pages: list[ListedPage], position: ListPosition) -> PageList:
        return PageList(pages, pack_cursor(self._namespace_id, position), self._skipped)

    def _left_ns(self) -> int:
        return max(1, self._deadline - _now_ns())

    def _is_page(self, row: ChunkRow, chain: ChainId) -> bool:
        """It is stored, where pages are looked for (chains may have been added to the table since), and may be a page."""
        if not row.committed or self._placement.chain(row.chunk) != chain:
            return False
        if row.length <= page_header_bytes:
            self._skipped += 1
        return row.length > page_header_bytes

    async def _list_range(self, chain: ChainId, after: ChunkId, until: ChunkId | None, limit: int) -> ChunkPage:
        """From the first target that answers: each that serves has all there is."""
        members = self._client.manager.routing.chains.get(chain)
        targets = [slot.target for slot in members.serving_slots()] if members is not None else []
        failure = error(Code.NOT_SERVING, f"nobody serves chain {chain}")
        for tried, target in enumerate(targets):
            patience = max(1, self._left_ns() // (len(targets) - tried))
            try:
                return await self._client.storage.list_chunks(
                    chain, target, after=after, until=until, limit=limit, timeout_ns=patience
                )
            except FS3Error as why:
                failure = why
        raise failure

    async def _read_keys(self, chain: ChainId, rows: Sequence[ChunkRow]) -> list[_Found]:
        """The pages of these chunks whose keys have the prefix."""
        buffers = [bytearray(min(first_read_bytes, row.length)) for row in rows]
        outcomes = await self._read(chain, rows, buffers)
        longer = []
        headers: list[PageHeader | None] = []
        for index, (outcome, buffer) in enumerate(zip(outcomes, buffers, strict=True)):
            header = parse_header(buffer) if outcome.code is Code.OK else None
            headers.append(header)
            if header is not None and page_header_bytes + header.key_bytes > len(buffer):
                longer.append(index)
        if longer:
            for index in longer:
                header = headers[index]
                assert header is not None
                buffers[index] = bytearray(page_header_bytes + header.key_bytes)
            again = await self._read(chain, [rows[index] for index in longer], [buffers[index] for index in longer])
            for index, outcome in zip(longer, again, strict=True):
                outcomes[index] = outcome
                headers[index] = parse_header(buffers[index]) if outcome.code is Code.OK else None
        found = []
        for row, outcome, buffer, header in zip(rows, outcomes, buffers, headers, strict=True):
            if outcome.code is Code.NOT_FOUND:
                continue  # removed in between
            key = bytes(buffer[page_header_bytes : page_header_bytes + header.key_bytes]) if header is not None else b""
            if header is None or row.length != header.chunk_bytes or not is_stored_as(row.chunk, self._salt, key, header):
                self._skipped += 1
            elif key.startswith(self._prefix):
                found.append(_Found(row.chunk, ListedPage(key, header.page_bytes)))
        return found

    async def _read(self, chain: ChainId, rows: Sequence[ChunkRow], buffers: Sequence[bytearray]) -> list[ReadOutcome]:
        """The begin of each chunk. Raises FS3Error unless each was read, is gone, or is damaged on every replica."""
        if not rows:
            return []
        reads = [ReadIO(row.chunk, chain, 0, memoryview(buffer)) for row, buffer in zip(rows, buffers, strict=True)]
        outcomes = await self._storage.read(reads, timeout_ns=self._left_ns(), is_use=False)
        for outcome in outcomes:
            if outcome.code not in (Code.OK, Code.NOT_FOUND) and not outcome.is_lost:
                raise error(outcome.code, f"the pages of chain {chain} cannot be listed: {outcome.message}")
        return outcomes


def _now_ns() -> int:
    return round(asyncio.get_running_loop().time() * SECOND)
