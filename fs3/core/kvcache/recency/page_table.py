"""The pages of one namespace on one target, in a line from the oldest to the newest: 45 bytes each, without an object for any.

A dictionary and a linked list of objects cost 250 bytes a page and more, and a dictionary that grows stops everything while it
does. Here a page is a row of a few arrays. A row is found by four bytes of the page's digest in one of many small buckets, which
hold some twenty rows each and grow by linear hashing (Witold Litwin, "Linear Hashing: A New Tool for File and Table Addressing",
VLDB 1980): one bucket is split, or two are joined, as pages come and go, so that no call moves more than one bucket.
"""

from __future__ import annotations

from array import array
from struct import Struct

from fs3.base.ids import CHUNK_ID_BYTES, PAGE_PREFIX_BYTES, ChunkId, page_prefix

NAME_BYTES = CHUNK_ID_BYTES - PAGE_PREFIX_BYTES
"""What tells a page from the others of its namespace."""
LENGTH_MAX = (1 << 27) - 1
"""Bytes of a page and what is in front of it, with room."""
USE = 1 << 27
"""One use since the page came, in its word; there is room for three."""
USES = 3 * USE
SPARED = 1 << 29
"""The page has had a second chance, and was not used since."""
_FREE = (1 << 32) - 1
"""Word of a row without a page."""
_LINE = 0
"""The row that is no page: the line's oldest comes after it, its newest before."""
_ENTRY = Struct("<4sI")
"""Of a bucket: how a digest begins, and a row."""
_ENTRY_BYTES = _ENTRY.size
_TAG_BYTES = 4
_ROW = Struct("<I")
_PAGES_PER_BUCKET_MAX = 24
"""On average: another bucket is made beyond it."""
_PAGES_PER_BUCKET_MIN = 8
"""On average: a bucket is given up below it."""


