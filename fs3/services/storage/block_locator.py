"""Tells clients on this host where blocks lie, and when that is not so any more: the node's side of short-circuit reads.

The rule is in `fs3.core.craq.change_board`. The board is made when a client asks first, and a target is joined to it when one of
its chunks is asked for; until then nothing of this costs anything. From then on every change of a chunk is counted.
"""

from __future__ import annotations

import asyncio
import logging

from fs3.base.errors import FS3Error
from fs3.base.ids import ChainId, ChunkId, TargetId, is_page
from fs3.base.status import Code
from fs3.base.units import KIB
from fs3.core.craq import reads
from fs3.core.craq.change_board import BOARD_WORDS, WORD_BYTES, ChangeBoard, slot_of
from fs3.ports.disks import Disks
from fs3.ports.host_files import HostFiles, SharedMemory
from fs3.ports.rpc import Call
from fs3.runtime.tasks import TaskSet
from fs3.services.storage.node_context import NodeContext
from fs3.services.storage.target_map import TargetMap
from fs3.wire.storage_locate import (
    LocateColumns,
    Located,
    LocatedBlock,
    LocatedTarget,
    locate_reply_to_pb,
    locate_request_from_pb,
)

log = logging.getLogger("fs3.storage")

located_sums_bytes_max = 512 * KIB
"""Sums of blocks in one answer, unless it is about a single one; it travels as one frame header."""

locates_max = 64
"""Requests that are under way at once: they may read whole chunks."""


class BlockLocator:
    """The handler of LocateBlocks of one node. Belongs to its loop."""

    def __init__(self, targets: TargetMap, context: NodeContext, files: HostFiles | None, disks: Disks) -> None:
        """`files`: None where nothing is shared. `disks` draw what tells one board from another."""
        self._targets = targets
        self._context = context
        self._files = files
        self._disks = disks
        self._memory: SharedMemory | None = None
        self._board: ChangeBoard | None = None
        self._tasks = TaskSet()
        self._under_way = 0
        self.located = 0
        """Blocks of which it was said where they are."""

    def locate(self, call: Call) -> None:
        """The handler."""
        if not self._context.config.short_circuit or self._prepare() is None:
            call.fail(Code.UNSUPPORTED, "this node shares no files with clients of its host")
            return
        try:
            columns = locate_request_from_pb(call.request)
        except FS3Error as wrong:
            call.fail(wrong.code, wrong.strerror or "", self._context.routing_version)
            return
        if self._under_way >= locates_max:
            call.fail(Code.BUSY, f"{self._under_way} clients are being told where blocks are", self._context.routing_version)
            return
        self._under_way += 1
        self._tasks.start(self._answer(call, columns))

    def _prepare(self) -> ChangeBoard | None:
        """The board; None where there can be none."""
        if self._board is None and self._files is not None:
            try:
                self._memory = self._files.create_memory(BOARD_WORDS * WORD_BYTES)
            except FS3Error as why:
                log.info("clients of this host read by asking: %s", why.strerror)
                self._files = None
                return None
            self._board = ChangeBoard(self._memory.view.cast("Q"), int.from_bytes(self._disks.draw_token(), "little"))
        return self._board

    async def _answer(self, call: Call, columns: LocateColumns) -> None:
        try:
            board, memory, files = self._board, self._memory, self._files
            assert board is not None
            assert memory is not None
            assert files is not None
            targets: dict[TargetId, int] = {}
            told: list[LocatedTarget] = []
            blocks: list[LocatedBlock | Code] = []
            left = located_sums_bytes_max
            for chunk, chain, version in zip(*columns, strict=True):
                if left <= 0:
                    blocks.append(Code.BUSY)
                    continue
                block = await self._locate(board, ChunkId(chunk), ChainId(chain), version, targets, told)
                blocks.append(block)
                if isinstance(block, LocatedBlock):
                    left -= block.sums.itemsize * len(block.sums)
                    self.located += 1
                else:
                    await asyncio.sleep(0)  # a refusal takes no time: others get their turn
            located = Located(memory.path, board.token, files.clock_space, told, blocks)
            call.reply(locate_reply_to_pb(located, routing_version=self._context.routing_version))
        except FS3Error as failure:
            call.fail(failure.code, failure.strerror or "", self._context.routing_version)
        except OSError as failure:
            call.fail(Code.DISK, f"a block cannot be read: {failure.strerror}", self._context.routing_version)
        finally:
            self._under_way -= 1

    async def _locate(
        self,
        board: ChangeBoard,
        chunk: ChunkId,
        chain: ChainId,
        version: int,
        targets: dict[TargetId, int],
        told: list[LocatedTarget],
    ) -> LocatedBlock | Code:
        shell = self._targets.by_chain.get(chain)
        if shell is None:
            return Code.NO_SUCH_TARGET
        mark = shell.store.owner_mark
        is_off = not self._context.config.short_circuit  # by now
        if is_off or is_page(chunk) or mark is None or not shell.gate.join(board):
            return Code.UNSUPPORTED
        place = await shell.store.locate_block(chunk)
        # From here on nothing waits: what is told is of one moment.
        code, pending_is_dirty = shell.read_gate(version, self._context.clock.now())
        if code is Code.OK:
            code = reads.answer(shell.store.get(chunk), pending_is_dirty, is_bad=chunk in shell.store.bad_chunks)
        gate = shell.gate.told
        if code is not Code.OK or place is None or not place.length or gate is None:
            return Code.NOT_FOUND if code is Code.OK else code
        index = targets.get(shell.target)
        if index is None or told[index].gate != gate:
            index = targets[shell.target] = len(told)
            told.append(LocatedTarget(gate, mark))
        slot = slot_of(chunk)
        return LocatedBlock(index, slot, board.changes(slot), place.version, place.length, place.path, place.offset, place.sums)

    async def stop(self) -> None:
        """Tell nothing more; the board is not found any more."""
        await self._tasks.join()
        if self._memory is not None:
            self._memory.close()
        self._memory = self._files = self._board = None
