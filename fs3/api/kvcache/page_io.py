"""Pages put, read and looked for as the chunks they are.

Every page is read together with what stands in front of it (`fs3.core.kvcache.pages`), into a few bytes of this side's own, and
the page itself straight into the caller's buffers. What is in front is looked at once everything has arrived and was verified: it
says whose page it is and how long.
"""

from __future__ import annotations

import asyncio
from collections.abc import MutableSequence, Sequence
from operator import add, attrgetter

from fs3.api.kvcache.arguments import Views
from fs3.api.kvcache.breaker import GuardedStorage
from fs3.api.kvcache.leases import PageLease
from fs3.api.kvcache.results import LookupResult, Status, status_of
from fs3.base.errors import FS3Error
from fs3.base.ids import ChunkId
from fs3.base.limits import page_header_bytes
from fs3.base.status import Code
from fs3.base.units import KIB, SECOND
from fs3.client.storage.client import StorageClient
from fs3.client.storage.page_heads import LeasedPresence, PageSet
from fs3.client.storage.presence import ChunkPresence
from fs3.client.storage.reads import ReadOutcome
from fs3.core.files.read_plan import ReadIO, buffer_bytes
from fs3.core.files.write_plan import WriteIO
from fs3.core.kvcache.pages import PageKey, front_bytes, fronts, page_chunks, page_length
from fs3.core.kvcache.placement import Placement
from fs3.model.chunk import UpdateKind
from fs3.model.cluster import CacheNamespace

ask_first_bytes = 64 * KIB
"""Pages of at least so many bytes are put only when a lookup has not found them: the bytes cost more than the question."""
ask_first_timeout_ns = 1 * SECOND
"""How long that lookup may take; what is not known by then is sent."""
clean_up_timeout_ns = 1 * SECOND
"""How long the removal of pages that no replica can give may hold up the get that found them."""

_code_of = attrgetter("code")
_length_of = attrgetter("length")
_OK, _MISS = Status.OK, Status.MISS

Storage = StorageClient | GuardedStorage


# --- putting ---------------------------------------------------------------------------------------------------------


async def put_pages(
    storage: Storage, placement: Placement, pages: Sequence[PageKey], views: Sequence[Views], timeout_ns: int
) -> list[Status]:
    """Store pages, each of as many bytes as its buffers have."""
    sizes = _sizes_of(views)
    begun = _now()
    there = await _find_large(storage, placement, pages, sizes, min(timeout_ns, ask_first_timeout_ns))
    missing = [index for index in range(len(pages)) if index not in there] if there else range(len(pages))
    statuses = [Status.EXISTS] * len(pages)
    chain = placement.chain
    in_front = fronts(pages, sizes)
    writes = [
        WriteIO(
            pages[index].chunk,
            chain(pages[index].chunk),
            UpdateKind.PUT,
            0,
            (memoryview(in_front[index]), *views[index]),
            len(in_front[index]) + sizes[index],
        )
        for index in missing
    ]
    if writes:
        timeout_ns = left_ns(timeout_ns, begun)
        try:
            codes = [result.code for result in await storage.update(writes, timeout_ns=timeout_ns)]
        except FS3Error as failure:
            codes = [failure.code] * len(writes)
        for index, code in zip(missing, codes, strict=True):
            statuses[index] = status_of(code)
    return statuses


async def _find_large(
    storage: Storage, placement: Placement, pages: Sequence[PageKey], sizes: Sequence[int], timeout_ns: int
) -> set[int]:
    """The pages that are there, by index, of those that are worth the question."""
    large = [index for index, size in enumerate(sizes) if size >= ask_first_bytes]
    if not large:
        return set()
    presence = await _find_chunks(storage, placement, [pages[index].chunk for index in large], timeout_ns)
    return {index for index, length in zip(large, presence.lengths, strict=True) if length}


async def remove_pages(storage: Storage, placement: Placement, pages: Sequence[PageKey], timeout_ns: int) -> list[Status]:
    """Remove pages; OK whether or not there was one."""
    writes = [WriteIO(page.chunk, placement.chain(page.chunk), UpdateKind.REMOVE, 0) for page in pages]
    try:
        results = await storage.update(writes, timeout_ns=timeout_ns)
    except FS3Error as failure:
        return [status_of(failure.code)] * len(pages)
    return [status_of(result.code) for result in results]


# --- reading ---------------------------------------------------------------------------------------------------------


