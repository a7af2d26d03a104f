"""Pages whose bytes follow from their keys, so that a reader knows what must be in one."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Protocol

from fs3.api.kvcache import Status
from fs3.base.limits import page_header_bytes
from fs3.drill.journal import WrongBytes

_SEED = 11
_OFFSETS = 1 << 16
"""So many different pages are cut from one block of random bytes; each at another place, so none is like another."""


class ReadsPages(Protocol):
    """A KVCache, as far as it is read."""

    async def get_into(self, keys: Sequence[bytes], buffers: Sequence[memoryview]) -> list[Status]:
        """`KVCache.get_into`."""
        ...


class PageOracle:
    """The pages of one size. They are alike in all processes."""

    def __init__(self, page_bytes: int) -> None:
        self.page_bytes = page_bytes
        self._random = memoryview(random.Random(_SEED).randbytes(page_bytes + _OFFSETS))

    def page(self, key: bytes) -> memoryview:
        """The bytes of a key's page. No copy: a part of what all pages are cut from."""
        offset = int.from_bytes(blake2b(key, digest_size=2).digest(), "little")
        return self._random[offset : offset + self.page_bytes]

    def pages(self, keys: Iterable[bytes]) -> list[memoryview]:
        """Of several keys."""
        return [self.page(key) for key in keys]

    def buffers(self, count: int) -> list[memoryview]:
        """Room to read so many pages."""
        return [memoryview(bytearray(self.page_bytes)) for _ in range(count)]

    def check(self, keys: Sequence[bytes], buffers: Sequence[memoryview], statuses: Sequence[Status]) -> None:
        """Raises WrongBytes when a page that was read is not its key's."""
        for key, buffer, status in zip(keys, buffers, statuses, strict=True):
            if status is Status.OK and buffer != self.page(key):
                raise WrongBytes(f"the page of {key!r} came back with other bytes")

    async def read(self, cache: ReadsPages, keys: Sequence[bytes], buffers: Sequence[memoryview]) -> list[Status]:
        """Get pages into the first of the buffers and look at every byte. Raises WrongBytes."""
        room = buffers[: len(keys)]
        statuses = await cache.get_into(keys, room)
        self.check(keys, room, statuses)
        return statuses


def stored_bytes(page_bytes: int, key: bytes) -> int:
    """What a page takes of a budget: its key and its header with it."""
    return page_bytes + len(key) + page_header_bytes


def numbered(prefix: str, numbers: Iterable[int]) -> list[bytes]:
    """Keys of one length."""
    return [f"{prefix}{number:08}".encode() for number in numbers]
