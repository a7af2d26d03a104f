"""Where a file ends is found exactly, whatever gaps it has, in few rounds."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fs3.base.errors import FS3Error
from fs3.base.ids import ChainId, ChunkId, InodeId, TableId, chunk_file, file_chunk
from fs3.base.limits import file_bytes_max
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.client.storage.file_end import find_file_end
from fs3.client.storage.finds import FindOutcome
from fs3.model.inode import Layout

SIZE = 1 << 16
INODE = InodeId(77)


class Chunks:
    def __init__(self) -> None:
        self.there: dict[tuple[ChunkId, ChainId], int] = {}
        self.rounds = 0
        self.asked = 0

    async def find_next(self, keys: Sequence[tuple[ChunkId, ChainId]], *, timeout_ns: int = 0) -> list[FindOutcome]:
        self.rounds += 1
        self.asked += len(keys)
        answers = []
        for chunk, chain in keys:
            file = chunk_file(chunk)
            assert file is not None
            found = sorted(
                each
                for each, on in self.there
                if on == chain and each >= chunk and chunk_file(each)[0] == file[0]  # type: ignore[index]
            )
            outcome = FindOutcome(Code.NOT_FOUND)
            if found:
                outcome = FindOutcome(Code.OK, self.there[found[0], chain], chunk=found[0])
            answers.append(outcome)
        return answers


def layout(stripe: int) -> Layout:
    return Layout(TableId(1), SIZE, stripe, tuple(ChainId(number) for number in range(1, stripe + 1)))


def run(chunks: Chunks, stripe: int, length: int) -> int:
    try:
        find_file_end(chunks, INODE, layout(stripe), length).send(None)
    except StopIteration as done:
        return int(done.value)
    raise AssertionError("nothing here waits")


@pytest.mark.parametrize("seed", range(200))
def test_the_end_is_that_of_the_last_chunk(seed: int) -> None:
    prng = Prng(seed)
    stripe = 1 + prng.below(9)
    chunks = Chunks()
    ends = [0]
    reach = prng.pick([1, 5, 300, 100_000, file_bytes_max // SIZE - 1])
    for _ in range(prng.below(12)):
        index = prng.below(reach)
        chunks.there[file_chunk(INODE, index), ChainId(index % stripe + 1)] = bytes_in = 1 + prng.below(SIZE)
        ends.append(index * SIZE + bytes_in)
    # Neighbours, and a chunk where none belongs, are not the file's.
    chunks.there[file_chunk(InodeId(76), 5), ChainId(1)] = SIZE
    chunks.there[file_chunk(InodeId(78), 5), ChainId(1)] = SIZE
    if stripe > 1:
        chunks.there[file_chunk(INODE, 7 * stripe + 1), ChainId(1)] = SIZE
    length = prng.pick([0, 0, prng.below(reach * SIZE), max(ends), max(ends) + 1])
    last = {}
    for (chunk, chain), bytes_in in chunks.there.items():
        file, index = chunk_file(chunk)  # type: ignore[misc]
        if file == INODE and chain == index % stripe + 1:
            last[index] = bytes_in
    expected = max([length, *(index * SIZE + last[index] for index in last)])
    assert run(chunks, stripe, length) == expected
    assert chunks.rounds < 120


def test_a_file_whose_length_is_right_costs_one_round() -> None:
    chunks = Chunks()
    for index in range(100):
        chunks.there[file_chunk(INODE, index), ChainId(index % 4 + 1)] = SIZE
    assert run(chunks, 4, 100 * SIZE) == 100 * SIZE
    assert (chunks.rounds, chunks.asked) == (1, 4)


async def test_a_chain_that_does_not_answer_is_named() -> None:
    class Unserved:
        async def find_next(self, keys: Sequence[tuple[ChunkId, ChainId]], *, timeout_ns: int = 0) -> list[FindOutcome]:
            return [FindOutcome(Code.NOT_SERVING, message="nobody serves") for _ in keys]

    with pytest.raises(FS3Error, match="chain 1 does not tell where inode 77 ends: nobody serves"):
        await find_file_end(Unserved(), INODE, layout(2), 0)
