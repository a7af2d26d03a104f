"""One record of 24 bytes for each page of a namespace, in buckets: millions of pages without an object for each.

A dictionary of chunk ids costs about 150 bytes a page, and one that grows stops everything while it does. Here the records of some
twenty pages lie one after the other in a bytearray, found by `bytearray.find` of the 12 bytes that differ within a namespace. The
buckets grow by linear hashing (Witold Litwin, "Linear Hashing: A New Tool for File and Table Addressing", VLDB 1980): one bucket
is split, or two are joined, as pages come and go, so that no call ever moves more than one bucket's records.

Chunk ids are digests, so the order of the buckets is a random order of the pages. A walk over them is a sample.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

from fs3.base.ids import PAGE_PREFIX_BYTES, ChunkId, page_prefix

RECORD = Struct("<12sIII")
"""What tells a page from the others of its namespace; its length and hits; when it was used last; when it came. As they lie in
memory and in a sample."""
RECORD_BYTES = RECORD.size
NAME_BYTES = 12
_WORDS = Struct("<III")
_LAST_WORD = Struct("<I")
_LENGTH_BITS = 27
"""Of a word; the rest counts hits. Enough for the largest page and what is in front of it."""
LENGTH_MAX = (1 << _LENGTH_BITS) - 1
HITS_MAX = (1 << 32 - _LENGTH_BITS) - 1
"""Counted; further ones change nothing."""
_PAGES_PER_BUCKET_MAX = 24
"""On average: another bucket is made beyond it."""
_PAGES_PER_BUCKET_MIN = 8
"""On average: a bucket is given up below it."""


class PageRecord(NamedTuple):
    """What is remembered of a page."""

    length: int
    """Bytes of its chunk."""
    hits: int
    """How often it was used since it came, counted up to `HITS_MAX`."""
    last: int
    """Tick at which it was used last, or came."""
    born: int
    """Tick at which it came."""


class PageTable:
    """The records of one namespace's pages. Its callers keep to chunks of that namespace."""

    __slots__ = ("_buckets", "_mask", "_prefix", "bytes", "pages")

    def __init__(self, namespace_id: int) -> None:
        self._prefix = page_prefix(namespace_id)
        self._buckets = [bytearray()]
        self._mask = 0
        """One less than the power of two that the number of buckets has not passed."""
        self.pages = 0
        self.bytes = 0
        """Lengths of all pages together."""

    @property
    def buckets(self) -> int:
        """How many there are; it changes by one at a time."""
        return len(self._buckets)

    def find(self, chunk: ChunkId) -> tuple[bytearray, int]:
        """The bucket that a page belongs to, and where its record begins there; negative: there is none."""
        name = chunk[PAGE_PREFIX_BYTES:]
        place = int.from_bytes(name[:4], "little") & self._mask
        if place >= len(self._buckets):
            place &= self._mask >> 1
        bucket = self._buckets[place]
        at = bucket.find(name)
        while at > 0 and at % RECORD_BYTES:
            at = bucket.find(name, at + 1)
        return bucket, at

    def get(self, chunk: ChunkId) -> PageRecord | None:
        """What is remembered of a page."""
        bucket, at = self.find(chunk)
        return None if at < 0 else _read(bucket, at)

    def put(self, chunk: ChunkId, record: PageRecord) -> None:
        """Remember this of a page, instead of what was."""
        bucket, at = self.find(chunk)
        head = record.length | record.hits << _LENGTH_BITS
        if at >= 0:
            self.bytes += record.length - _read(bucket, at).length
            _WORDS.pack_into(bucket, at + NAME_BYTES, head, record.last, record.born)
            return
        bucket += RECORD.pack(chunk[PAGE_PREFIX_BYTES:], head, record.last, record.born)
        self.pages += 1
        self.bytes += record.length
        if self.pages > _PAGES_PER_BUCKET_MAX * len(self._buckets):
            self._split()

    def use(self, chunk: ChunkId, tick: int) -> bool:
        """A page was used. False: there is no such page."""
        bucket, at = self.find(chunk)
        if at < 0:
            return False
        head, _, born = _WORDS.unpack_from(bucket, at + NAME_BYTES)
        if head >> _LENGTH_BITS < HITS_MAX:
            head += 1 << _LENGTH_BITS
        _WORDS.pack_into(bucket, at + NAME_BYTES, head, tick, born)
        return True

    def remove(self, chunk: ChunkId) -> PageRecord | None:
        """Forget a page. Returns what was remembered of it."""
        bucket, at = self.find(chunk)
        if at < 0:
            return None
        record = _read(bucket, at)
        end = len(bucket) - RECORD_BYTES
        if at != end:
            bucket[at : at + RECORD_BYTES] = bucket[end:]
        del bucket[end:]
        self.pages -= 1
        self.bytes -= record.length
        if len(self._buckets) > 1 and self.pages < _PAGES_PER_BUCKET_MIN * len(self._buckets):
            self._join()
        return record

    def bucket(self, place: int) -> Iterator[tuple[ChunkId, PageRecord]]:
        """The pages of one bucket, from 0; none when it is not there. Not to be changed meanwhile."""
        if place < len(self._buckets):
            prefix = self._prefix
            for name, head, last, born in RECORD.iter_unpack(self._buckets[place]):
                yield ChunkId(prefix + name), PageRecord(head & LENGTH_MAX, head >> _LENGTH_BITS, last, born)

    def _split(self) -> None:
        """One bucket more: half the pages of the one whose turn it is move there."""
        added = len(self._buckets)
        if added > self._mask:
            self._mask = self._mask << 1 | 1
        source = added & self._mask >> 1
        stay, move = bytearray(), bytearray()
        records = memoryview(self._buckets[source])
        for at in range(0, len(records), RECORD_BYTES):
            record = records[at : at + RECORD_BYTES]
            if int.from_bytes(record[:4], "little") & self._mask == added:
                move += record
            else:
                stay += record
        self._buckets[source] = stay
        self._buckets.append(move)

    def _join(self) -> None:
        """One bucket less: its pages go back to the one they came from."""
        last = self._buckets.pop()
        removed = len(self._buckets)
        self._buckets[removed & self._mask >> 1] += last
        if removed == self._mask + 1 >> 1:
            self._mask >>= 1


def _read(bucket: bytearray, at: int) -> PageRecord:
    head, last, born = _WORDS.unpack_from(bucket, at + NAME_BYTES)
    return PageRecord(head & LENGTH_MAX, head >> _LENGTH_BITS, last, born)
