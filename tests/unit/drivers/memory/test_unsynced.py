"""What a loss of power may take of the changes in memory: any of them, by itself, that no barrier has covered."""

from __future__ import annotations

from fs3.base.ids import ChunkId, ClientId
from fs3.base.status import Code
from fs3.drivers.memory.chunk_versions import MemoryChunk, MemoryVersion
from fs3.drivers.memory.unsynced import Loss, UnsyncedChanges
from fs3.model.chunk import ChannelKey, ChannelRow, UpdateResult

A, B = ChunkId(b"a" * 16), ChunkId(b"b" * 16)
KEY: ChannelKey = (ClientId(b"c" * 16), 3)


def committed(version: int) -> MemoryChunk:
    return MemoryChunk(MemoryVersion(version, 1, b"%d" % version))


def row(seq: int, chunk: ChunkId) -> ChannelRow:
    return ChannelRow(seq, chunk, UpdateResult(Code.OK))


class Memory:
    """Two chunks that exist, one channel, and their changes."""

    def __init__(self) -> None:
        self.unsynced = UnsyncedChanges()
        self.chunks = {A: committed(1), B: committed(1)}
        self.rows: dict[ChannelKey, ChannelRow] = {}

    def commit(self, chunk: ChunkId, version: int, seq: int) -> None:
        self.unsynced.add_change(chunk, self.chunks[chunk])
        self.unsynced.add_row(chunk, KEY, row(seq, chunk), self.rows.get(KEY))
        self.chunks[chunk] = committed(version)
        self.rows[KEY] = row(seq, chunk)

    def lose(self, *chunks: ChunkId) -> tuple[int, int, int]:
        """(version of A, version of B, seq of the channel) after a loss."""
        found, rows = dict(self.chunks), dict(self.rows)
        self.unsynced.take(Loss(frozenset(chunks)), found, rows)
        return found[A].meta.committed, found[B].meta.committed, rows[KEY].seq if KEY in rows else 0


def test_an_older_commit_is_lost_without_a_newer_one() -> None:
    memory = Memory()
    memory.commit(A, 2, 1)
    memory.commit(B, 2, 2)
    assert memory.lose() == (2, 2, 2)
    assert memory.lose(A) == (1, 2, 2)
    assert memory.lose(B) == (2, 1, 1)
    assert memory.lose(A, B) == (1, 1, 0)


def test_a_barrier_covers_what_was_changed_before_it_began() -> None:
    memory = Memory()
    memory.commit(A, 2, 1)
    mark = memory.unsynced.begin(memory.chunks)
    memory.commit(B, 2, 2)
    memory.commit(A, 3, 3)
    memory.unsynced.end(mark, memory.chunks)
    assert memory.lose(A, B) == (2, 1, 1)
    assert memory.lose(B) == (3, 1, 3)


def test_a_barrier_that_ends_late_takes_nothing_back() -> None:
    memory = Memory()
    memory.commit(A, 2, 1)
    first = memory.unsynced.begin(memory.chunks)
    memory.commit(A, 3, 2)
    second = memory.unsynced.begin(memory.chunks)
    memory.unsynced.end(second, memory.chunks)
    memory.commit(A, 4, 3)
    memory.unsynced.end(first, memory.chunks)
    assert memory.lose(A) == (3, 1, 2)


def test_what_is_settled_by_itself_leaves_the_rest_as_it_is() -> None:
    memory = Memory()
    memory.commit(A, 2, 1)
    memory.commit(B, 2, 2)
    memory.unsynced.settle(A)
    assert memory.lose(A, B) == (2, 1, 1)


def test_a_durable_row_stays_whatever_commits_are_lost() -> None:
    memory = Memory()
    memory.commit(A, 2, 5)
    memory.unsynced.set_durable_row(KEY, row(4, B))
    assert memory.lose(A) == (1, 1, 4)
    assert memory.lose() == (2, 1, 5)
