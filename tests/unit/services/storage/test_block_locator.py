"""LocateBlocks: what is told of a block is of one moment, and refused where it may not be told."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Iterable
from typing import Any

import pytest

from fs3.base.errors import error
from fs3.base.ids import ChainId, ChunkId, InodeId, NodeId, TargetId, file_chunk, page_chunk
from fs3.base.limits import blocks_per_locate_max
from fs3.base.status import Code
from fs3.core.craq.change_board import BOARD_WORDS, TARGETS_MAX, WORD_BYTES, BoardReader, OwnerMark, slot_of
from fs3.core.security.revocations import Revocations
from fs3.core.security.seal import KeyRing
from fs3.core.security.state import SecurityState
from fs3.model.chain import Chain, PublicState, Slot
from fs3.model.chunk import ChunkMeta
from fs3.ports.chunk_store import BlockPlace, StoreDamaged
from fs3.services.storage import block_locator
from fs3.services.storage.block_locator import BlockLocator
from fs3.services.storage.config import StorageConfig
from fs3.services.storage.target_gate import TargetGate
from fs3.services.storage.target_map import TargetMap
from fs3.sim.ring2.host_files import SimHostFiles
from fs3.wire.storage_locate import Located, LocatedBlock, locate_reply_from_pb, locate_request_to_pb

A, B, C = (file_chunk(InodeId(5), index) for index in range(3))
SUMS = array("q", [1, -1])
TARGET, BEHIND = TargetId(101), TargetId(102)


def meta(committed: int = 1, pending: int = 0) -> ChunkMeta:
    return ChunkMeta(committed, pending, 3, 5000, 0)


def place(version: int = 1, length: int = 5000, sums: array[int] = SUMS) -> BlockPlace:
    return BlockPlace("/1/blocks", 4096, length, version, sums)


def chain_of(version: int = 3, *, is_head: bool = False) -> Chain:
    slots = [Slot(TARGET, NodeId(1), PublicState.SERVING), Slot(BEHIND, NodeId(2), PublicState.SERVING)]
    return Chain(ChainId(1), version, tuple(slots if is_head else slots[::-1]))


class Store:
    """What is asked of a chunk store."""

    def __init__(self) -> None:
        self.owner_mark: OwnerMark | None = OwnerMark("/1/owner", b"1 a\n")
        self.on_change: Any = None
        self.bad_chunks: dict[ChunkId, str] = {}
        self.rows: dict[ChunkId, ChunkMeta] = {A: meta(), B: meta(), C: meta()}
        self.places: dict[ChunkId, BlockPlace | None] = dict.fromkeys((A, B, C), place())
        self.failure: Exception | None = None

    def get(self, chunk: ChunkId) -> ChunkMeta | None:
        return self.rows.get(chunk)

    def locate_block(self, chunk: ChunkId) -> BlockPlace | None:
        if self.failure is not None:
            raise self.failure
        return self.places.get(chunk)


class Shell:
    """A target."""

    def __init__(self, context: Made) -> None:
        self.target, self.store, self.chain = TARGET, Store(), chain_of()
        self.gate = TargetGate(TARGET, self.store, context)  # type: ignore[arg-type]
        self.gate.set_chain(self.chain)

    def read_gate(self, chain_version: int, now: int) -> tuple[Code, bool]:
        return self.gate.answer(chain_version, now)


class FakeCall:
    """A request, and what has become of it."""

    def __init__(self, request: Any) -> None:
        self.request = request
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def reply(self, message: Any) -> None:
        self.answer.set_result(message)

    def fail(self, code: Code, message: str, routing_version: int = 0) -> None:
        self.answer.set_result(code)


class Files(SimHostFiles):
    """Counts the memory that was made; may have none."""

    def __init__(self) -> None:
        super().__init__()
        self.made = 0
        self.has_memory = True

    def create_memory(self, nbytes: int) -> Any:
        self.made += 1
        if not self.has_memory:
            raise error(Code.UNSUPPORTED, "there is none")
        return super().create_memory(nbytes)


class Made:
    """A locator and its node."""

    routing_version = 9

    def __init__(self) -> None:
        self.config = StorageConfig()
        self.time = 0
        self.lease = 1000
        self.clock = self
        self.files = Files()
        self.shell = Shell(self)
        self.targets = TargetMap()
        self.targets.add(self.shell)  # type: ignore[arg-type]
        self.security = SecurityState()
        self.locator = BlockLocator(self.targets, self, self.files, self, self.security)  # type: ignore[arg-type]

    def now(self) -> int:
        return self.time

    def lease_until(self, target: TargetId) -> int:
        return self.lease

    def draw_token(self) -> bytes:
        return b"\xff" * 8

    def ask(self, chunks: Iterable[ChunkId] = (A,), chain: int = 1, version: int = 3) -> FakeCall:
        call = FakeCall(locate_request_to_pb([(chunk, ChainId(chain), version) for chunk in chunks]))
        self.locator.locate(call)  # type: ignore[arg-type]
        return call

    async def locate(self, *chunks: ChunkId, chain: int = 1, version: int = 3) -> Located | Code:
        """The answer, as it arrives."""
        answer = await self.ask(chunks, chain, version).answer
        return answer if isinstance(answer, Code) else locate_reply_from_pb(answer, len(chunks))

    async def one(self, chunk: ChunkId = A, chain: int = 1, version: int = 3) -> Any:
        """What is told of one chunk."""
        found = await self.locate(chunk, chain=chain, version=version)
        assert isinstance(found, Located)
        return found.blocks[0]

    def reader(self, located: Located) -> BoardReader:
        """Of the board that an answer names."""
        return BoardReader(self.files.open_memory(located.board, BOARD_WORDS * WORD_BYTES).cast("Q"), located.token)


@pytest.fixture
async def made() -> Made:
    return Made()


async def test_all_that_a_reader_needs(made: Made) -> None:
    made.shell.store.places[B] = place(7, 100, array("q", [9]))
    found = await made.locate(A, B)
    assert isinstance(found, Located)
    reader = made.reader(found)
    (target,) = found.targets
    assert target.mark == made.shell.store.owner_mark
    assert found.clock_space == made.files.clock_space
    assert found.blocks == [
        LocatedBlock(0, slot_of(A), 0, "/1/blocks", 4096, 5000, 1, SUMS),
        LocatedBlock(0, slot_of(B), 0, "/1/blocks", 4096, 100, 7, array("q", [9])),
    ]
    assert reader.serves(target.gate, 999)
    assert made.locator.located == 2
    made.shell.store.on_change(A)
    assert reader.words[slot_of(A)] == 1
    assert (await made.one(A)).changes == 1


async def test_nothing_is_made_before_one_asks_and_one_board_is_for_all(made: Made) -> None:
    assert made.files.made == 0
    assert made.shell.store.on_change is None
    first, second = await made.locate(A), await made.locate(B)
    assert isinstance(first, Located)
    assert isinstance(second, Located)
    assert (first.board, first.token) == (second.board, second.token)
    assert made.files.made == 1


async def test_a_node_that_shares_nothing_says_so(made: Made) -> None:
    made.config = StorageConfig(short_circuit=False)
    assert await made.locate(A) is Code.UNSUPPORTED
    assert made.files.made == 0
    made.config = StorageConfig()
    made.files.has_memory = False
    assert await made.locate(A) is Code.UNSUPPORTED
    assert await made.locate(A) is Code.UNSUPPORTED
    assert made.files.made == 1, "it is tried once"
    alone = BlockLocator(made.targets, made, None, made, made.security)  # type: ignore[arg-type]
    call = FakeCall(locate_request_to_pb([(A, ChainId(1), 3)]))
    alone.locate(call)  # type: ignore[arg-type]
    assert await call.answer is Code.UNSUPPORTED


@pytest.mark.parametrize("why", ["config", "security"])
async def test_a_node_that_stops_to_share_voids_what_it_has_told(made: Made, why: str) -> None:
    found = await made.locate(A)
    assert isinstance(found, Located)
    reader, (target,) = made.reader(found), found.targets
    made.locator.look_again()
    assert reader.serves(target.gate, 0), "nothing is another"
    if why == "config":
        made.config = StorageConfig(short_circuit=False)
        made.locator.look_again()
    else:
        made.security.update(is_on=True, ring=KeyRing(bytes(16), {1: bytes(32)}, 1), revoked=Revocations())
    assert not reader.serves(target.gate, 0)
    assert made.shell.store.on_change is None
    assert await made.locate(A) is Code.UNSUPPORTED
    if why == "config":
        made.config = StorageConfig()
        made.locator.look_again()
        again = await made.locate(A)
        assert isinstance(again, Located)
        assert reader.serves(again.targets[0].gate, 0)
        assert not reader.serves(target.gate, 0)


async def test_a_request_that_makes_no_sense_is_refused(made: Made) -> None:
    call = FakeCall(locate_request_to_pb([(A, ChainId(1), 3)]))
    call.request.chunks = b"x"
    made.locator.locate(call)  # type: ignore[arg-type]
    assert await call.answer is Code.INVALID


async def test_what_is_refused_of_a_chunk(made: Made) -> None:
    store = made.shell.store
    assert await made.one(A, chain=2) is Code.NO_SUCH_TARGET
    assert await made.one(page_chunk(5, bytes(12))) is Code.UNSUPPORTED
    assert await made.one(A, version=2) is Code.WRONG_CHAIN_VERSION
    assert await made.one(A, version=4) is Code.WRONG_CHAIN_VERSION
    store.places[A] = None
    assert await made.one(A) is Code.NOT_FOUND, "its bytes are in no file"
    store.places[A] = place(length=0, sums=array("q"))
    assert await made.one(A) is Code.NOT_FOUND, "it is empty"
    del store.rows[A]
    assert await made.one(A) is Code.NOT_FOUND
    store.bad_chunks[B] = "it is"
    assert await made.one(B) is Code.CHECKSUM
    made.time = 1000
    assert await made.one(C) is Code.LEASE
    made.time = 0
    assert isinstance(await made.one(C), LocatedBlock)
    store.owner_mark = None
    assert await made.one(C) is Code.UNSUPPORTED


async def test_a_board_without_room_for_the_target(made: Made) -> None:
    await made.one(A)
    board = made.locator._board
    assert board is not None
    made.shell.gate.part()
    for _ in range(TARGETS_MAX):
        board.add_target()
    assert await made.one(A) is Code.UNSUPPORTED


async def test_a_pending_version_counts_by_the_place_in_the_chain(made: Made) -> None:
    made.shell.store.rows[A] = meta(1, 2)
    assert isinstance(await made.one(A), LocatedBlock), "at the tail: no target could have shown it"
    made.shell.gate.set_chain(chain_of(is_head=True))
    assert await made.one(A) is Code.DIRTY
    made.shell.store.rows[A] = meta(2)
    assert isinstance(await made.one(A), LocatedBlock)


@pytest.mark.parametrize("end", ["withdrawn", "closed"])
async def test_a_target_that_serves_no_more_tells_nothing(made: Made, end: str) -> None:
    assert isinstance(await made.one(A), LocatedBlock)
    if end == "withdrawn":
        made.shell.gate.set_chain(None)
    else:
        made.shell.gate.close()
    assert await made.one(A) is Code.NOT_SERVING


async def test_what_the_gate_learns_by_being_asked_is_in_the_epoch_that_is_told(made: Made) -> None:
    """A chain that was applied since the last event is shown when a read asks for it."""
    first = await made.locate(A)
    assert isinstance(first, Located)
    real = made.shell.read_gate

    def read_gate(chain_version: int, now: int) -> tuple[Code, bool]:
        made.shell.gate.set_chain(newer)
        return real(chain_version, now)

    newer = chain_of(4)
    made.shell.read_gate = read_gate  # type: ignore[method-assign]
    found = await made.locate(A, B, version=4)
    assert isinstance(found, Located)
    reader, (target,) = made.reader(found), found.targets
    assert reader.serves(target.gate, 0)
    assert not reader.serves(first.targets[0].gate, 0)
    assert [isinstance(block, LocatedBlock) for block in found.blocks] == [True, True]


async def test_sums_of_one_answer_are_bounded(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_locator, "located_sums_bytes_max", 12)
    found = await made.locate(A, B, C)
    assert isinstance(found, Located)
    assert [isinstance(block, LocatedBlock) for block in found.blocks] == [True, True, False]
    assert found.blocks[2] is Code.BUSY


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (StoreDamaged("a row makes no sense", "/1"), Code.CHECKSUM),
        (error(Code.SHUTTING_DOWN, "closed"), Code.SHUTTING_DOWN),
    ],
)
async def test_a_store_that_fails_fails_the_request(made: Made, failure: Exception, code: Code) -> None:
    made.shell.store.failure = failure
    assert await made.locate(A) is code
    made.shell.store.failure = None
    assert isinstance(await made.one(A), LocatedBlock)


async def test_a_whole_request(made: Made) -> None:
    chunks = [file_chunk(InodeId(6), index) for index in range(blocks_per_locate_max)]
    for chunk in chunks:
        made.shell.store.rows[chunk], made.shell.store.places[chunk] = meta(), place()
    found = await made.locate(*chunks)
    assert isinstance(found, Located)
    assert [block.slot for block in found.blocks if isinstance(block, LocatedBlock)] == list(map(slot_of, chunks))
    assert len(found.targets) == 1


async def test_after_the_end_nothing_is_told_and_the_board_is_not_found(made: Made) -> None:
    found = await made.locate(A)
    assert isinstance(found, Located)
    made.locator.stop()
    with pytest.raises(OSError, match="no such memory"):
        made.reader(found)
    assert await made.locate(A) is Code.UNSUPPORTED
    made.locator.stop()
