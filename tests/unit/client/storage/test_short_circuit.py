"""Reads from the files of a node on this host: only what the node would say as well, and everything else is asked for."""

from __future__ import annotations

import asyncio
import weakref
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from msgspec import structs

from fs3.base.checksum import PIECE_BYTES, checksums
from fs3.base.errors import error
from fs3.base.ids import ChainId, ChunkId, InodeId, NodeId, TargetId, file_chunk, page_chunk
from fs3.base.limits import blocks_per_locate_max, small_read_bytes
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.client.connector import Connector
from fs3.client.routing import StaticRouting
from fs3.client.storage import short_circuit
from fs3.client.storage.reads import ReadOutcome
from fs3.client.storage.router import ReplicaRouter
from fs3.client.storage.short_circuit import ShortCircuit, refused_pause_ns, refused_reads
from fs3.core.craq.change_board import BOARD_WORDS, WORD_BYTES, ChangeBoard, OwnerMark, slot_of
from fs3.core.files.read_plan import ReadIO
from fs3.core.files.replica_selector import ReplicaSelector
from fs3.model.chain import Chain, PublicState, Slot
from fs3.model.routing import Node, Role, Routing
from fs3.ports.rpc import Reply
from fs3.sim.conformance.chunk_tools import noise
from fs3.sim.ring2.host_files import SimFile, SimHostFiles
from fs3.wire.methods import STORAGE
from fs3.wire.storage_locate import Located, LocatedBlock, LocatedTarget, locate_reply_to_pb, locate_request_from_pb

DATA = noise(100_000)
A, B, C = (file_chunk(InodeId(5), index) for index in range(3))
ONE, FAR = ChainId(1), ChainId(9)
HERE, ELSEWHERE = NodeId(1), NodeId(2)
MARK = b"1 abc\n"
READS = 4


def routing_of(version: int = 1, chain_version: int = 3, host: str = "here", chains: int = 3) -> Routing:
    """Chains of node 1, which is on `host`, and one of node 2 alone, which is elsewhere."""
    nodes = {
        number: Node(number, f"s{number}", Role.STORAGE, (f"test://{number}",), where, 1, True)
        for number, where in ((HERE, host), (ELSEWHERE, "elsewhere"))
    }
    slots = [Slot(TargetId(1), HERE, PublicState.SERVING), Slot(TargetId(2), ELSEWHERE, PublicState.SERVING)]
    known = {ChainId(n): Chain(ChainId(n), chain_version, tuple(slots)) for n in range(1, chains + 1)}
    known[FAR] = Chain(FAR, chain_version, tuple(slots[1:]))
    return Routing(b"c", version, nodes, known, {})


class File(SimFile):
    """A file that may be cold."""

    is_cold = False

    def read_at_once(self, view: memoryview, offset: int) -> bool:
        return not self.is_cold and super().read_at_once(view, offset)


