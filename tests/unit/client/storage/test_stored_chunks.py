"""Which chunks there are in a range, of files that are nearly all hole or nearly all data."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fs3.base.errors import FS3Error
from fs3.base.ids import ChainId, ChunkId, InodeId, TableId, chunk_file, file_chunk
from fs3.base.status import Code
from fs3.client.storage import stored_chunks as module
from fs3.client.storage.finds import FindOutcome
from fs3.client.storage.stored_chunks import stored_chunks
from fs3.model.inode import Layout

FILE = InodeId(7)
LAYOUT = Layout(TableId(1), 1 << 16, 3, (ChainId(1), ChainId(2), ChainId(3)))

Keys = Sequence[tuple[ChunkId, ChainId]]


class Chunks:
    """What storage has of one file: index -> length."""

    def __init__(self, there: dict[int, int]) -> None:
        self.there = there
        self.rounds = 0
        self.failing: ChainId | None = None
        self.answers_of = FILE

    async def find(self, keys: Keys, *, timeout_ns: int = 0) -> list[FindOutcome]:
        self.rounds += 1
        return [self._outcome(self._index(chunk), chain) for chunk, chain in keys]

    async def find_next(self, keys: Keys, *, timeout_ns: int = 0) -> list[FindOutcome]:
        self.rounds += 1
        answers = []
        for chunk, chain in keys:
            first = self._index(chunk)
            behind = [index for index in sorted(self.there) if index >= first and LAYOUT.chains[index % 3] == chain]
            answers.append(self._outcome(behind[0] if behind else -1, chain))
        return answers

    def _index(self, chunk: ChunkId) -> int:
        found = chunk_file(chunk)
        assert found is not None
        return found[1]

    def _outcome(self, index: int, chain: ChainId) -> FindOutcome:
        if chain == self.failing:
            return FindOutcome(Code.NOT_SERVING, message="it is down")
        if index not in self.there:
            return FindOutcome(Code.NOT_FOUND)
        return FindOutcome(Code.OK, self.there[index], chunk=file_chunk(self.answers_of, index))


async def look(chunks: Chunks, first: int, end: int) -> list[tuple[int, int]]:
    return [(one.index, one.length) async for page in stored_chunks(chunks, FILE, LAYOUT, first, end) for one in page]


async def test_a_dense_range_takes_two_rounds_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "chunks_per_page_max", 10)
    chunks = Chunks({index: index + 1 for index in range(25)})
    assert await look(chunks, 0, 25) == [(index, index + 1) for index in range(25)]
    assert chunks.rounds == 6
    assert await look(chunks, 3, 5) == [(3, 4), (4, 5)]
    assert await look(chunks, 5, 5) == []


async def test_a_hole_of_any_size_takes_one() -> None:
    chunks = Chunks({1 << 40: 5, (1 << 40) + 2: 6})
    assert await look(chunks, 0, 1 << 43) == [(1 << 40, 5), ((1 << 40) + 2, 6)]
    assert chunks.rounds == 3
    assert await look(chunks, 0, 1 << 40) == []
    assert await look(chunks, (1 << 40) + 1, 1 << 43) == [((1 << 40) + 2, 6)]


async def test_a_chain_that_does_not_answer_is_said() -> None:
    chunks = Chunks({0: 5})
    chunks.failing = ChainId(2)
    with pytest.raises(FS3Error, match="chain 2 does not tell") as caught:
        await look(chunks, 0, 10)
    assert caught.value.code is Code.NOT_SERVING


async def test_the_chunk_of_another_file_is_refused() -> None:
    chunks = Chunks({0: 5})
    chunks.answers_of = InodeId(8)
    with pytest.raises(FS3Error, match="answered with another"):
        await look(chunks, 0, 10)
