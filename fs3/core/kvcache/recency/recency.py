"""Which page of a namespace goes next: the least recently used one, with a second chance where that pays.

The order is exactly that of the last uses. A page that comes to the end of the line and was used three times since it came has a
second chance: it goes back to the newest end, and one of the uses is forgotten. That keeps what is used again and again, such as
the prompts that conversations begin with, when a scan of pages that are used once passes through. Where everything at the end of
the line is dead, second chances only take room. So they are given as long as they pay: as long as pages that had one are used
again at least as often as pages are in the last quarter of their time in the line. Both shares are counted, and forgotten by
halves; one second chance in 64 is given anyway, so that the first can be known.

Pages of a request are used one after the other, and the later ones are of no use without the earlier. So they are told last
first: then the end of a prefix goes before its beginning.

Everything else that was measured, and the hit rates: docs/kvcache-eviction.md.
"""

from __future__ import annotations

from typing import Protocol

from fs3.base.ids import ChunkId
from fs3.core.kvcache.recency.page_table import LENGTH_MAX, SPARED, USE, USES, PageTable

_TICK_BITS = 25
"""A tick is 2^25 ns, 34 ms: there is room for three years behind the start and one before it."""
_EPOCH_TICK = 1 << 30
"""Tick of the moment a `Recency` was made: pages of before a restart are older."""
_TICK_MAX = (1 << 32) - 1
_BURST_TICKS = 90
"""Uses that follow each other within three seconds are one: all ranks of a model get the same page, and replicas tell each other
what was read once a second."""
_BURST_SHARE = 16
"""Or within this part of the time a page takes through the line, where that is shorter."""
_EARNED = 3 * USE
"""Uses that earn a second chance, which costs one of them."""
_PROBE = 64
"""One in so many pages has its second chance though it does not pay."""
_COUNTED_MIN = 64
"""Shares are halved after as many pages as there are, and no fewer than that."""
SPARED_PER_SEARCH_MAX = 512
"""Second chances given by one search for a victim. The page behind them goes without one and leaves a hole in its prefix: so many
that this is rare. Each was paid for by a use."""
LOOKS_PER_SEARCH_MAX = 1024
"""Pages one search for a victim looks at before it says that there is none."""
EXPIRY_ROWS = 256
"""Looked at by one search for expired pages."""


class Protection(Protocol):
    """What keeps pages from going."""

    def __call__(self, chunk: ChunkId) -> bool:
        """This page must not go."""
        ...


