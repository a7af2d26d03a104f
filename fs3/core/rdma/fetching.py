"""What one end of a connection is reading out of the other's memory, cut to what a queue pair takes at once.

A queue pair answers a limited number of reads at once, and its send queue has as many places: credits. Each read takes one and
gives it back when it is completed, whatever it was for. Long payloads are cut, and payloads take turns, so that a long one does
not hold up the others. There is one way to fail: the path is closed, and everything under way with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fs3.model.rdma import RemoteRegion


@dataclass(frozen=True, slots=True)
class ReadPiece:
    """One read to post."""

    number: int
    fetch: PayloadFetch
    address: int
    """In the other end's memory."""
    key: int
    offset: int
    """Where it goes, from the beginning of the payload."""
    length: int


class PayloadFetch:
    """A payload on its way."""

    __slots__ = ("_next_region", "_offset", "_region_done", "item", "length", "regions", "unfinished")

    def __init__(self, regions: Sequence[RemoteRegion], item: Any) -> None:
        self.item = item
        """What it is for; the caller's."""
        self.regions = regions
        self.length = sum(region.length for region in regions)
        self.unfinished = self.length
        """Bytes that have not arrived."""
        self._next_region = 0
        self._region_done = 0
        self._offset = 0

    @property
    def is_cut(self) -> bool:
        """There is nothing left to post."""
        return self._offset == self.length

    def cut(self, number: int, bytes_max: int) -> ReadPiece:
        """The next read."""
        region = self.regions[self._next_region]
        length = min(region.length - self._region_done, bytes_max)
        piece = ReadPiece(number, self, region.address + self._region_done, region.key, self._offset, length)
        self._offset += length
        self._region_done += length
        if self._region_done == region.length:
            self._next_region += 1
            self._region_done = 0
        return piece


class Fetching:
    """The fetches of one path."""

    def __init__(self, credits: int, piece_bytes_max: int, stall_ns: int) -> None:
        """`credits`: reads under way at once. `stall_ns`: when so long none of those under way completes, the path is dead."""
        self.credits = credits
        self._piece_bytes_max = piece_bytes_max
        self._stall_ns = stall_ns
        self._waiting: deque[PayloadFetch] = deque()
        """Those with something left to post; the first has the turn."""
        self._fetches: dict[PayloadFetch, None] = {}
        self._posted: dict[int, ReadPiece] = {}
        self._number = 0
        self._progress_at = 0

    def __len__(self) -> int:
        return len(self._fetches)

    def begin(self, fetch: PayloadFetch) -> None:
        """PayloadFetch a payload, which is not empty; `next_pieces` says what to post."""
        self._fetches[fetch] = None
        self._waiting.append(fetch)

    def next_pieces(self, now: int) -> list[ReadPiece]:
        """What to post now."""
        pieces = []
        while self.credits and self._waiting:
            fetch = self._waiting.popleft()
            self._number += 1
            piece = fetch.cut(self._number, self._piece_bytes_max)
            if not fetch.is_cut:
                self._waiting.append(fetch)
            if not self._posted:
                self._progress_at = now
            self._posted[piece.number] = piece
            self.credits -= 1
            pieces.append(piece)
        return pieces

    def on_completed(self, number: int, now: int) -> PayloadFetch | None:
        """A read is completed: the fetch that is complete with it, if one is. A number that is not under way changes nothing."""
        piece = self._posted.pop(number, None)
        if piece is None:
            return None
        self.credits += 1
        self._progress_at = now
        fetch = piece.fetch
        fetch.unfinished -= piece.length
        if fetch.unfinished:
            return None
        del self._fetches[fetch]
        return fetch

    def is_stalled(self, now: int) -> bool:
        """Reads are under way and none has completed for long."""
        return bool(self._posted) and now - self._progress_at >= self._stall_ns

    def close(self) -> list[PayloadFetch]:
        """The path is closed, nothing is read any more: what was under way, oldest first."""
        lost = list(self._fetches)
        self._fetches.clear()
        self._waiting.clear()
        self.credits += len(self._posted)
        self._posted.clear()
        return lost