async def get_pages(
    storage: Storage,
    placement: Placement,
    pages: Sequence[PageKey],
    views: Sequence[Views],
    lengths: MutableSequence[int] | None,
    timeout_ns: int,
) -> list[Status]:
    """Read pages into their buffers. With `lengths`, which get those of the pages, shorter pages than the buffers are welcome."""
    begun = _now()
    sizes = _sizes_of(views)
    wanted = fronts(pages, sizes)
    found = bytearray(sum(map(len, wanted)))
    spots = memoryview(found)
    chain = placement.chain
    reads = []
    at = 0
    for (chunk, _, _), view, in_front in zip(pages, views, wanted, strict=True):
        end = at + len(in_front)
        reads.append(ReadIO(chunk, chain(chunk), 0, (spots[at:end], *view)))
        at = end
    try:
        outcomes = await storage.read(reads, timeout_ns=timeout_ns)
    except FS3Error as failure:
        outcomes = [ReadOutcome(failure.code)] * len(pages)
    # Every page a hit of the length that was wanted, as nearly always: what is in front of the pages is what must be there.
    if (
        not any(map(_code_of, outcomes))
        and found == b"".join(wanted)
        and list(map(_length_of, outcomes)) == list(map(add, map(len, wanted), sizes))
    ):
        statuses, read = [_OK] * len(pages), sizes
    else:
        statuses, read = [], []
        for outcome, io, page, size in zip(outcomes, reads, pages, sizes, strict=True):
            status, length = _status_of_read(outcome, io.buffer[0], page, size, is_exact=lengths is None)  # type: ignore[arg-type]
            statuses.append(status)
            read.append(length)
        await _clean_up(storage, placement, pages, statuses, left_ns(timeout_ns, begun))
    if lengths is not None:
        for index, length in enumerate(read):
            lengths[index] = length
    return statuses


def _sizes_of(views: Sequence[Views]) -> list[int]:
    return [len(view[0]) if len(view) == 1 else buffer_bytes(view) for view in views]


def _status_of_read(outcome: ReadOutcome, found: memoryview, page: PageKey, room: int, *, is_exact: bool) -> tuple[Status, int]:
    """What a key is told, and how long its page is (0: not known), when `found` was in front of what was read."""
    if outcome.code is not Code.OK:
        return _status_of_failure(outcome), 0
    length = page_length(found, page)
    # Another key's page under the same chunk id is a miss for this key; so is one that does not end where it says.
    if not length or outcome.length != len(found) + min(length, room):
        return _MISS, 0
    if length > room or (is_exact and length < room):
        return Status.OTHER_LENGTH, length
    return _OK, length


async def get_ranges(
    storage: Storage, placement: Placement, pages: Sequence[PageKey], parts: Sequence[tuple[int, Views]], timeout_ns: int
) -> list[Status]:
    """Read a part of each page: where it begins, and the buffers that it goes to."""
    begun = _now()
    # What is in front of a page is read once, however many parts of it are wanted.
    fronts_at = {page: at for at, page in enumerate(dict.fromkeys(pages))}
    reads = []
    found = []
    for page in fronts_at:
        found.append(memoryview(bytearray(front_bytes(page.key))))
        reads.append(ReadIO(page.chunk, placement.chain(page.chunk), 0, found[-1]))
    for page, (offset, views) in zip(pages, parts, strict=True):
        reads.append(ReadIO(page.chunk, placement.chain(page.chunk), front_bytes(page.key) + offset, views))
    try:
        outcomes = await storage.read(reads, timeout_ns=timeout_ns)
    except FS3Error as failure:
        return [status_of(failure.code)] * len(pages)
    statuses = []
    for page, (offset, views), part in zip(pages, parts, outcomes[len(fronts_at) :], strict=True):
        at = fronts_at[page]
        statuses.append(_status_of_part(outcomes[at], found[at], page, part, offset, buffer_bytes(views)))
    await _clean_up(storage, placement, pages, statuses, left_ns(timeout_ns, begun))
    return statuses


async def _clean_up(
    storage: Storage, placement: Placement, pages: Sequence[PageKey], statuses: Sequence[Status], timeout_ns: int
) -> None:
    """Remove the pages that no replica has whole: lookups would find them for ever, and puts be told that they are there. A page
    of which one replica could not be asked stays, since that one may have it."""
    corrupt = [page for page, status in zip(pages, statuses, strict=True) if status is Status.CORRUPT]
    if corrupt:
        await remove_pages(storage, placement, list(dict.fromkeys(corrupt)), min(timeout_ns, clean_up_timeout_ns))