class Files(SimHostFiles):
    """Files of the host. Each opening is an object of its own, which tells when it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, File] = {}
        self.open: weakref.WeakSet[Any] = weakref.WeakSet()
        self.openings = 0

    def open_file(self, path: str) -> Any:
        if path not in self.known:
            raise FileNotFoundError(2, "there is none", path)
        self.openings += 1
        opened = Opened(self.known[path])
        self.open.add(opened)
        return opened


class Opened:
    """A file that was opened."""

    def __init__(self, file: File) -> None:
        self.read_at_once, self.still_says = file.read_at_once, file.still_says


class FakeNode:
    """A node on this host, with a real board."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.requests: list[list[ChunkId]] = []
        self.refusal: Exception | None = None
        self.codes: dict[ChunkId, Code] = {}
        self.unknown: set[int] = set()
        """Pieces of all chunks whose sums the node does not know."""
        self.chain_version = 3
        self.chunks = dict.fromkeys((A, B, C), DATA)
        self.path: Callable[[ChunkId], str] = lambda chunk: "/1/blocks"
        self.rows: dict[int, int] = {}
        self.before_answer: Callable[[], None] = lambda: None
        self.clock_space = files.clock_space
        self.start()

    def start(self, token: int = 77) -> None:
        """A process of it."""
        self.memory = self.files.create_memory(BOARD_WORDS * WORD_BYTES)
        self.board = ChangeBoard(self.memory.view.cast("Q"), token)
        self.rows = {}
        self.content = MARK if token == 77 else b"%d abc\n" % token

    def row(self, chain: int) -> int:
        """Of the target of a chain: it serves for ever."""
        if chain not in self.rows:
            row = self.board.add_target()
            assert row is not None
            self.rows[chain] = row
            self.board.extend(row, 1 << 62)
            self.files.known.setdefault(f"/{chain}/owner", File()).content = self.content
        return self.rows[chain]

    def locate(self, message: Any) -> Any:
        """LocateBlocks."""
        columns = locate_request_from_pb(message)
        self.requests.append([ChunkId(chunk) for chunk in columns.chunks])
        self.before_answer()
        if self.refusal is not None:
            raise self.refusal
        targets: list[LocatedTarget] = []
        blocks: list[LocatedBlock | Code] = []
        for each, chain, version in zip(*columns, strict=True):
            chunk = ChunkId(each)
            data = self.chunks.get(chunk)
            if data is None or version != self.chain_version or chunk in self.codes:
                blocks.append(self.codes.get(chunk, Code.NOT_FOUND if data is None else Code.WRONG_CHAIN_VERSION))
                continue
            told = LocatedTarget(self.board.gate(self.row(chain)), OwnerMark(f"/{chain}/owner", self.content))
            if told not in targets:
                targets.append(told)
            path, slot = self.path(chunk), slot_of(chunk)
            file = self.files.known.setdefault(path, File())
            offset = len(file.content)
            file.content += data
            sums = array("q", checksums(memoryview(data), 0, PIECE_BYTES))
            for piece in self.unknown & set(range(len(sums))):
                sums[piece] = -1
            blocks.append(LocatedBlock(targets.index(told), slot, self.board.changes(slot), path, offset, len(data), 8, sums))
        located = Located(self.memory.path, self.board.token, self.clock_space, targets, blocks)
        return locate_reply_to_pb(located, routing_version=1)


class Channel:
    """A connection to it."""

    def __init__(self, node: FakeNode) -> None:
        self._node = node

    async def call(self, method: Any, message: Any, timeout_ns: int = 0) -> Reply:
        assert method is STORAGE.LocateBlocks
        assert timeout_ns > 0
        await asyncio.sleep(0)
        return Reply(self._node.locate(message), None)

    async def close(self) -> None: ...


class Made:
    """A client, and the node on its host."""

    scheme = "test"

    def __init__(self, routing: Routing | None = None) -> None:
        self.time = 100 * SECOND
        self.files = Files()
        self.node = FakeNode(self.files)
        self.source = StaticRouting(routing or routing_of())
        self.router = ReplicaRouter(self.source, Connector([self], "here"), self, "here", 1)  # type: ignore[list-item]
        self.short = ShortCircuit(self.router, self, self.files)
        self.source.on_change(lambda _: self.short.on_routing_changed())
        self.short.on_routing_changed()
        self.meet_chains()

    def now(self) -> int:
        return self.time

    def connect(self, endpoint: str) -> Channel:
        assert endpoint == "test://1", "only the node on this host is asked"
        return Channel(self.node)

    def meet_chains(self) -> None:
        """Reads have been asked for."""
        for chain in self.source.routing.chains:
            self.router.candidates(chain)

    def set_routing(self, routing: Routing) -> None:
        self.source.set(routing)
        self.meet_chains()

    def read(self, *ranges: tuple[ChunkId, int, int], chain: ChainId = ONE) -> list[bytes | None]:
        """Bytes of each (chunk, offset, length) that is read; None: it is to be asked for."""
        ios = [ReadIO(chunk, chain, offset, memoryview(bytearray(length))) for chunk, offset, length in ranges]
        found = self.short.read(ios)
        for outcome in found:
            assert outcome is None or (outcome.code, outcome.version) == (Code.OK, 8)
        return [None if end is None else bytes(io.buffer[: end.length]) for io, end in zip(ios, found, strict=True)]

    def one(self, chunk: ChunkId = A, offset: int = 0, length: int = PIECE_BYTES, chain: ChainId = ONE) -> bytes | None:
        (found,) = self.read((chunk, offset, length), chain=chain)
        return found

    async def settle(self) -> None:
        """What is to be asked is asked and answered."""
        for _ in range(3):
            await asyncio.sleep(0)
        await self.short._tasks.join()

    async def learn(self, *chunks: ChunkId, chain: ChainId = ONE) -> None:
        """Read them by asking until they have been asked for."""
        for _ in range(READS):
            for chunk in chunks:
                assert self.one(chunk, chain=chain) is None
        await self.settle()


