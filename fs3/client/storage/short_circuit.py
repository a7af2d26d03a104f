"""Short-circuit reads: small ranges of chunks on this host, read from the block files without asking the node.

The rule that makes them right is in `fs3.core.craq.change_board`. Here is who is asked where blocks are, and what is kept of it.
A chunk is asked for when small ranges of it have been read a few times by asking, and again for pieces of which the node did not
know the sums then (it knows those that small reads have needed, and reads nothing for this); what is read rarely, or written
often, goes on by asking and costs nothing more. Whatever does not fit (a chunk that has changed, bytes that are not in memory, a
target that may not serve, a range that is long) is left to a request, which is answered as it always was; so nothing here can
fail a read.

Only ranges of less than `small_read_bytes`, and no KVCache pages: nodes count their reads to know what to evict.
"""

from __future__ import annotations

import asyncio
import logging
from array import array
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from crc32c import crc32c

from fs3.base.checksum import PIECE_BYTES
from fs3.base.errors import FS3Error
from fs3.base.ids import ChainId, ChunkId, NodeId, is_page
from fs3.base.limits import blocks_per_locate_max, probe_timeout_ns, small_read_bytes
from fs3.base.status import Code
from fs3.base.units import MIB, NEVER, SECOND
from fs3.client.storage.reads import ReadOutcome
from fs3.client.storage.router import ReplicaRouter
from fs3.core.craq.change_board import BOARD_WORDS, WORD_BYTES, BoardReader
from fs3.core.files.read_plan import ReadIO
from fs3.ports.clock import Clock
from fs3.ports.host_files import HostFile, HostFiles
from fs3.runtime.tasks import TaskSet
from fs3.wire.methods import STORAGE
from fs3.wire.storage_locate import Located, LocatedBlock, LocatedTarget, locate_reply_from_pb, locate_request_to_pb

log = logging.getLogger("fs3.client")

located_bytes_max = 64 * MIB
"""What one client keeps of where blocks on its host lie: some 7 000 blocks of 4 MiB."""
located_files_max = 128
"""Files it has open for that."""
asked_reads_min = 4
"""Reads of a chunk by asking after which it is asked where its block is."""
refused_reads = 64
"""Of a chunk that could not be located, so many more go by before it is asked for again."""
counted_chunks_max = 1 << 16
"""Chunks whose reads are counted for that; beyond it, counting begins anew."""
wanted_max = 1024
"""Chunks that wait to be asked for; further ones are counted again."""
refused_pause_ns = 30 * SECOND
"""A node that shares no files, or whose files this process cannot open, is not asked again for so long."""
_ROW_BYTES = 400
"""What is kept of a block takes so much memory besides its sums, roughly."""
_IN_PIECE = PIECE_BYTES - 1
_SHIFT = PIECE_BYTES.bit_length() - 1
_OK = Code.OK
_LASTING = (Code.UNSUPPORTED, Code.PERMISSION, Code.NO_CAPABILITY, Code.PROTOCOL, Code.INVALID)


class _Target(NamedTuple):
    """What has to be so for blocks of a target to be read."""

    board: BoardReader
    is_held: Callable[[], bool]
    """The process that has made the board lives."""
    told: LocatedTarget
    mark: HostFile

    def serves(self, now: int) -> bool:
        """Nothing was changed by a look at slots before now."""
        return self.board.serves(self.told.gate, now) and self.is_held() and self.mark.still_says(self.told.mark.content)


class _Board(NamedTuple):
    """The board of a node."""

    identity: str
    reader: BoardReader
    is_held: Callable[[], bool]


class _KnownBlock:
    """A chunk's committed version, as it was told."""

    __slots__ = (
        "chain_version", "changes", "file", "length", "misses", "offset", "patience", "slot", "sums", "target", "version",
        "words",
    )  # fmt: skip

    def __init__(self, target: _Target, told: LocatedBlock, file: HostFile, chain_version: int, patience: int) -> None:
        self.target = target
        self.words = target.board.words
        self.slot = told.slot
        self.changes = told.changes
        self.chain_version = chain_version
        self.version = told.version
        self.length = told.length
        self.offset = told.offset
        self.sums: array[int] = told.sums
        self.file = file
        self.misses = 0
        """Reads of pieces whose sums are not known."""
        self.patience = patience
        """After so many of them it is asked for again: the node has learnt of those pieces by then."""

    @property
    def weight(self) -> int:
        """Bytes of memory, roughly."""
        return _ROW_BYTES + self.sums.itemsize * len(self.sums)


