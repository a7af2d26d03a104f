"""KVCache pages: what puts, removals, gets and lookups of a key say can be explained by an order of them in which each that was
answered happened once. A page is whole, its own key's, and as long as it was put, or there is none. What was stored stays until
somebody removes it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from fs3.api.client import Client
from fs3.api.kvcache import KVCache, Status
from fs3.base.errors import FS3Error
from fs3.base.ids import ChunkId
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.core.kvcache.pages import page_keys
from fs3.model.chunk import UpdateKind
from fs3.sim.checkers.history import Operation
from fs3.sim.ring2.story import Story
from fs3.sim.ring2.workloads.chunks import ChunkHistory

_KNOWN = {Status.OK: Code.OK, Status.EXISTS: Code.EXISTS, Status.MISS: Code.NOT_FOUND}
"""Answers that say what happened. After any other a put or a removal may have happened, or may yet."""


def content_of(key: str, number: int, page_bytes: int) -> bytes:
    """What the put of this number stores under a key; no two are alike, and their lengths differ, up to `page_bytes`."""
    word = f"[{key} {number}]".encode()
    length = page_bytes - number % 4 * (page_bytes // 7)
    return (word * (length // len(word) + 1))[:length]


class StoredKeys:
    """Keys that were stored and are never removed, by everybody together."""

    def __init__(self) -> None:
        self.keys: dict[str, None] = {}


class PageWorkload:
    """One worker's puts, gets, lookups and removals."""

    def __init__(
        self,
        number: int,
        client: Client,
        prng: Prng,
        history: ChunkHistory,
        stored: StoredKeys,
        story: Story,
        pages: int,
        page_bytes: int,
    ) -> None:
        self._number = number
        self.client = client
        self._prng = prng
        self._history = history
        self._stored = stored
        self._story = story
        self._page_bytes = page_bytes
        self._kept = [f"kept-{index}" for index in range(pages)]
        self._passing = [f"passing-{index}" for index in range(pages)]
        self._cache: KVCache | None = None

    async def run(self, operations: int, think_ns: int) -> None:
        """Do so many operations."""
        prng = self._prng
        for _ in range(operations):
            await asyncio.sleep(prng.below(2 * think_ns + 1) / SECOND)
            try:
                await self._run_one(prng.below(10))
            except FS3Error as failure:
                self._story.say(f"client-{self._number}", f"pages: {failure}")

    async def _run_one(self, draw: int) -> None:
        cache = await self._open()
        keys = self._pick_keys(self._kept + self._passing)
        if draw < 4:
            await self._put(cache, keys)
        elif draw < 6:
            await self._get(cache, keys)
        elif draw < 8:
            await self._lookup(cache, keys)
        else:
            await self._remove(cache, self._pick_keys(self._passing))

    async def _open(self) -> KVCache:
        if self._cache is None:
            # Without the circuit breaker: every operation is to meet the faults itself.
            self._cache = await KVCache.of(
                self.client, namespace="sim", page_bytes=self._page_bytes, timeout=8.0, circuit_breaker=False
            )
        return self._cache

    def _pick_keys(self, keys: list[str]) -> list[str]:
        chosen = list(keys)
        self._prng.shuffle(chosen)
        return chosen[: self._prng.between(1, 4)]

    async def _put(self, cache: KVCache, keys: list[str]) -> None:
        pages = [content_of(key, self._history.moment(), self._page_bytes) for key in keys]
        operations = self._begin(cache, keys, UpdateKind.PUT, pages)
        answers = await cache.put_from(keys, pages)
        for key, answer in zip(keys, answers, strict=True):
            if answer.ok and key in self._kept:
                self._stored.keys[key] = None
        self._end(operations, answers)
        self._log("put", keys, answers)

    async def _get(self, cache: KVCache, keys: list[str]) -> int:
        """Read pages. How many were there."""
        known = dict(self._stored.keys)
        buffers = [bytearray(self._page_bytes) for _ in keys]
        operations = self._begin(cache, keys)
        lengths = [0] * len(keys)
        answers = await cache.get_into(keys, buffers, lengths)
        for key, buffer, length, answer, operation in zip(keys, buffers, lengths, answers, operations, strict=True):
            operation.data = bytes(buffer[:length])
            if answer is Status.OK and not buffer.startswith(f"[{key} ".encode()[: self._page_bytes]):
                self._story.fail("pages", f"client {self._number} got other bytes for {key}")
            elif answer is Status.MISS and key in known:
                self._story.fail("pages", f"client {self._number} misses {key}, which was stored")
        self._end(operations, answers)
        self._log("get", keys, answers)
        return sum(answer is Status.OK for answer in answers)

    async def _lookup(self, cache: KVCache, keys: list[str]) -> None:
        operations = self._begin(cache, keys)
        for operation in operations:
            operation.only_presence = True
        found = await cache.lookup(keys)
        self._end(operations, found.statuses)
        self._log("lookup", keys, found.bitmap)

    async def _remove(self, cache: KVCache, keys: list[str]) -> None:
        operations = self._begin(cache, keys, UpdateKind.REMOVE, [b""] * len(keys))
        answers = await cache.remove(keys)
        self._end(operations, answers)
        self._log("remove", keys, answers)

    async def verify(self) -> None:
        """Everything that was stored and not removed is there. Only once all is healed."""
        if not self._history.operations:
            return
        self._cache = None
        cache = await self._open()
        await self._get(cache, self._passing)
        keys = list(self._stored.keys)
        found = await self._get(cache, keys)
        if found < len(keys):
            self._story.fail("pages", f"{len(keys) - found} of {len(keys)} pages could not be read in the end")
        await self._verify_listing(cache, set(keys))

    async def _verify_listing(self, cache: KVCache, stored: set[str]) -> None:
        """A listing by small parts tells each page once, with the length that a lookup tells."""
        listed: dict[str, int] = {}
        after = None
        while True:
            part = await cache.list("kept-", after, 2)
            for key, length in part.pages:
                if key.decode() in listed:
                    self._story.fail("pages", f"{key.decode()} is listed twice")
                listed[key.decode()] = length
            if part.skipped:
                self._story.fail("pages", f"{part.skipped} chunks are listed as no pages")
            after = part.after
            if after is None:
                break
        keys = sorted(listed)
        if stored - listed.keys() or (await cache.lookup(keys)).lengths != [listed[key] for key in keys]:
            self._story.fail("pages", f"{listed} is listed; {sorted(stored)} were stored")

    def _begin(
        self, cache: KVCache, keys: Sequence[str], kind: UpdateKind | None = None, data: Sequence[bytes] = ()
    ) -> list[Operation]:
        chunks: list[ChunkId] = [page.chunk for page in page_keys(cache.namespace_id, cache.salt, [key.encode() for key in keys])]
        return [
            self._history.begin(self._number, chunk, kind, 0, data[index] if kind is not None else b"")
            for index, chunk in enumerate(chunks)
        ]

    def _end(self, operations: Sequence[Operation], answers: Sequence[Status]) -> None:
        for operation, answer in zip(operations, answers, strict=True):
            if answer in _KNOWN:
                self._history.end(operation, _KNOWN[answer])

    def _log(self, what: str, keys: list[str], answers: object) -> None:
        if self._story.is_verbose:
            self._story.say(f"client-{self._number}", f"{what} {' '.join(keys)}: {answers}")
