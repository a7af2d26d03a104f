"""Whether a target serves reads at this moment, for those who ask it and for those who look at the board of changes."""

from __future__ import annotations

from fs3.base.ids import TargetId
from fs3.base.status import Code
from fs3.core.craq import reads
from fs3.core.craq.change_board import ChangeBoard, ToldEpoch
from fs3.model.chain import Chain
from fs3.ports.chunk_store import ChunkStore
from fs3.services.storage.node_context import NodeContext


class TargetGate:
    """`reads.gate` of one target, with what the board says of it. Belongs to its loop."""

    def __init__(self, target: TargetId, store: ChunkStore, context: NodeContext) -> None:
        """`store` is the target's, which is one of the node's."""
        self._target = target
        self._store = store
        self._lease_until = context.lease_until
        self._chain: Chain | None = None
        """Under which reads are served; None: none are."""
        self._pending_is_dirty = False
        self._board: ChangeBoard | None = None
        self._row = 0

    def set_chain(self, chain: Chain | None) -> None:
        """Reads are served under this chain from now on; None: none are. Before anything can come of what has changed."""
        if chain is self._chain:
            return
        self._chain = chain
        self._pending_is_dirty = reads.pending_is_dirty(chain, self._target)
        if self._board is not None:
            self._board.begin_epoch(self._row)
            self.on_lease_changed()

    def answer(self, chain_version: int, now: int) -> tuple[Code, bool]:
        """What holds for every read of this moment: (`reads.gate`: OK or why none is served, `reads.pending_is_dirty`)."""
        return reads.gate(self._chain, self._target, chain_version, now, self._lease_until(self._target)), self._pending_is_dirty

    def on_lease_changed(self) -> None:
        """The target may serve until another moment."""
        if self._board is not None:
            self._board.extend(self._row, self._served_until())

    def _served_until(self) -> int:
        chain = self._chain
        until = self._lease_until(self._target)
        return until if chain is not None and reads.gate(chain, self._target, chain.version, 0, 1) is Code.OK else 0

    def join(self, board: ChangeBoard) -> bool:
        """From now on the board says of this target whether it serves, and counts the changes of its chunks. False: there is no
        room on it."""
        if self._board is None:
            row = board.add_target()
            if row is None:
                return False
            self._board, self._row = board, row
            self._store.on_change = board.count_change
            self.on_lease_changed()
        return True

    @property
    def told(self) -> ToldEpoch | None:
        """What goes with what is told of a chunk at this moment; None: the target is not joined."""
        return self._board.gate(self._row) if self._board is not None else None

    def part(self) -> None:
        """The board says nothing of this target any more; what was told is void."""
        if self._board is not None:
            self._board.remove_target(self._row)
            self._board = None
            self._store.on_change = None

    def close(self) -> None:
        """The target serves no more."""
        self.set_chain(None)
        self.part()
