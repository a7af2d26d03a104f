"""KVCache pages: a page is whole and its own key's, or there is none. What was stored stays until somebody removes it."""

from __future__ import annotations

import asyncio

from fs3.api.client import Client
from fs3.api.kvcache import KVCache, Status
from fs3.base.errors import FS3Error
from fs3.base.prng import Prng
from fs3.base.units import SECOND
from fs3.sim.ring2.story import Story


def content_of(key: str, page_bytes: int) -> bytes:
    """The only bytes that are right for a key."""
    word = f"[{key}]".encode()
    return (word * (page_bytes // len(word) + 1))[:page_bytes]


class StoredKeys:
    """Keys that were stored and are never removed, by everybody together."""

    def __init__(self) -> None:
        self.keys: dict[str, None] = {}


class PageWorkload:
    """One worker's puts, gets and lookups."""

    def __init__(
        self, number: int, client: Client, prng: Prng, stored: StoredKeys, story: Story, pages: int, page_bytes: int
    ) -> None:
        self._number = number
        self.client = client
        self._prng = prng
        self._stored = stored
        self._story = story
        self._pages = pages
        self._page_bytes = page_bytes
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
        if self._cache is None:
            self._cache = await KVCache.of(self.client, namespace="sim", page_bytes=self._page_bytes, timeout=8.0)
        kept = [f"kept-{index}" for index in range(self._pages)]
        passing = [f"passing-{index}" for index in range(self._pages)]
        keys = self._pick_keys(kept + passing)
        if draw < 4:
            await self._put(keys)
        elif draw < 7:
            await self.get(keys)
        elif draw < 9:
            await self._lookup(keys)
        else:
            await self._cache.remove(self._pick_keys(passing))

    def _pick_keys(self, keys: list[str]) -> list[str]:
        chosen = list(keys)
        self._prng.shuffle(chosen)
        return chosen[: self._prng.between(1, 4)]

    async def _put(self, keys: list[str]) -> None:
        assert self._cache is not None
        answers = await self._cache.put_from(keys, [content_of(key, self._page_bytes) for key in keys])
        for key, answer in zip(keys, answers, strict=True):
            if answer.ok and key.startswith("kept"):
                self._stored.keys[key] = None
        self._log("put", keys, answers)

    async def get(self, keys: list[str]) -> int:
        """Read pages. How many were there."""
        assert self._cache is not None
        known = dict(self._stored.keys)
        buffers = [bytearray(self._page_bytes) for _ in keys]
        answers = await self._cache.get_into(keys, buffers)
        for key, buffer, answer in zip(keys, buffers, answers, strict=True):
            if answer is Status.OK and buffer != content_of(key, self._page_bytes):
                self._story.fail("pages", f"client {self._number} got other bytes for {key}")
            elif answer is Status.MISS and key in known:
                self._story.fail("pages", f"client {self._number} misses {key}, which was stored")
        self._log("get", keys, answers)
        return sum(answer is Status.OK for answer in answers)

    async def _lookup(self, keys: list[str]) -> None:
        assert self._cache is not None
        found = await self._cache.lookup(keys)
        self._log("lookup", keys, found.bitmap)

    async def verify(self) -> None:
        """Everything that was stored is there. Only once all is healed."""
        if self._stored.keys:
            self._cache = await KVCache.of(self.client, namespace="sim", page_bytes=self._page_bytes, timeout=8.0)
            keys = list(self._stored.keys)
            found = await self.get(keys)
            if found < len(keys):
                self._story.fail("pages", f"{len(keys) - found} of {len(keys)} pages could not be read in the end")

    def _log(self, what: str, keys: list[str], answers: object) -> None:
        if self._story.is_verbose:
            self._story.say(f"client-{self._number}", f"{what} {' '.join(keys)}: {answers}")