class Recency:
    """What is remembered of the pages of one namespace on one target, and which of them goes next.

    Pure, and bounded: some 45 bytes of memory a page, and no call moves or looks at more than a thousand pages. `now` is a
    steady clock's, in nanoseconds, the same for all calls.
    """

    def __init__(self, namespace_id: int, now: int) -> None:
        self.namespace_id = namespace_id
        self._epoch = now
        self.table = PageTable(namespace_id)
        """For what samples it."""
        self._expiry_row = 0
        """Row that the next search for expired pages begins with."""
        self._searched = 0
        """Pages that went, that were spared, and that were used in the last quarter of their time."""
        self._late_uses = 0
        """Of these, the last kind."""
        self._spared = 0
        """Second chances given."""
        self._spared_uses = 0
        """Of these, used again."""
        self._denied = 0

    def __len__(self) -> int:
        return self.table.pages

    def __contains__(self, chunk: ChunkId) -> bool:
        return self.table.find(chunk) > 0

    @property
    def bytes(self) -> int:
        """Lengths of all pages together."""
        return self.table.bytes

    def length(self, chunk: ChunkId) -> int | None:
        """Of a page, in bytes; None: it is not known."""
        row = self.table.find(chunk)
        return self.table.words[row] & LENGTH_MAX if row else None

    def born(self, chunk: ChunkId) -> int | None:
        """When a page was stored, on the clock of `now`, to 34 ms; None: it is not known."""
        row = self.table.find(chunk)
        return self._epoch + (self.table.born[row] - _EPOCH_TICK << _TICK_BITS) if row else None

    def insert(self, chunk: ChunkId, length: int, now: int) -> int | None:
        """A page was stored; or again, with another length: returns the one before, None when it is new. Raises ValueError for a
        length that no page has."""
        if not 0 <= length <= LENGTH_MAX:
            raise ValueError(f"a page of {length} bytes, at most {LENGTH_MAX} can be")
        row = self.table.find(chunk)
        if not row:
            self.table.add(chunk, length, self.tick(now))
            return None
        before = self.table.words[row] & LENGTH_MAX
        self.table.set_length(row, length)
        self._use(row, self.tick(now))
        return before

    def touch(self, chunk: ChunkId, now: int) -> bool:
        """A page was used. False: it is not known. The pages of one request are told last first."""
        row = self.table.find(chunk)
        if row:
            self._use(row, self.tick(now))
        return row > 0

    def remove(self, chunk: ChunkId) -> int | None:
        """A page is gone. Returns its length; None: it was not known."""
        row = self.table.find(chunk)
        return self.table.remove(row) if row else None

    def victim(self, now: int, is_protected: Protection) -> ChunkId | None:
        """The next page to go, among those that are not protected; None: none was found among the next 1 024.

        It stays known until `remove`, and is named again after all others only. Protected pages count as used now.
        """
        table = self.table
        tick = self.tick(now)
        spared = 0
        # Twice around at most: the first time all may have a second chance.
        for _ in range(min(LOOKS_PER_SEARCH_MAX, 2 * table.pages)):
            row = table.oldest
            word = table.words[row]
            chunk = table.chunk(row)
            table.renew(row, tick)
            if is_protected(chunk):
                continue
            self._count_searched()
            if word & USES < _EARNED or spared == SPARED_PER_SEARCH_MAX or not self._may_spare():
                return chunk
            table.words[row] = word - USE | SPARED
            self._spared += 1
            spared += 1
        return None

    def find_expired(self, now: int, ttl_ns: int) -> list[ChunkId]:
        """Pages stored more than `ttl_ns` ago, among the next 256; `buckets` calls look at each page once."""
        table = self.table
        begin = self._expiry_row if self._expiry_row < table.rows else 0
        self._expiry_row = begin + EXPIRY_ROWS
        oldest = self.tick(now - ttl_ns)
        rows = range(begin, min(begin + EXPIRY_ROWS, table.rows))
        return [table.chunk(row) for row in rows if table.born[row] < oldest and table.has_page(row)]

    @property
    def buckets(self) -> int:
        """How many calls of `find_expired` look at each page once."""
        return -(-self.table.rows // EXPIRY_ROWS)

    def tick(self, now: int) -> int:
        """A moment as it is kept: in 34 ms, before and after this object was made."""
        return min(max((now - self._epoch >> _TICK_BITS) + _EPOCH_TICK, 0), _TICK_MAX)

    def _use(self, row: int, tick: int) -> None:
        table = self.table
        age = tick - table.last[row]
        span = tick - table.last[table.oldest]
        if age >= _BURST_TICKS or age * _BURST_SHARE > span:
            word = table.words[row]
            if word & SPARED:
                self._spared_uses += 1
            if 4 * age > 3 * span:
                self._late_uses += 1
                self._count_searched()
            table.words[row] = (word & (LENGTH_MAX | USES)) + (USE if word & USES < _EARNED else 0)
        table.renew(row, tick)

    def _may_spare(self) -> bool:
        """Second chances pay; or this one is given to find out."""
        if (self._spared_uses + 1) * self._searched >= self._late_uses * (self._spared + 1):
            return True
        self._denied += 1
        return self._denied % _PROBE == 0

    def _count_searched(self) -> None:
        self._searched += 1
        if self._searched > max(_COUNTED_MIN, self.table.pages):
            self._searched //= 2
            self._late_uses //= 2
            self._spared //= 2
            self._spared_uses //= 2
