"""Tells clients on this host where blocks lie, and when that is not so any more: the node's side of short-circuit reads.

The rule is in `fs3.core.craq.change_board`. The board is made when a client asks first, and a target is joined to it when one of
its chunks is asked for; until then nothing of this costs anything. From then on every change of a chunk is counted.
"""

from __future__ import annotations

import logging

from fs3.base.errors import FS3Error
from fs3.base.ids import ChainId, ChunkId, TargetId, is_page
from fs3.base.status import Code
from fs3.base.units import KIB
from fs3.core.craq import reads
from fs3.core.craq.change_board import BOARD_WORDS, WORD_BYTES, ChangeBoard, slot_of
from fs3.core.security.state import SecurityState
from fs3.ports.chunk_store import BlockPlace
from fs3.ports.disks import Disks
from fs3.ports.host_files import HostFiles, SharedMemory
from fs3.ports.rpc import Call
from fs3.services.storage.node_context import NodeContext
from fs3.services.storage.target import TargetShell
from fs3.services.storage.target_map import TargetMap
from fs3.wire.storage_locate import (
    SUM_BYTES,
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


class BlockLocator:
    """The handler of LocateBlocks of one node. Belongs to its loop."""

    def __init__(
        self, targets: TargetMap, context: NodeContext, files: HostFiles | None, disks: Disks, security: SecurityState
    ) -> None:
        """`files`: None where nothing is shared. `disks` draw what tells one board from another."""
        self._targets = targets
        self._context = context
        self._files = files
        self._disks = disks
        self._security = security
        self._memory: SharedMemory | None = None
        self._board: ChangeBoard | None = None
        self.located = 0
        """Blocks of which it was said where they are."""
        security.subscribe(self.look_again)

    def locate(self, call: Call) -> None:
        """The handler."""
        if not self._may_tell or self._prepare() is None:
            call.fail(Code.UNSUPPORTED, "this node shares no files with clients of its host")
            return
        try:
            columns = locate_request_from_pb(call.request)
        except FS3Error as wrong:
            call.fail(wrong.code, wrong.strerror or "", self._context.routing_version)
            return
        try:
            located = self._locate_all(columns)
        except FS3Error as failure:
            call.fail(failure.code, failure.strerror or "", self._context.routing_version)
            return
        call.reply(locate_reply_to_pb(located, routing_version=self._context.routing_version))

    @property
    def _may_tell(self) -> bool:
        # What a client reads by itself could be asked for no capability, and none could be revoked.
        return self._context.config.short_circuit and not self._security.is_on

    def look_again(self) -> None:
        """The configuration is another, or security is on: where nothing may be told any more, what was told is void."""
        if not self._may_tell:
            for shell in self._targets.by_id.values():
                shell.gate.part()

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

    def _locate_all(self, columns: LocateColumns) -> Located:
        """Nothing waits: what is told is of one moment."""
        board, memory, files = self._board, self._memory, self._files
        assert board is not None
        assert memory is not None
        assert files is not None
        now = self._context.clock.now()
        targets: dict[TargetId, int] = {}
        told: list[LocatedTarget] = []
        blocks: list[LocatedBlock | Code] = []
        left = located_sums_bytes_max
        for chunk, chain, version in zip(*columns, strict=True):
            shell = self._targets.by_chain.get(ChainId(chain))
            if shell is None or left <= 0:
                blocks.append(Code.BUSY if shell is not None else Code.NO_SUCH_TARGET)
                continue
            place = self._find(shell, board, ChunkId(chunk), version, now)
            if isinstance(place, Code):
                blocks.append(place)
                continue
            if shell.target not in targets:
                epoch, mark = shell.gate.told, shell.store.owner_mark
                assert epoch is not None
                assert mark is not None
                targets[shell.target] = len(told)
                told.append(LocatedTarget(epoch, mark))
            slot = slot_of(ChunkId(chunk))
            blocks.append(LocatedBlock(targets[shell.target], slot, board.changes(slot), *place))
            left -= SUM_BYTES * len(place.sums)
            self.located += 1
        return Located(memory.path, board.token, files.clock_space, told, blocks)

    @staticmethod
    def _find(shell: TargetShell, board: ChangeBoard, chunk: ChunkId, version: int, now: int) -> BlockPlace | Code:
        """Where a block is, of a target that is on the board by then; or why that is not told."""
        store = shell.store
        if is_page(chunk) or store.owner_mark is None or not shell.gate.join(board):
            return Code.UNSUPPORTED
        code, pending_is_dirty = shell.read_gate(version, now)
        if code is Code.OK:
            code = reads.answer(store.get(chunk), pending_is_dirty, is_bad=chunk in store.bad_chunks)
        if code is not Code.OK:
            return code
        place = store.locate_block(chunk)
        return place if place is not None and place.length else Code.NOT_FOUND

    def stop(self) -> None:
        """Tell nothing more; the board is not found any more."""
        if self._memory is not None:
            self._memory.close()
        self._memory = self._files = self._board = None