@pytest.fixture
async def made() -> Any:
    made = Made()
    yield made
    await made.short.close()
    made.router.close()


# --- what is read ------------------------------------------------------------------------------------------------------


async def test_a_chunk_is_asked_for_after_some_reads_and_then_read(made: Made) -> None:
    for _ in range(READS - 1):
        assert made.read((A, 0, 4096), (B, 0, 4096)) == [None, None]
        await made.settle()
    assert made.node.requests == []
    assert made.one(A) is None
    await made.settle()
    assert made.node.requests == [[A]]
    assert made.read((A, 0, 4096), (A, 8192, 100)) == [DATA[:4096], DATA[8192:8292]]
    assert made.one(B) is None
    await made.settle()
    assert made.node.requests == [[A], [B]]
    assert made.read((B, 4096, 10), (C, 0, 10), (A, 0, 10)) == [DATA[4096:4106], None, DATA[:10]]
    assert (made.short.reads, made.short.bytes) == (4, 4096 + 100 + 10 + 10)


EDGES = (0, 1, 4095, 4096, 4097, 8192, 20_000, 65_536, 98_303, 98_304, 98_305, 99_999)


@pytest.mark.parametrize("offset", EDGES)
async def test_any_range_below_the_limit(made: Made, offset: int) -> None:
    await made.learn(A)
    for length in (1, 10, 4095, 4096, 4097, 8192, 12_345, 65_535):
        assert made.one(A, offset, length) == DATA[offset : offset + length]


async def test_what_lies_behind_the_end_is_not_there(made: Made) -> None:
    await made.learn(A)
    assert made.one(A, 99_990, 100) == DATA[99_990:]
    assert made.one(A, 40_000, 80_000) == DATA[40_000:], "there is less than the limit"
    for offset in (100_000, 100_001, 1 << 30):
        assert made.one(A, offset, 100) is None
    assert made.one(A, 0, 0) is None


async def test_long_ranges_are_asked_for_and_make_none_asked_for(made: Made) -> None:
    for _ in range(3 * READS):
        assert made.one(A, 0, small_read_bytes) is None
    await made.settle()
    assert made.node.requests == []
    await made.learn(A)
    assert made.one(A, 0, small_read_bytes) is None
    assert made.one(A, 0, small_read_bytes - 1) == DATA[: small_read_bytes - 1]


async def test_buffers_in_parts_are_asked_for(made: Made) -> None:
    def read() -> Sequence[ReadOutcome | None]:
        return made.short.read([ReadIO(A, ONE, 0, (memoryview(bytearray(10)), memoryview(bytearray(10))))])

    for _ in range(3 * READS):
        assert read() == [None]
    await made.settle()
    assert made.node.requests == []
    await made.learn(A)
    assert read() == [None]


async def test_pages_are_always_asked_for(made: Made) -> None:
    page = page_chunk(5, bytes(12))
    made.node.chunks[page] = DATA
    for _ in range(3 * READS):
        assert made.one(page) is None
    await made.settle()
    assert made.node.requests == []


async def test_a_chunk_of_which_nothing_is_told_goes_on_by_asking(made: Made) -> None:
    made.node.codes[A] = Code.DIRTY
    await made.learn(A, B)
    assert made.one(B) == DATA[:4096]
    del made.node.codes[A]
    for _ in range(refused_reads):
        assert made.one(A) is None
    await made.settle()
    assert made.node.requests == [[A, B]], "for a while it is not asked for again"
    await made.learn(A)
    assert made.node.requests == [[A, B], [A]]
    assert made.one(A) == DATA[:4096]


# --- what is not read any more -----------------------------------------------------------------------------------------


async def test_a_chunk_that_has_changed_is_asked_for_anew(made: Made) -> None:
    await made.learn(A, B)
    made.node.board.count_change(A)
    assert made.read((A, 0, 10), (B, 0, 10)) == [None, DATA[:10]]
    made.node.chunks[A] = noise(50_000, 5)
    for _ in range(READS):
        assert made.one(A) is None
    await made.settle()
    assert made.one(A) == noise(50_000, 5)[:4096]