class PageTable:
    """Rows, found by chunk and linked in a line. Callers keep to chunks of one namespace, and to rows that have a page."""

    __slots__ = (
        "_buckets",
        "_free",
        "_mask",
        "_names",
        "_prefix",
        "born",
        "bytes",
        "hand",
        "last",
        "newer",
        "older",
        "pages",
        "words",
    )

    def __init__(self, namespace_id: int) -> None:
        self._prefix = page_prefix(namespace_id)
        self._buckets = [bytearray()]
        self._mask = 0
        """One less than the power of two that the number of buckets has not passed."""
        self._free = _LINE
        """A row without a page; the next such row is behind it in `newer`."""
        self._names = bytearray(NAME_BYTES)
        self.words = array("I", [_FREE])
        """Length, `USES` and `SPARED`."""
        self.last = array("I", [0])
        """Tick at which the page was used last."""
        self.born = array("I", [0])
        """Tick at which the page came."""
        self.older = array("I", [_LINE])
        self.newer = array("I", [_LINE])
        self.hand = _LINE
        """Row of a walk along the line. When its page moves or goes, the hand moves on to the next newer one."""
        self.pages = 0
        self.bytes = 0
        """Lengths of all pages together."""

    @property
    def rows(self) -> int:
        """As many as there were pages at once, and one; from 1 they may be pages."""
        return len(self.words)

    @property
    def oldest(self) -> int:
        """Row of the page at the line's end; 0: there is none."""
        return self.newer[_LINE]

    def find(self, chunk: ChunkId) -> int:
        """The row of a page; 0: there is none."""
        name = chunk[PAGE_PREFIX_BYTES:]
        tag = name[:_TAG_BYTES]
        place = (
            int.from_bytes(tag, "little") & self._mask
        )  # as `_bucket`, without a call: this is done for every page that is read
        buckets = self._buckets
        bucket = buckets[place if place < len(buckets) else place & self._mask >> 1]
        at = bucket.find(tag)
        while at >= 0:
            if not at % _ENTRY_BYTES:
                row: int = _ROW.unpack_from(bucket, at + _TAG_BYTES)[0]
                if self._names.startswith(name, row * NAME_BYTES):
                    return row
            at = bucket.find(tag, at + 1)
        return 0

    def name(self, row: int) -> bytes:
        """The page's id without what all ids of the namespace begin with."""
        return bytes(self._names[row * NAME_BYTES : (row + 1) * NAME_BYTES])

    def chunk(self, row: int) -> ChunkId:
        """Whose row it is."""
        return ChunkId(self._prefix + self._names[row * NAME_BYTES : (row + 1) * NAME_BYTES])

    def has_page(self, row: int) -> bool:
        """The row is a page's."""
        return self.words[row] != _FREE

    def add(self, chunk: ChunkId, length: int, tick: int) -> None:
        """A page that is not there comes, as the newest."""
        name = chunk[PAGE_PREFIX_BYTES:]
        row = self._free
        if row:
            self._free = self.newer[row]
            self._names[row * NAME_BYTES : (row + 1) * NAME_BYTES] = name
            self.words[row], self.last[row], self.born[row] = length, tick, tick
        else:
            row = len(self.words)
            self._names += name
            self.words.append(length)
            self.last.append(tick)
            self.born.append(tick)
            self.older.append(_LINE)
            self.newer.append(_LINE)
        self._link(row)
        bucket = self._bucket(name[:_TAG_BYTES])
        bucket += _ENTRY.pack(name[:_TAG_BYTES], row)
        self.pages += 1
        self.bytes += length
        if self.pages > _PAGES_PER_BUCKET_MAX * len(self._buckets):
            self._split()

    def renew(self, row: int, tick: int) -> None:
        """To the newest end of the line."""
        older, newer = self.older, self.newer
        before, after = older[row], newer[row]
        if row == self.hand:
            self.hand = after
        newer[before], older[after] = after, before
        self._link(row)
        self.last[row] = tick

    def set_length(self, row: int, length: int) -> None:
        """The page is as long as that."""
        before = self.words[row] & LENGTH_MAX
        self.words[row] += length - before
        self.bytes += length - before

    def remove(self, row: int) -> int:
        """A page goes. Returns its length."""
        tag = bytes(self._names[row * NAME_BYTES : row * NAME_BYTES + _TAG_BYTES])
        bucket = self._bucket(tag)
        entry = _ENTRY.pack(tag, row)
        at = bucket.find(entry)
        while at % _ENTRY_BYTES:
            at = bucket.find(entry, at + 1)
        end = len(bucket) - _ENTRY_BYTES
        if at != end:
            bucket[at : at + _ENTRY_BYTES] = bucket[end:]
        del bucket[end:]
        before, after = self.older[row], self.newer[row]
        if row == self.hand:
            self.hand = after
        self.newer[before], self.older[after] = after, before
        length = self.words[row] & LENGTH_MAX
        self.words[row] = _FREE
        self.newer[row] = self._free
        self._free = row
        self.pages -= 1
        self.bytes -= length
        if len(self._buckets) > 1 and self.pages < _PAGES_PER_BUCKET_MIN * len(self._buckets):
            self._join()
        return length

    def _link(self, row: int) -> None:
        older, newer = self.older, self.newer
        newest = older[_LINE]
        older[row], newer[row] = newest, _LINE
        newer[newest] = row
        older[_LINE] = row

    def _bucket(self, tag: bytes) -> bytearray:
        place = int.from_bytes(tag, "little") & self._mask
        if place >= len(self._buckets):
            place &= self._mask >> 1
        return self._buckets[place]

    def _split(self) -> None:
        """One bucket more: about half the rows of the one whose turn it is move there."""
        added = len(self._buckets)
        if added > self._mask:
            self._mask = self._mask << 1 | 1
        source = added & self._mask >> 1
        stay, move = bytearray(), bytearray()
        for tag, row in _ENTRY.iter_unpack(self._buckets[source]):
            side = move if int.from_bytes(tag, "little") & self._mask == added else stay
            side += _ENTRY.pack(tag, row)
        self._buckets[source] = stay
        self._buckets.append(move)

    def _join(self) -> None:
        """One bucket less: its rows go back to the one they came from."""
        last = self._buckets.pop()
        removed = len(self._buckets)
        self._buckets[removed & self._mask >> 1] += last
        if removed == self._mask + 1 >> 1:
            self._mask >>= 1
