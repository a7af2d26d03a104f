"""The order of a target's pages as bytes, so that a restart does not forget it.

A sample is a row of parts, each of up to 1 024 pages of one namespace, from those used longest ago to those used last. A part has
its own checksum: a damaged one is skipped, and its pages count as old. Making and reading go on part by part, and pages may come,
go and be used meanwhile: a page that is used while the sample is made is written again, behind the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from struct import Struct

from fs3.base.checksum import crc32c
from fs3.base.ids import ChunkId, page_prefix
from fs3.core.kvcache.recency.limits import sample_pages_max
from fs3.core.kvcache.recency.page_table import USE, USES
from fs3.core.kvcache.recency.recency import Recency

_MAGIC = b"fs3recn1"
"""The last character is the format's version."""
_HEADER = Struct("<8sIII")
"""Magic, sum of all that follows it, namespace, number of pages."""
_SUMMED = 12
"""Offset in a part of what its sum covers."""
_PAGE = Struct("<12sII")
"""What tells the page from others of its namespace; ticks since its last use, below its uses; ticks since it came."""
_AGE_BITS = 30
_AGE_MAX = (1 << _AGE_BITS) - 1
PART_PAGES = 1024
_AGAIN = 4
"""One page in so many may be written a second time, because it was used meanwhile."""


def sample_parts(recencies: Iterable[Recency], now: int, pages_max: int = sample_pages_max) -> Iterator[bytes]:
    """The parts of a sample, to be written one after the other; some are empty. Each is the work of 1 024 pages.

    One sample of a namespace at a time: a second one takes over from the first.

    Args:
        recencies: of one target.
        now: as for `Recency`.
        pages_max: of all namespaces together; each has the share it has of the pages. Those used last are sampled.
    """
    chosen = list(recencies)
    total = sum(len(recency) for recency in chosen)
    for recency in chosen:
        share = -(-len(recency) * pages_max // total) if total > pages_max else len(recency)
        yield from _parts(recency, now, share)


def _parts(recency: Recency, now: int, share: int) -> Iterator[bytes]:
    table = recency.table
    tick = recency.tick(now)
    skip = table.pages - share
    left = share + share // _AGAIN
    table.hand = table.oldest
    while left > 0 and table.hand:
        pages = []
        for _ in range(min(PART_PAGES, left) if skip <= 0 else min(PART_PAGES, skip)):
            row = table.hand
            if not row:
                break
            table.hand = table.newer[row]
            if skip > 0:
                skip -= 1
                continue
            left -= 1
            age = min(max(tick - table.last[row], 0), _AGE_MAX) | (table.words[row] & USES) // USE << _AGE_BITS
            pages.append(_PAGE.pack(table.name(row), age, max(tick - table.born[row], 0)))
        yield _part(recency.namespace_id, pages) if pages else b""


def _part(namespace_id: int, pages: list[bytes]) -> bytes:
    summed = _HEADER.pack(_MAGIC, 0, namespace_id, len(pages))[_SUMMED:] + b"".join(pages)
    return _MAGIC + crc32c(summed).to_bytes(4, "little") + summed


def restore_part(data: bytes, at: int, recencies: Mapping[int, Recency], now: int, away_ns: int = 0) -> int:
    """Give the pages of one part the place they had. Returns where the next one begins; the length of `data`: there is none.

    Pages that are not known are left out, known ones that no part has stay older than those of the parts. Never raises for what
    the data is.

    Args:
        data: parts one after the other, as `sample_parts` made them.
        at: where to begin; 0 first.
        recencies: by namespace.
        now: as for `Recency`.
        away_ns: how long ago the sample was made, as far as is known.
    """
    view = memoryview(data)
    end = find_part_end(view, at)
    if end is None:
        following = data.find(_MAGIC, at + 1)
        return len(view) if following < 0 else following
    _, _, namespace_id, _ = _HEADER.unpack_from(view, at)
    recency = recencies.get(namespace_id)
    if recency is not None:
        table = recency.table
        prefix = page_prefix(namespace_id)
        tick = recency.tick(now - away_ns)
        for name, age, since in _PAGE.iter_unpack(view[at + _HEADER.size : end]):
            row = table.find(ChunkId(prefix + name))
            if row:
                table.renew(row, max(tick - (age & _AGE_MAX), 0))
                table.born[row] = max(tick - since, 0)
                table.words[row] |= (age >> _AGE_BITS) * USE
    return end


def find_part_end(view: bytes | memoryview, at: int) -> int | None:
    """Where the part that begins at `at` ends. None: no undamaged part does."""
    if len(view) - at < _HEADER.size:
        return None
    magic, checksum, namespace_id, count = _HEADER.unpack_from(view, at)
    end: int = at + _HEADER.size + count * _PAGE.size
    whole = magic == _MAGIC and namespace_id < 1 << 31 and count <= PART_PAGES and end <= len(view)
    return end if whole and crc32c(view[at + _SUMMED : end]) == checksum else None
