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
        self._room.add_waiting(namespace_id, length)

    def take(self, token: int) -> WaitingUpdate | None:
        """It does not wait any more: it begins, is refused, or was answered elsewhere."""
        found = self._by_token.pop(token, None)
        if found is not None:
            self._room.drop_waiting(found.namespace_id, found.length)
        return found

    def announce(self, chunk: ChunkId, length: int, now: int) -> None:
        """A put that may not wait with its bytes comes again."""
        if chunk not in self._announced:
            self._room.add_waiting(page_namespace(chunk), length)
        else:
            length = self._announced[chunk][0]
        self._announced[chunk] = (length, now + cache_wait_ns_max)

    def forget_announced(self, now: int) -> None:
        """Those that did not come again are not waited for any more."""
        for chunk, (length, until) in list(self._announced.items()):
            if until <= now:
                del self._announced[chunk]
                self._room.drop_waiting(page_namespace(chunk), length)

    @property
    def is_empty(self) -> bool:
        """No update waits, and none is expected."""
        return not self._by_token and not self._announced
