"""Puts that wait until room is made for them, at the head of a chain.

Each waits for a bounded time, in the order of arrival within its namespace, and keeps its bytes only as far as the node lets
bytes wait for others at all (`PayloadHandle.park`). A put whose bytes may not wait is answered BUSY, and its client sends it
again; that it comes again is remembered, so that room is made for it meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fs3.base.ids import ChunkId, is_page, page_namespace
from fs3.base.limits import cache_wait_ns_max
from fs3.core.kvcache.budget.room import FILES, TargetRoom
from fs3.model.chunk import Update


@dataclass(slots=True)
class WaitingUpdate:
    """One of them."""

    update: Update
    token: int
    length: int
    """Bytes it needs."""
    namespace_id: int
    """Or `FILES`."""
    expires_ns: int


class WaitingUpdates:
    """Those of one target, in the order they came."""

    def __init__(self, room: TargetRoom) -> None:
        self._room = room
        self._by_token: dict[int, WaitingUpdate] = {}
        self._announced: dict[ChunkId, tuple[int, int]] = {}
        """Puts that will come again: (bytes, until when room is made for them)."""
        self._lengths: dict[ChunkId, list[int]] = {}
        """Of all puts of each page: those that wait, and one that will come again."""

    def __len__(self) -> int:
        return len(self._by_token)

    def __iter__(self) -> Iterator[WaitingUpdate]:
        return iter(list(self._by_token.values()))

    def waits_in(self, namespace_id: int) -> bool:
        """A put waits in this namespace, so what comes later waits as well."""
        return any(each.namespace_id == namespace_id for each in self._by_token.values())

    def add(self, update: Update, token: int, length: int, now: int) -> None:
        """It waits."""
        namespace_id = page_namespace(update.chunk) if is_page(update.chunk) else FILES
        self._by_token[token] = WaitingUpdate(update, token, length, namespace_id, now + cache_wait_ns_max)
        if namespace_id == FILES:
            self._room.add_waiting(FILES, length)
        else:
            self._want(update.chunk, length)

    def take(self, token: int) -> WaitingUpdate | None:
        """It does not wait any more: it begins, is refused, or was answered elsewhere."""
        found = self._by_token.pop(token, None)
        if found is None:
            return None
        if found.namespace_id == FILES:
            self._room.drop_waiting(FILES, found.length)
        else:
            self._drop(found.update.chunk, found.length)
        return found

    def announce(self, chunk: ChunkId, length: int, now: int) -> None:
        """A put that may not wait with its bytes comes again."""
        self.on_arrived(chunk)
        self._announced[chunk] = (length, now + cache_wait_ns_max)
        self._want(chunk, length)

    def on_arrived(self, chunk: ChunkId) -> None:
        """A put of this page arrives, so it is not expected any more."""
        announced = self._announced.pop(chunk, None)
        if announced is not None:
            self._drop(chunk, announced[0])

    def forget_announced(self, now: int) -> None:
        """Those that did not come again are not waited for any more."""
        for chunk, (_, until) in list(self._announced.items()):
            if until <= now:
                self.on_arrived(chunk)

    def _want(self, chunk: ChunkId, length: int) -> None:
        """Room is to be made for a put of a page: once, however many put it, and for the longest."""
        lengths = self._lengths.setdefault(chunk, [])
        before = max(lengths, default=None)
        lengths.append(length)
        self._change_wanted(chunk, before)

    def _drop(self, chunk: ChunkId, length: int) -> None:
        lengths = self._lengths[chunk]
        before = max(lengths)
        lengths.remove(length)
        self._change_wanted(chunk, before)
        if not lengths:
            del self._lengths[chunk]

    def _change_wanted(self, chunk: ChunkId, before: int | None) -> None:
        after = max(self._lengths[chunk], default=None)
        if after != before:
            namespace_id = page_namespace(chunk)
            if after is not None:
                self._room.add_waiting(namespace_id, after)
            if before is not None:
                self._room.drop_waiting(namespace_id, before)

    @property
    def is_empty(self) -> bool:
        """No update waits, and none is expected."""
        return not self._by_token and not self._announced
