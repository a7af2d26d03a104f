"""Tokens of event streams: what a stream gave is taken back, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from fs3.api.kvcache.events import CacheChange, EventStream, token_bytes_max
from fs3.base.errors import InvalidArgument
from fs3.base.ids import ChainId, page_chunk
from fs3.base.units import SECOND
from fs3.core.kvcache.events import Cursor, EventBatch, PageChange, PageEvent

CHAINS = [ChainId(1), ChainId(2)]


class Cache:
    """A namespace that a test clears."""

    namespace_id = 7

    async def check_namespace(self) -> None:
        """It is there."""

    def get_chains(self) -> Sequence[ChainId]:
        return CHAINS


class Reader:
    """Tells what a test says."""

    def __init__(self, news: list[list[tuple[ChainId, EventBatch]]]) -> None:
        self.news = news

    async def next(self, timeout_ns: int) -> list[tuple[ChainId, EventBatch]]:
        return self.news.pop(0) if self.news else []

    def close(self) -> None:
        """Nothing is held."""


class Storage:
    """Gives readers, and remembers where they were to go on from."""

    def __init__(self, *news: list[tuple[ChainId, EventBatch]]) -> None:
        self.news = list(news)
        self.opened: list[tuple[int, dict[ChainId, Cursor]]] = []

    def read_page_events(self, namespace_id: int, chains: Any, cursors: dict[ChainId, Cursor]) -> Any:
        self.opened.append((namespace_id, cursors))
        return Reader(self.news)


def place(chain: ChainId, seq: int, *keys: bytes, missed: bool = False) -> tuple[ChainId, EventBatch]:
    """Events of a chain, from a place on."""
    events = [PageEvent(PageChange.STORED, page_chunk(7, key.ljust(16)), 100, key) for key in keys]
    return chain, EventBatch(events, Cursor(b"epoch", seq), missed=missed)


def stream(storage: Storage, token: str = "", cache: Cache | None = None) -> EventStream:
    return EventStream(cache or Cache(), storage, token, SECOND)  # type: ignore[arg-type]


async def test_a_stream_begins_where_its_chains_are() -> None:
    storage = Storage([place(CHAINS[0], 5)], [place(CHAINS[1], 9)], [place(CHAINS[0], 5, b"one", b"two")])
    events = stream(storage)
    assert (await anext(events)).key == b"one"
    again = stream(storage, events.token)
    assert storage.opened[-1] == (7, {CHAINS[0]: Cursor(b"epoch", 6), CHAINS[1]: Cursor(b"epoch", 9)})
    again.close()


async def test_what_was_missed_is_told_once_for_all_chains() -> None:
    both = [place(chain, 3, missed=True) for chain in CHAINS]
    events = stream(Storage([place(chain, 0) for chain in CHAINS], both, [place(CHAINS[1], 3, b"key")]))
    assert (await anext(events)).change is CacheChange.MISSED
    assert (await anext(events)).key == b"key"


async def test_a_namespace_that_was_cleared_begins_anew() -> None:
    cache = Cache()
    storage = Storage([place(chain, 0) for chain in CHAINS])
    events = stream(storage, cache=cache)
    await events.start()
    cache.namespace_id = 8
    storage.news += [[place(chain, 0) for chain in CHAINS], [place(CHAINS[0], 0, b"new")]]
    assert [(await anext(events)).change for _ in range(3)] == [CacheChange.CLEARED, CacheChange.MISSED, CacheChange.STORED]
    assert storage.opened[-1] == (8, {})


@pytest.mark.parametrize("token", ["x", "AAAA", "é", "gAAA====", "A" * (token_bytes_max + 1)])
def test_what_is_no_token(token: str) -> None:
    with pytest.raises(InvalidArgument, match="token"):
        stream(Storage(), token)


@pytest.mark.parametrize("token", [None, 0, b""])
def test_what_is_no_text_is_no_token(token: Any) -> None:
    with pytest.raises(TypeError, match="token is not str"):
        stream(Storage(), token)