async def test_a_lease_that_has_ended_is_not_believed(made: Made) -> None:
    await made.learn(A)
    row = made.node.rows[1]
    made.node.board.extend(row, made.time + 5)
    made.time += 4
    assert made.one(A) == DATA[:4096]
    made.time += 1
    assert made.one(A) is None
    made.node.board.extend(row, 1 << 62)
    await made.learn(A)
    assert made.one(A) == DATA[:4096]


@pytest.mark.parametrize("what", ["epoch", "mark", "no mark", "removed"])
async def test_what_voids_a_target_voids_its_blocks_and_no_others(made: Made, what: str) -> None:
    await made.learn(A)
    await made.learn(B, chain=ChainId(2))
    match what:
        case "epoch":
            made.node.board.begin_epoch(made.node.rows[1])
        case "mark":
            made.files.known["/1/owner"].content = b"2 abc\n"
        case "no mark":
            made.files.known["/1/owner"].content = b""
        case "removed":
            made.node.board.remove_target(made.node.rows[1])
    assert made.one(A) is None
    assert made.one(B, chain=ChainId(2)) == DATA[:4096]
    assert made.one(A) is None


async def test_reads_beside_one_that_does_not_count_are_asked_for_as_well(made: Made) -> None:
    await made.learn(A, C)
    await made.learn(B, chain=ChainId(2))
    ios = [ReadIO(chunk, chain, 0, memoryview(bytearray(10))) for chunk, chain in ((A, ONE), (B, ChainId(2)), (C, ONE), (A, ONE))]
    assert None not in made.short.read(ios)
    before = made.short.reads, made.short.bytes
    made.node.board.begin_epoch(made.node.rows[1])
    assert made.short.read(ios) == [None] * 4
    assert (made.short.reads, made.short.bytes) == before
    assert made.one(B, chain=ChainId(2)) == DATA[:4096]


async def test_a_chain_that_changes_is_asked_about_anew(made: Made) -> None:
    await made.learn(A)
    made.source.set(routing_of(2, 4))
    assert made.one(A) is None, "it is not known yet who serves"
    made.meet_chains()
    made.node.chain_version = 4
    for _ in range(READS + 1):
        assert made.one(A) is None
    await made.settle()
    assert made.one(A) == DATA[:4096]


async def test_what_is_told_under_a_chain_that_is_not_known_yet_waits(made: Made) -> None:
    """The client has read from the chain as it was; a node that has heard of another one does not answer under this one."""
    made.node.chain_version = 4
    await made.learn(A)
    assert made.one(A) is None
    made.set_routing(routing_of(2, 4))
    for _ in range(refused_reads):
        assert made.one(A) is None
    await made.learn(A)
    assert made.one(A) == DATA[:4096]


async def test_bytes_with_other_sums_are_never_returned(made: Made) -> None:
    await made.learn(A)
    file = made.files.known["/1/blocks"]
    for place in (0, 4095, 4096, 99_999):
        sound = file.content
        file.content = sound[:place] + bytes((sound[place] ^ 1,)) + sound[place + 1 :]
        piece = place // 4096 * 4096
        for offset, length in ((piece, 4096), (place, 1), (piece, 8192), (max(piece - 10, 0), 20)):
            assert made.one(A, offset, length) is None
        assert made.one(A, 50_000, 4096) == DATA[50_000:54_096]
        file.content = sound
        assert made.one(A, piece, 4096) == DATA[piece : piece + 4096]


async def test_pieces_whose_sums_are_not_known_are_asked_for_until_they_are(made: Made) -> None:
    made.node.unknown = {0, 3, 24}
    await made.learn(A)
    for offset, length in ((0, 4096), (0, 1), (4095, 2), (8192, 8192), (12_000, 1000), (99_000, 5000)):
        assert made.one(A, offset, length) is None
        made.short._blocks[A].misses = 0
    assert made.read((A, 4096, 4096), (A, 4097, 8191), (A, 16_384, 10)) == [
        DATA[4096:8192],
        DATA[4097:12_288],
        DATA[16_384:16_394],
    ]
    await made.settle()
    assert made.node.requests == [[A]]
    made.node.unknown = {3}
    for _ in range(READS):
        assert made.one(A) is None
    await made.settle()
    assert made.one(A) == DATA[:4096]
    for patience in (2 * READS, 4 * READS):
        before = len(made.node.requests)
        for _ in range(patience - 1):
            assert made.one(A, 12_288) is None
        await made.settle()
        assert len(made.node.requests) == before
        assert made.one(A, 12_288) is None
        await made.settle()
        assert len(made.node.requests) == before + 1, "each answer is waited for twice as long as the one before"