class ShortCircuit:
    """The short-circuit reads of one client. `read` may be called from any thread, everything else belongs to its loop."""

    def __init__(self, router: ReplicaRouter, clock: Clock, files: HostFiles) -> None:
        """`files` are of the host that `router` is on, and its clock is `clock`."""
        self._router = router
        self._now = clock.now
        self._files = files
        self._clock_space = files.clock_space
        self._blocks: dict[ChunkId, _KnownBlock] = {}
        """Of two generations the young one: see `RowCache` of the chunk store."""
        self._old: dict[ChunkId, _KnownBlock] = {}
        self._young_bytes = 0
        self._counts: dict[ChunkId, int] = {}
        self._wanted: dict[ChunkId, ChainId] = {}
        self._opened: dict[str, HostFile] = {}
        """Those last that were told of last. What blocks refer to stays open when it leaves."""
        self._targets: dict[str, _Target] = {}
        """By the paths of their marks, of those that are open."""
        self._boards: dict[NodeId, _Board] = {}
        self._paused_until: dict[NodeId, int] = {}
        self._warned: set[NodeId] = set()
        self._tasks = TaskSet()
        self._is_asking = False
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._idle_until: int = NEVER
        """No node on this host is to be asked before: there is none, or they have refused."""
        self.asked_reads_min = asked_reads_min
        self.reads = 0
        """Ranges that were read so."""
        self.bytes = 0

    # --- reading -----------------------------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """No read can be done so."""
        return bool(self._idle_until) and self._now() < self._idle_until

    def read(self, ios: Sequence[ReadIO]) -> list[ReadOutcome | None]:
        """The outcome of each read that could be done, its buffer filled; None: it is to be asked for. Never raises for a file or
        a node, and never waits."""
        outcomes: list[ReadOutcome | None] = []
        targets: dict[int, _Target] = {}
        add = outcomes.append
        blocks = self._blocks
        candidates = self._router.known_candidates
        count = total = 0
        for io in ios:
            chunk = io.chunk
            block = blocks.get(chunk)
            if block is None:
                block = self._find_old(chunk, io)
                if block is None:
                    add(None)
                    continue
            if block.words[block.slot] != block.changes:
                self._forget(chunk)
                add(None)
                continue
            buffer, offset = io.buffer, io.offset
            known = candidates(io.chain)
            if type(buffer) is not memoryview or known is None or known.version != block.chain_version:
                if known is not None and known.version > block.chain_version:
                    self._forget(chunk)  # the node tells it anew, under the chain as it is now
                add(None)
                continue
            length = min(len(buffer), block.length - offset)
            if not 0 < length < small_read_bytes:
                add(None)
                continue
            view = buffer if length == len(buffer) else buffer[:length]
            sums = block.sums
            if not offset & _IN_PIECE and length == PIECE_BYTES:
                piece = sums[offset >> _SHIFT]
                if piece < 0:
                    self._note_miss(io, block)
                    add(None)
                    continue
                if not block.file.read_at_once(view, block.offset + offset) or crc32c(view) != piece:
                    add(None)
                    continue
            elif -1 in sums[offset >> _SHIFT : (offset + length + _IN_PIECE) >> _SHIFT]:
                self._note_miss(io, block)
                add(None)
                continue
            elif not _read_range(block, view, offset, length):
                add(None)
                continue
            target = block.target
            targets[id(target)] = target
            count += 1
            total += length
            add(ReadOutcome(_OK, length, block.version))
        # Last: what was found at a slot holds only if the target has not been another since.
        now = self._now()
        failed = [target for target in targets.values() if not target.serves(now)]
        if failed:
            for io in ios:
                block = blocks.get(io.chunk)
                if block is not None and any(block.target is target for target in failed):
                    self._forget(io.chunk)
            # All of them: which target a read has gone by may not be found any more, as others may have been told of meanwhile.
            return [None] * len(ios)
        self.reads += count
        self.bytes += total
        return outcomes

    def _find_old(self, chunk: ChunkId, io: ReadIO) -> _KnownBlock | None:
        block = self._old.pop(chunk, None)
        if block is not None:
            self._keep(chunk, block)
        elif type(io.buffer) is memoryview and len(io.buffer) < small_read_bytes and not is_page(chunk):
            self._count(chunk, io.chain)
        return block

    def _count(self, chunk: ChunkId, chain: ChainId) -> None:
        """One more read by asking."""
        count = self._counts.get(chunk, 0) + 1
        if count < self.asked_reads_min:
            if len(self._counts) >= counted_chunks_max:
                self._counts.clear()
            self._counts[chunk] = count
            return
        self._counts.pop(chunk, None)
        self._want(chunk, chain)

    def _note_miss(self, io: ReadIO, block: _KnownBlock) -> None:
        """A piece was wanted whose sum is not known."""
        block.misses += 1
        if block.misses >= block.patience:
            block.misses = 0
            self._want(io.chunk, io.chain)

    def _want(self, chunk: ChunkId, chain: ChainId) -> None:
        """Ask for a chunk soon."""
        if len(self._wanted) < wanted_max and not self._closed:
            self._wanted[chunk] = chain
            if not self._is_asking:
                self._is_asking = True
                with suppress(RuntimeError):  # the loop has been closed meanwhile
                    self._loop.call_soon_threadsafe(self._begin_asking)

    def _keep(self, chunk: ChunkId, block: _KnownBlock) -> None:
        self._blocks[chunk] = block
        self._young_bytes += block.weight
        if self._young_bytes > located_bytes_max // 2:
            self._old, self._blocks, self._young_bytes = self._blocks, {}, 0

    def _forget(self, chunk: ChunkId) -> None:
        self._blocks.pop(chunk, None)
        self._old.pop(chunk, None)

    # --- asking ------------------------------------------------------------------------------------------------------

    def on_routing_changed(self) -> None:
        """The router knows other nodes, or other chains."""
        self._find_idle()

    def _find_idle(self) -> None:
        now = self._now()
        until = min((self._paused_until.get(node, 0) for node in self._router.near), default=NEVER)
        self._idle_until = until if until > now else 0

    def _pause(self, node: NodeId, why: Exception) -> None:
        self._paused_until[node] = self._now() + refused_pause_ns
        self._find_idle()
        if node not in self._warned:
            self._warned.add(node)
            log.info("node %s is asked for every read, though it is on this host: %s", node, why)

    def _begin_asking(self) -> None:
        if self._closed:
            return
        self._tasks.start(self._ask())

    async def _ask(self) -> None:
        """Ask for all that is wanted, node by node."""
        try:
            while self._wanted and not self._closed:
                asked: dict[NodeId, list[tuple[ChunkId, ChainId, int]]] = {}
                wanted, self._wanted = self._wanted, {}
                # Of a copy, which is made at once: another thread may have been about to add to it.
                for chunk, chain in list(wanted.items()):
                    node = self._node_of(chain)
                    if node is None:
                        self._put_off(chunk)
                    else:
                        asked.setdefault(node, []).append((chunk, chain, self._router.candidates(chain).version))
                for node, chunks in asked.items():
                    for begin in range(0, len(chunks), blocks_per_locate_max):
                        await self._ask_node(node, chunks[begin : begin + blocks_per_locate_max])
        finally:
            self._is_asking = False

    def _node_of(self, chain: ChainId) -> NodeId | None:
        """Which node on this host serves a chain, and may be asked: of several the one that reads are asked of, which knows the
        sums."""
        now = self._now()
        serving = self._router.candidates(chain)
        others = [node for node in serving.nodes if node not in self._router.near or now < self._paused_until.get(node, now)]
        return self._router.choice.pick(serving, now, others)

    def _put_off(self, chunk: ChunkId) -> None:
        """It cannot be located for now."""
        if len(self._counts) < counted_chunks_max:
            self._counts[chunk] = -refused_reads

    async def _ask_node(self, node: NodeId, chunks: Sequence[tuple[ChunkId, ChainId, int]]) -> None:
        try:
            channel = self._router.short_channel(node)
            reply = await channel.call(STORAGE.LocateBlocks, locate_request_to_pb(chunks), timeout_ns=probe_timeout_ns)
            self._take(node, chunks, locate_reply_from_pb(reply.message, len(chunks)))
        except (OSError, ValueError) as why:
            # A node that is busy or restarting is asked again; one that shares nothing, or whose files this process may not
            # open, is left alone for a while.
            if not isinstance(why, FS3Error) or why.code in _LASTING:
                self._pause(node, why)

    def _take(self, node: NodeId, chunks: Sequence[tuple[ChunkId, ChainId, int]], located: Located) -> None:
        """What a node has told. Raises OSError, ValueError."""
        if located.clock_space != self._clock_space:
            raise ValueError("its clock is shifted against the one of this process")
        board = self._board(node, located) if located.targets else None
        targets = [self._target(board, told) for told in located.targets if board is not None]
        found: list[tuple[ChunkId, _KnownBlock, str]] = []
        for (chunk, _, version), told in zip(chunks, located.blocks, strict=True):
            if isinstance(told, LocatedBlock):
                known = self._blocks.get(chunk)
                # Each answer about a version is worth less than the one before, so it is waited for longer.
                is_same = known is not None and known.version == told.version
                patience = 2 * known.patience if is_same and known is not None else self.asked_reads_min
                block = _KnownBlock(targets[told.target], told, self._open(told.path), version, patience)
                found.append((chunk, block, told.path))
            else:
                self._put_off(chunk)
        opened = self._opened
        for chunk, block, path in found:
            self._forget(chunk)
            target = block.target
            # Files that had to be closed for others of the same answer would stay open for as long as the block is known.
            if opened.get(path) is block.file and opened.get(target.told.mark.path) is target.mark:
                self._keep(chunk, block)

    def _board(self, node: NodeId, located: Located) -> _Board:
        identity = f"{located.board} {located.token}"
        known = self._boards.get(node)
        if known is None or known.identity != identity:
            memory = self._files.open_memory(located.board, BOARD_WORDS * WORD_BYTES)
            reader = BoardReader(memory.view.cast("Q"), located.token)
            known = self._boards[node] = _Board(identity, reader, memory.is_held)
        return known

    def _target(self, board: _Board, told: LocatedTarget) -> _Target:
        """The same one as long as nothing about it changes: `read` looks at each of them once."""
        path = told.mark.path
        made = _Target(board.reader, board.is_held, told, self._open(path))
        if self._targets.get(path) != made:
            self._targets[path] = made
        return self._targets[path]

    def _open(self, path: str) -> HostFile:
        found = self._opened.get(path)
        if found is not None and not found.still_says(b""):
            self._close(path)  # another file has taken its place
            found = None
        if found is None:
            while len(self._opened) >= located_files_max:
                self._close_oldest()
            found = self._files.open_file(path)
        else:
            del self._opened[path]  # it becomes the last one
        self._opened[path] = found
        return found

    def _close_oldest(self) -> None:
        """The file that was told of longest ago."""
        self._close(next(iter(self._opened)))

    def _close(self, path: str) -> None:
        """A file, with all that is known of blocks in it: else those would keep it open."""
        file = self._opened.pop(path)
        self._targets.pop(path, None)
        for kept in (self._blocks, self._old):
            # Of a copy, which is made at once: other threads read meanwhile.
            for chunk, block in list(kept.items()):
                if block.file is file or block.target.mark is file:
                    kept.pop(chunk, None)

    async def close(self) -> None:
        """Read and ask nothing more."""
        self._closed = True
        self._wanted.clear()
        await self._tasks.cancel()
        self._blocks, self._old = {}, {}
        self._opened.clear()
        self._targets.clear()
        self._boards.clear()


def _read_range(block: _KnownBlock, view: memoryview, offset: int, length: int) -> bool:
    """A range that is not one whole piece: what lies around its ends is read as well, to verify it. False: it is to be asked
    for."""
    low = offset & ~_IN_PIECE
    high = min((offset + length + _IN_PIECE) & ~_IN_PIECE, block.length)
    is_whole = low == offset and high == offset + length
    cover = view if is_whole else memoryview(bytearray(high - low))
    if not block.file.read_at_once(cover, block.offset + low):
        return False
    sums = block.sums
    at = 0
    for piece in range(low >> _SHIFT, (high + _IN_PIECE) >> _SHIFT):
        if crc32c(cover[at : at + PIECE_BYTES]) != sums[piece]:
            return False
        at += PIECE_BYTES
    if not is_whole:
        view[:] = cover[offset - low : offset - low + length]
    return True
