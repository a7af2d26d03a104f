"""Versions that stay readable although their chunk may be removed or replaced meanwhile, for those who read them later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fs3.base.ids import ChunkId
from fs3.base.limits import small_read_bytes
from fs3.base.status import Code
from fs3.drivers.chunks.read_path import ReadPath, read_verified
from fs3.drivers.chunks.reclaimer import BlockReclaimer
from fs3.drivers.chunks.row_cache import RowCache
from fs3.drivers.chunks.rows import Version
from fs3.ports.clock import Clock


class _Pinned(NamedTuple):
    """One version, and the pin of its block; 0: it is in the index and has none."""

    chunk: ChunkId
    version: Version
    pin: int


class _BeginsRead:
    """Reads the begin of several versions; see `PinnedCheck`."""

    def __init__(self, pinned: Sequence[_Pinned], length: int) -> None:
        self._pinned = pinned
        self._length = length

    def run(self) -> list[bytes | None]:
        """On a reader thread."""
        return [self._read(each) for each in self._pinned]

    def _read(self, pinned: _Pinned) -> bytes | None:
        stop = min(self._length, pinned.version.length)
        if not stop:
            return b""
        result = read_verified(pinned.version, pinned.chunk, 0, stop)
        return b"".join(result.parts) if result.code is Code.OK else None  # type: ignore[arg-type]

    def on_result(self, result: list[bytes | None]) -> None:
        """Nothing is learned of the chunks, which may have other versions by now."""


class PinnedVersions:
    """Those of one store. Belongs to its loop."""

    def __init__(self, rows: RowCache, read_path: ReadPath, reclaimer: BlockReclaimer, clock: Clock) -> None:
        self._rows = rows
        self._read_path = read_path
        self._reclaimer = reclaimer
        self._clock = clock
        self._pinned: dict[int, _Pinned] = {}
        self._last = 0

    def pin(self, chunk: ChunkId) -> int:
        """`ChunkStore.pin_version`. Raises StoreDamaged."""
        row = self._rows.find(chunk)
        version = row.committed if row is not None else None
        if version is None:
            return 0
        self._last += 1
        pin = self._reclaimer.pin(version.place) if version.place >= 0 else 0
        self._pinned[self._last] = _Pinned(chunk, version, pin)
        return self._last

    async def read(self, pins: Sequence[int], length: int) -> list[bytes | None]:
        """`ChunkStore.read_pinned`."""
        assert length < small_read_bytes, "longer ranges are not read into memory"
        pinned = [self._pinned[pin] for pin in pins]
        try:
            for each in pinned:
                self._rows.reserve_piece_sums(each.version)
            places = [each.version.place for each in pinned if each.pin]
            return await self._read_path.run_pinned(_BeginsRead(pinned, length), places)
        finally:
            self.unpin(pins)

    def unpin(self, pins: Sequence[int]) -> None:
        """`ChunkStore.unpin`."""
        now = self._clock.now()
        for pin in pins:
            pinned = self._pinned.pop(pin, None)
            if pinned is not None and pinned.pin:
                self._reclaimer.unpin(pinned.pin, now, sent=False)

    def unpin_all(self) -> None:
        """The store is closed."""
        self.unpin(list(self._pinned))