@pytest.mark.parametrize("what", ["cold", "short"])
async def test_bytes_that_are_not_at_hand_are_asked_for_until_they_are(made: Made, what: str) -> None:
    await made.learn(A)
    file = made.files.known["/1/blocks"]
    sound = file.content
    if what == "cold":
        file.is_cold = True
    else:
        file.content = sound[:99_000]
    assert made.read((A, 98_304, 4096), (A, 98_999, 10)) == [None, None]
    file.is_cold, file.content = False, sound
    assert made.one(A, 98_304, 4096) == DATA[98_304:]
    assert len(made.node.requests) == 1


async def test_a_later_process_of_the_node_has_another_board(made: Made) -> None:
    await made.learn(A)
    made.node.memory.close()
    made.node.start(78)
    made.node.row(1)
    assert made.one(A) is None, "another mark"
    await made.learn(A)
    assert made.one(A) == DATA[:4096]
    assert len(made.short._boards) == 1


# --- who is asked ------------------------------------------------------------------------------------------------------


async def test_without_a_node_on_this_host_nothing_is_counted() -> None:
    made = Made(routing_of(host="elsewhere"))
    assert made.short.is_idle
    made.set_routing(routing_of(2))
    assert not made.short.is_idle
    made.set_routing(routing_of(3, host=""))
    assert made.short.is_idle
    router = ReplicaRouter(made.source, Connector([made], ""), made, "", 1)  # type: ignore[list-item]
    nowhere = ShortCircuit(router, made, made.files)
    nowhere.on_routing_changed()
    assert nowhere.is_idle, "no host is no host that both are on"


async def test_chains_that_no_node_here_serves_are_not_asked_for(made: Made) -> None:
    await made.learn(C, chain=FAR)
    await made.learn(B, chain=ChainId(77))
    assert made.node.requests == []
    await made.learn(A)
    assert made.node.requests == [[A]]


