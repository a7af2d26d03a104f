"""The removals that the head of a chain admits for itself to make room: which are begun, and what became of them."""

from __future__ import annotations

import logging
from typing import Protocol

from fs3.base.ids import ChunkId, page_namespace
from fs3.base.limits import evictions_at_once_max
from fs3.base.status import Code
from fs3.core.craq.admission.table import UNTAGGED
from fs3.core.kvcache.budget.room import TargetRoom
from fs3.core.kvcache.budget.seams import EvictionCause
from fs3.model.chunk import Update, UpdateKind, UpdateResult
from fs3.services.storage.target import TargetShell

log = logging.getLogger("fs3.storage")

expiry_steps_per_run = 64
"""Steps of a round through the namespaces whose pages expire that are made at once; see `Recency.find_expired`."""


class EvictionOwner(Protocol):
    """Whose evictions these are."""

    def on_eviction_done(self) -> None:
        """One has ended: there may be room, or another one to begin."""
        ...


class Evictions:
    """Those of one target."""

    def __init__(self, shell: TargetShell, room: TargetRoom, owner: EvictionOwner) -> None:
        self.allowance = 0
        """How many may still begin in this tick while no put waits."""
        self._shell = shell
        self._room = room
        self._cache = room.cache
        self._owner = owner
        self._lanes = shell.replica.flights.lanes
        self._chunks: dict[int, ChunkId] = {}
        """Those that are not answered yet."""
        self._chosen: set[ChunkId] = set()
        self._next = 0
        self._expiring: dict[int, int] = {}
        """By namespace with a time to live, the steps that are left of this round."""

    def __len__(self) -> int:
        """How many are not answered yet."""
        return len(self._chunks)

    def __contains__(self, chunk: object) -> bool:
        """An update of this page is under way, an eviction or a client's."""
        return chunk in self._lanes or chunk in self._chosen

    def run(self, now: int, *, is_urgent: bool) -> None:
        """Begin as many as may be under way. `is_urgent`: puts wait, so the allowance does not matter."""
        while len(self._chunks) < evictions_at_once_max and (is_urgent or self.allowance > 0):
            victim = self._room.next_victim(now)
            if victim is None:
                self._expire(now)
                return
            self.allowance -= 1
            self._begin(victim.chunk, victim.cause)

    def look_for_expired(self) -> None:
        """Begin another round through the namespaces whose pages expire, where the last one is over."""
        for namespace_id, pages in self._cache.namespaces.items():
            limits = self._room.source.limits(namespace_id)
            if limits is not None and limits.ttl_ns and pages.recency:
                self._expiring.setdefault(namespace_id, pages.recency.buckets)

    def _expire(self, now: int) -> None:
        for _ in range(expiry_steps_per_run):
            if not self._expiring or len(self._chunks) >= evictions_at_once_max:
                return
            namespace_id, left = next(iter(self._expiring.items()))
            for chunk in self._room.next_expired(namespace_id, now):
                self._begin(chunk, EvictionCause.EXPIRED)
            if left > 1:
                self._expiring[namespace_id] = left - 1
            else:
                del self._expiring[namespace_id]

    def remove_lost(self, chunk: ChunkId) -> None:
        """Begin to remove a page whose bytes no replica has, whatever holds it, unless an update of it is under way."""
        if chunk not in self and self._cache.length(chunk):
            self._begin(chunk, EvictionCause.LOST)

    def _begin(self, chunk: ChunkId, cause: EvictionCause) -> None:
        at = self._shell.replica.position
        self._next += 1
        self._chunks[self._next] = chunk
        self._chosen.add(chunk)
        self._cache.begin_eviction(chunk, cause)
        self._shell.submit(Update(chunk, UpdateKind.REMOVE, at.chain, at.version, 0, 0, 0, UNTAGGED), self, self._next)

    def answer(self, index: int, result: UpdateResult) -> None:
        """See `ResultSink`: what became of one."""
        chunk = self._chunks.pop(index)
        self._chosen.discard(chunk)
        if result.code is not Code.OK:
            log.debug("target %d: page %s stays: %s %s", self._shell.target, chunk.hex(), result.code.name, result.message)
            if chunk not in self._lanes:
                self._cache.cancel_eviction(chunk)
                self._cache.grown.add(page_namespace(chunk))
        self._owner.on_eviction_done()