def _status_of_failure(outcome: ReadOutcome) -> Status:
    return Status.CORRUPT if outcome.is_lost else status_of(outcome.code)


def _status_of_part(
    in_front: ReadOutcome, found: memoryview, page: PageKey, part: ReadOutcome, offset: int, wanted: int
) -> Status:
    for outcome in (in_front, part):
        if outcome.code is not Code.OK:
            return _status_of_failure(outcome)
    length = page_length(found, page)
    # Both must be of one version: a page may have been removed, and put again, in between.
    if not length or in_front.length != len(found) or in_front.version != part.version:
        return _MISS
    if offset + wanted > length:
        return Status.OTHER_LENGTH
    return _OK if part.length == wanted else _MISS


# --- looking for -----------------------------------------------------------------------------------------------------


async def look_up(
    storage: Storage, placement: Placement, namespace: CacheNamespace, keys: Sequence[bytes], timeout_ns: int
) -> LookupResult:
    """Which of the keys have pages that the namespace can have, and how long these are."""
    presence = await _find_chunks(storage, placement, page_chunks(namespace.id, namespace.salt, keys), timeout_ns)
    return _lookup_result(keys, presence, namespace.page_bytes)


async def look_up_leased(
    storage: Storage,
    placement: Placement,
    namespace: CacheNamespace,
    keys: Sequence[bytes],
    timeout_ns: int,
    lease_ms: int,
) -> LookupResult:
    """`look_up`, and what is found stays for so long."""
    chunks = page_chunks(namespace.id, namespace.salt, keys)
    try:
        pages = PageSet(chunks, placement.places(chunks), placement.chains)
        found = await storage.lease(pages, lease_ms, timeout_ns=timeout_ns)
    except FS3Error as failure:
        found = LeasedPresence([0] * len(chunks), dict.fromkeys(range(len(chunks)), failure.code), [], [])
    result = _lookup_result(keys, ChunkPresence(found.lengths, found.failures), namespace.page_bytes)
    leased = sum(map(bool, found.lengths)) - len(found.unleased)
    return result._replace(lease=PageLease(storage, found.leases, leased, sorted(found.unleased), lease_ms))


def _lookup_result(keys: Sequence[bytes], presence: ChunkPresence, page_bytes: int) -> LookupResult:
    lengths = _page_lengths(keys, presence.lengths, page_bytes)
    if 0 not in lengths:
        count = len(lengths)
        return LookupResult(count, [True] * count, [_OK] * count, lengths)
    statuses = [_OK if length else _MISS for length in lengths]
    for index, code in presence.failures.items():
        statuses[index] = status_of(code)
    return LookupResult(lengths.index(0), list(map(bool, lengths)), statuses, lengths)


def _page_lengths(keys: Sequence[bytes], chunk_lengths: Sequence[int], page_bytes: int) -> list[int]:
    """The length of each key's page, of that of its chunk; 0: there is none."""
    in_front = set(map(len, keys))
    if len(in_front) != 1:
        pairs = zip(keys, chunk_lengths, strict=True)
        return [_length_behind(front_bytes(key), length, page_bytes) for key, length in pairs]
    # Nearly always all keys are of one length, and the pages of one or two.
    front_length = page_header_bytes + in_front.pop()
    lengths = {length: _length_behind(front_length, length, page_bytes) for length in set(chunk_lengths)}
    if len(lengths) == 1:
        return list(lengths.values()) * len(keys)
    return [lengths[length] for length in chunk_lengths]


def _length_behind(front_length: int, chunk_length: int, page_bytes: int) -> int:
    length = chunk_length - front_length
    return length if 1 <= length <= page_bytes else 0


async def _find_chunks(storage: Storage, placement: Placement, chunks: Sequence[ChunkId], timeout_ns: int) -> ChunkPresence:
    try:
        return await storage.contains(chunks, placement.places(chunks), placement.chains, timeout_ns=timeout_ns)
    except FS3Error as failure:
        return ChunkPresence([0] * len(chunks), dict.fromkeys(range(len(chunks)), failure.code))


def _now() -> float:
    return asyncio.get_running_loop().time()


def left_ns(timeout_ns: int, begun: float) -> int:
    """What is left of a timeout that has run since then."""
    return max(1, timeout_ns - round((_now() - begun) * SECOND))