@pytest.mark.parametrize(
    "refusal",
    [
        error(Code.UNSUPPORTED, "it shares nothing"),
        error(Code.PERMISSION, "it is not for users"),
        error(Code.PROTOCOL, "it makes no sense"),
        error(Code.INVALID, "it is not known"),
        "clock",
        "no board",
        "other board",
        "no file",
        "no mark file",
        "malformed",
    ],
    ids=str,
)
async def test_a_node_that_cannot_help_is_left_alone_for_a_while(
    made: Made, refusal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.node.row(1)
    match refusal:
        case "clock":
            made.node.clock_space += 1
        case "no board":
            made.node.memory.close()
        case "other board":
            made.node.memory.view.cast("Q")[1] = 5
        case "no file":
            monkeypatch.setattr(made.files, "open_file", lambda path: {}[path] if path == "/1/owner" else _deny(path))
            monkeypatch.setattr(made.files, "open_file", _deny)
        case "no mark file":
            monkeypatch.setattr(made.node, "row", lambda chain: 8)
            made.files.known.clear()
        case "malformed":
            made.node.path = lambda chunk: "blocks"
        case _:
            made.node.refusal = refusal
    await made.learn(A)
    assert len(made.node.requests) == 1
    assert made.short.is_idle
    for _ in range(3):
        await made.learn(A, B)
    assert len(made.node.requests) == 1
    made.time += refused_pause_ns - 1
    assert made.short.is_idle
    made.time += 1
    assert not made.short.is_idle
    await made.learn(C)
    assert len(made.node.requests) == 2


def _deny(path: str) -> Any:
    raise PermissionError(13, "Permission denied", path)


@pytest.mark.parametrize("code", [Code.BUSY, Code.UNAVAILABLE, Code.DEADLINE, Code.SHUTTING_DOWN, Code.DISCONNECTED, Code.DISK])
async def test_a_node_that_is_busy_or_away_is_asked_again(made: Made, code: Code) -> None:
    made.node.refusal = error(code, "not now")
    await made.learn(A)
    assert not made.short.is_idle
    made.node.refusal = None
    await made.learn(A)
    assert made.one(A) == DATA[:4096]


async def test_many_are_asked_for_in_requests_of_bounded_length(made: Made) -> None:
    chunks = [file_chunk(InodeId(6), index) for index in range(2 * blocks_per_locate_max + 3)]
    made.node.chunks.update(dict.fromkeys(chunks, noise(5000)))
    await made.learn(*chunks)
    assert [len(asked) for asked in made.node.requests] == [blocks_per_locate_max, blocks_per_locate_max, 3]
    assert made.read(*((chunk, 0, 4096) for chunk in chunks)) == [noise(5000)[:4096]] * len(chunks)


async def test_what_is_wanted_while_others_are_asked_for_is_asked_for_next(made: Made) -> None:
    def read_b() -> None:
        made.node.before_answer = lambda: None
        for _ in range(READS):
            assert made.one(B) is None

    made.node.before_answer = read_b
    await made.learn(A)
    await made.settle()
    assert made.node.requests == [[A], [B]]


async def test_what_is_counted_and_wanted_is_bounded(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(short_circuit, "counted_chunks_max", 10)
    for index in range(100):
        made.one(file_chunk(InodeId(6), index))
        assert len(made.short._counts) <= 10
    monkeypatch.setattr(short_circuit, "wanted_max", 3)
    made.short.asked_reads_min = 1
    for index in range(100):
        made.one(file_chunk(InodeId(6), index))
    assert len(made.short._wanted) == 3
    await made.settle()
    assert [len(asked) for asked in made.node.requests] == [3]


# --- what is kept ------------------------------------------------------------------------------------------------------


async def test_files_that_are_open_are_bounded(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(short_circuit, "located_files_max", 4)
    made.short.asked_reads_min = 1
    chunks = [file_chunk(InodeId(6), index) for index in range(12)]
    made.node.chunks.update(dict.fromkeys(chunks, DATA))
    made.node.path = lambda chunk: f"/1/blocks-{chunk[-1] % 9}"
    for _ in range(3):
        for chunk in chunks:
            if made.one(chunk) is None:
                await made.settle()
                assert made.one(chunk) == DATA[:4096]
            assert len(made.short._opened) <= 4
            assert len(made.files.open) <= 4, "none stays open beside those"
    assert made.files.openings > 12


async def test_one_answer_about_more_files_than_may_be_open(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(short_circuit, "located_files_max", 4)
    chunks = [file_chunk(InodeId(6), index) for index in range(12)]
    made.node.chunks.update(dict.fromkeys(chunks, DATA))
    made.node.path = lambda chunk: f"/1/blocks-{chunk[-1]}"
    await made.learn(*chunks)
    assert len(made.node.requests) == 1
    assert len(made.files.open) <= 4
    for chunk in chunks:
        assert made.one(chunk) in (None, DATA[:4096])


async def test_memory_is_bounded_and_what_is_read_often_stays(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = 400 + 8 * 25
    monkeypatch.setattr(short_circuit, "located_bytes_max", 20 * weight)
    made.short.asked_reads_min = 1
    chunks = [file_chunk(InodeId(6), index) for index in range(100)]
    made.node.chunks.update(dict.fromkeys(chunks, DATA))
    await made.settle()
    assert made.one(A) is None
    for chunk in chunks:
        await made.settle()
        assert made.one(A) == DATA[:4096], "it is read all the time"
        assert made.one(chunk) is None
        await made.settle()
        kept = [*made.short._blocks.values(), *made.short._old.values()]
        assert sum(block.weight for block in kept) <= 21 * weight
    assert made.node.requests.count([A]) == 1
    assert made.one(chunks[0]) is None, "it was forgotten"


async def test_targets_of_many_answers_are_looked_at_once(made: Made) -> None:
    made.short.asked_reads_min = 1
    for chunk in (A, B, C):
        made.one(chunk)
        await made.settle()
    assert len(made.node.requests) == 3
    looked: list[bytes] = []
    (target,) = {id(block.target): block.target for block in made.short._blocks.values()}.values()
    target.mark.still_says = lambda content: not looked.append(content)  # type: ignore[attr-defined]
    assert made.read((A, 0, 10), (B, 0, 10), (C, 0, 10)) == [DATA[:10]] * 3
    assert looked == [MARK]


async def test_a_process_that_has_ended_tells_nothing(made: Made) -> None:
    """Its board and its mark are as it left them, and its lease runs; but a later process may have let the chain go on without
    the target, if it has not got that directory any more."""
    await made.learn(A)
    assert made.one(A) == DATA[:4096]
    made.node.memory.close()
    assert made.one(A) is None
    made.node.start(78)
    await made.learn(A)
    assert made.one(A) == DATA[:4096]


@pytest.mark.parametrize("seed", [0, 1])
async def test_of_several_nodes_on_this_host_the_one_that_answers_reads_is_asked(made: Made, seed: int) -> None:
    """Another one would not know the sums of pieces that reads have needed."""
    known = routing_of(2)
    near = {number: structs.replace(node, host="here") for number, node in known.nodes.items()}
    made.set_routing(Routing(b"c", 2, near, known.chains, {}))
    made.router.choice = ReplicaSelector(seed)
    favourite = made.router.choice.pick(made.router.candidates(ONE), made.now())
    assert favourite == (HERE, ELSEWHERE)[seed]
    assert made.short._node_of(ONE) == favourite
    made.short._pause(favourite, OSError("it shares nothing"))
    assert made.short._node_of(ONE) == (ELSEWHERE, HERE)[seed]


async def test_chunks_that_no_node_of_this_host_has_are_seldom_thought_of(made: Made) -> None:
    made.set_routing(routing_of())
    looked: list[ChainId] = []
    real = made.short._node_of
    made.short._node_of = lambda chain: (looked.append(chain), real(chain))[1]  # type: ignore[method-assign]
    for _ in range(READS + refused_reads):
        assert made.one(A, chain=FAR) is None
        await made.settle()
    assert looked == [FAR]


# --- threads, and the end ----------------------------------------------------------------------------------------------


async def test_reads_from_another_thread(made: Made) -> None:
    def ask() -> None:
        for _ in range(READS):
            assert made.one(A) is None

    await asyncio.to_thread(ask)
    await made.settle()
    assert made.node.requests == [[A]]
    assert await asyncio.to_thread(made.one, A, 5, 10) == DATA[5:15]


async def test_a_block_that_is_told_anew_while_a_thread_reads_does_not_vouch_for_what_it_has_read(made: Made) -> None:
    """A reader has the bytes of the version before; before it looks at the target, that has begun another epoch, and another
    version has been told."""
    await made.learn(A)
    block = made.short._blocks[A]
    real = block.file.read_at_once

    def read(view: memoryview, offset: int) -> bool:
        done = real(view, offset)
        made.node.board.begin_epoch(made.node.rows[1])
        made.node.chunks[A] = noise(50_000, 5)
        request = short_circuit.locate_request_to_pb([(A, ONE, 3)])
        told = short_circuit.locate_reply_from_pb(made.node.locate(request), 1)
        made.short._take(HERE, [(A, ONE, 3)], told)
        return done

    block.file.read_at_once = read  # type: ignore[attr-defined]
    assert made.one(A) is None
    assert made.short._blocks.get(A) is not block


async def test_files_are_closed_while_a_thread_reads(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """It finds blocks, moves them between generations and forgets them, while the loop closes the files that they are in."""
    monkeypatch.setattr(short_circuit, "located_files_max", 3)
    monkeypatch.setattr(short_circuit, "located_bytes_max", 20 * (400 + 8 * 25))
    made.short.asked_reads_min = 1
    chunks = [file_chunk(InodeId(6), index) for index in range(30)]
    made.node.chunks.update(dict.fromkeys(chunks, DATA))
    made.node.path = lambda chunk: f"/1/blocks-{chunk[-1] % 4}"
    found: set[bytes | None] = set()

    def read() -> None:
        for _ in range(20):
            for chunk in chunks:
                found.add(made.one(chunk, 4096, 10))

    await asyncio.to_thread(read)
    await made.settle()
    assert found <= {None, DATA[4096:4106]}


async def test_after_the_end_everything_is_asked_for(made: Made) -> None:
    await made.learn(A)
    for _ in range(READS):
        made.one(B)
    await made.short.close()
    assert made.files.open == weakref.WeakSet()
    for _ in range(2 * READS):
        assert made.read((A, 0, 10), (B, 0, 10)) == [None, None]
    await made.settle()
    assert made.node.requests == [[A]]


def test_a_thread_that_reads_after_the_loop_has_ended() -> None:
    async def make() -> Made:
        return Made()

    made = asyncio.run(make())
    for _ in range(2 * READS):
        assert made.one(A) is None
    assert made.node.requests == []
