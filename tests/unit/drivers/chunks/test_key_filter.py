"""The filter of chunks that may have a row."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from fs3.base.errors import FS3Error
from fs3.base.ids import ChunkId, InodeId, TargetId, file_chunk
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.drivers.chunks import ChunkStoreConfig, FileChunkStore, key_filter
from fs3.drivers.chunks.durable_index import DurableIndex
from fs3.drivers.chunks.key_filter import KeyFilter
from fs3.drivers.os.clock import OsClock
from fs3.ports.chunk_store import StoreDamaged
from fs3.sim.conformance.chunk_tools import FILL, PUT, REMOVE, apply, content, noise, stage, update_of


class FakeIndex(DurableIndex):
    """Keys in order, and nothing of a disk."""

    def __init__(self) -> None:
        self.keys: set[ChunkId] = set()

    def scan(self, after: ChunkId | None, step: int = 0):  # type: ignore[no-untyped-def]
        return iter([(key, b"") for key in sorted(self.keys) if after is None or key > after])

    def count_chunks_at_most(self) -> int:
        return len(self.keys)


def chunk(number: int) -> ChunkId:
    return file_chunk(InodeId(1 + number % 5), number)


def test_no_chunk_is_forgotten_while_others_come_and_go() -> None:
    """Ten times as many come as one filter is made for, and nine of ten go again."""
    index, prng = FakeIndex(), Prng(7)
    keys = KeyFilter(index)
    swept = 0
    for number in range(400_000):
        index.keys.add(chunk(number))
        keys.add(chunk(number))
        if prng.below(10):
            index.keys.discard(chunk(number))
        if number % 500 == 0 and keys.needs_sweep:
            keys.sweep()
            swept += 1
        if number % 40_000 == 0:
            assert all(map(keys.may_have, index.keys))
    assert swept > 100
    assert all(map(keys.may_have, index.keys))
    wrong = sum(keys.may_have(chunk(number)) for number in range(1_000_000, 1_010_000))
    assert wrong < 1000, "it says of too many that they may be there"


def test_keys_that_come_while_another_filter_is_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the rows that were looked at already, and before."""
    monkeypatch.setattr(key_filter, "keys_per_sweep_max", 10)
    index = FakeIndex()
    keys = KeyFilter(index)
    number = 0
    while not keys.needs_sweep:
        number += 1
        index.keys.add(chunk(number))
        keys.add(chunk(number))
    some = sorted(index.keys)[:: len(index.keys) // 30]
    index.keys = set(some)
    keys.sweep()
    for late in (file_chunk(InodeId(0), 1), file_chunk(InodeId(9), 1)):
        index.keys.add(late)
        keys.add(late)
    while keys.needs_sweep:
        keys.sweep()
    assert all(map(keys.may_have, index.keys))


async def test_a_store_finds_what_the_filter_was_filled_with_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages come and go with a filter that is full all the time, over a checkpoint and a new opening."""
    monkeypatch.setattr(key_filter, "_BYTES_MIN", 4)
    monkeypatch.setattr(key_filter, "keys_per_sweep_max", 3)
    config = ChunkStoreConfig(row_cache_bytes=2000)
    store = FileChunkStore.open(tmp_path / "target", TargetId(1), OsClock(), config=config)
    there = {}
    for number in range(120):
        there[chunk(number)] = noise(100 + number, number)
        await apply(store, update_of(chunk(number), PUT, 0, there[chunk(number)], seq=number + 1))
        if number % 3 == 0:
            gone = chunk(number // 2)
            if there.pop(gone, None) is not None:
                await apply(store, update_of(gone, REMOVE, seq=number + 1))
        if number == 60:
            await store.checkpoint()
    for key, data in there.items():
        assert await content(store, key) == data
    await store.close()
    store = FileChunkStore.open(tmp_path / "target", TargetId(1), OsClock(), config=config)
    for key, data in there.items():
        assert await content(store, key) == data
    assert (await stage(store, update_of(next(iter(there)), FILL, 0, b"new"), 2)).length == 3
    await store.close()


async def test_rows_that_cannot_be_read_for_another_filter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store says that it has failed; no caller waits for ever."""
    store = FileChunkStore.open(tmp_path / "target", TargetId(1), OsClock())
    await apply(store, update_of(chunk(1), PUT, 0, noise(100)))

    def damaged(_: KeyFilter) -> None:
        raise StoreDamaged("a page of the index is gone")

    monkeypatch.setattr(KeyFilter, "needs_sweep", True)
    monkeypatch.setattr(KeyFilter, "sweep", damaged)
    async with asyncio.timeout(20):
        staged = await stage(store, update_of(chunk(2), PUT, 0, noise(100)))
    assert staged.code is Code.DISK
    assert "a page of the index is gone" in staged.message
    assert await content(store, chunk(1)) == noise(100)
    with contextlib.suppress(FS3Error):
        await store.close()
