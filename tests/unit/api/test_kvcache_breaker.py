"""What did not answer is left out, asked about beside the calls, and trusted again when it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import pytest

from fs3.api.kvcache import breaker
from fs3.api.kvcache.breaker import GuardedStorage
from fs3.base.ids import ChainId, ChunkId
from fs3.base.status import Code
from fs3.client.storage.client import StorageClient
from fs3.client.storage.finds import FindOutcome
from fs3.client.storage.presence import ChunkPresence
from fs3.client.storage.reads import ReadOutcome
from fs3.core.files.read_plan import ReadIO

LEFT, RIGHT = ChainId(1), ChainId(2)


class Chains:
    """Storage of which some chains do not answer."""

    def __init__(self) -> None:
        self.silent: set[ChainId] = set()
        self.asked: list[ChainId] = []
        self.probes = 0

    async def find(self, keys: Sequence[tuple[ChunkId, ChainId]], *, timeout_ns: int) -> list[FindOutcome]:
        self.probes += 1
        return [FindOutcome(self.answer(chain)) for _, chain in keys]

    async def read(self, ios: Sequence[ReadIO], *, timeout_ns: int, is_use: bool = True) -> list[ReadOutcome]:
        self.asked += [io.chain for io in ios]
        return [ReadOutcome(self.answer(io.chain)) for io in ios]

    async def contains(
        self, chunks: Sequence[ChunkId], places: Sequence[int], chains: Sequence[ChainId], *, timeout_ns: int
    ) -> ChunkPresence:
        assert len(chunks) == len(places)
        self.asked += [chains[place] for place in places]
        silent = [index for index, place in enumerate(places) if chains[place] in self.silent]
        return ChunkPresence([0 if index in silent else 7 for index in range(len(chunks))], dict.fromkeys(silent, Code.DEADLINE))

    def answer(self, chain: ChainId) -> Code:
        return Code.DEADLINE if chain in self.silent else Code.NOT_FOUND


class Loop(asyncio.SelectorEventLoop):
    """Its time is what the test says."""

    seconds = 0.0

    def time(self) -> float:
        return self.seconds


@pytest.fixture
def chains() -> Chains:
    return Chains()


async def read(storage: GuardedStorage, *wanted: ChainId) -> list[Code]:
    ios = [ReadIO(ChunkId(bytes(20)), chain, 0, memoryview(bytearray(1))) for chain in wanted]
    return [outcome.code for outcome in await storage.read(ios, timeout_ns=1)]


def test_a_chain_that_fails_is_left_out_until_a_probe_succeeds(chains: Chains) -> None:
    loop = Loop()

    async def story() -> None:
        storage = GuardedStorage(cast(StorageClient, chains))
        assert await read(storage, LEFT, RIGHT) == [Code.NOT_FOUND] * 2
        chains.silent = {LEFT}
        assert await read(storage, LEFT, RIGHT) == [Code.DEADLINE, Code.NOT_FOUND]
        chains.asked.clear()
        for _ in range(10):
            assert await read(storage, LEFT, RIGHT) == [Code.UNAVAILABLE, Code.NOT_FOUND]
        assert set(chains.asked) == {RIGHT}
        assert (storage.left_out, chains.probes) == ([LEFT], 0)
        loop.seconds += 1.1
        await settle(storage)
        assert (storage.left_out, chains.probes) == ([LEFT], 1), "it was asked, once, and does not answer"
        chains.silent = set()
        await settle(storage)
        assert chains.probes == 1, "not before its time"
        loop.seconds += 1.1
        await settle(storage)
        assert storage.left_out == []
        assert await read(storage, LEFT) == [Code.NOT_FOUND]

    async def settle(storage: GuardedStorage) -> None:
        for _ in range(5):
            await read(storage, LEFT)

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(story())


def test_lookups_leave_out_what_does_not_answer(chains: Chains) -> None:
    async def story() -> None:
        storage = GuardedStorage(cast(StorageClient, chains))
        chunks, places = [ChunkId(bytes([number] * 16)) for number in range(4)], [0, 1, 1, 0]
        chains.silent = {LEFT}
        for expected in (Code.DEADLINE, Code.UNAVAILABLE):
            found = await storage.contains(chunks, places, [LEFT, RIGHT], timeout_ns=1)
            assert found == ([0, 7, 7, 0], {0: expected, 3: expected})
        assert chains.asked == [LEFT, RIGHT, RIGHT, LEFT, RIGHT, RIGHT]
        assert storage.left_out == [LEFT]

    asyncio.run(story())


def test_one_that_answers_probes_and_nothing_else_is_asked_ever_less(chains: Chains) -> None:
    loop = Loop()
    waits: list[float] = []

    async def story() -> None:
        storage = GuardedStorage(cast(StorageClient, chains))
        for _ in range(10):
            chains.silent = {LEFT}
            assert await read(storage, LEFT) == [Code.DEADLINE]
            chains.silent = set()
            begun = loop.seconds
            while storage.left_out:
                loop.seconds += 0.5
                for _ in range(3):
                    if storage.left_out:
                        await read(storage, LEFT)
            waits.append(loop.seconds - begun)
        assert await read(storage, LEFT) == [Code.NOT_FOUND]
        chains.silent = {LEFT}
        assert await read(storage, LEFT) == [Code.DEADLINE]

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(story())
    assert waits[0] <= 1.5
    assert all(later >= earlier for earlier, later in pairwise(waits))
    assert waits[-1] >= breaker.probe_interval_ns_max / 1e9


def test_a_chain_is_judged_by_what_it_answered_at_all(chains: Chains) -> None:
    """One key of many that fails says nothing of the chain."""

    class Some(Chains):
        def answer(self, chain: ChainId) -> Code:
            self.probes += 1
            return Code.DEADLINE if self.probes == 1 else Code.NOT_FOUND

    async def story() -> None:
        storage = GuardedStorage(cast(StorageClient, Some()))
        assert await read(storage, LEFT, LEFT) == [Code.DEADLINE, Code.NOT_FOUND]
        assert storage.left_out == []

    asyncio.run(story())
