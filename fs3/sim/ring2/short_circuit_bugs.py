"""What the planted bugs about short-circuit reads exchange: see `fs3.sim.ring2.bugs`."""

from __future__ import annotations

from dataclasses import replace

from fs3.base.ids import ChunkId
from fs3.core.craq import reads
from fs3.core.craq.change_board import BoardReader, ChangeBoard, ToldEpoch
from fs3.drivers.memory.chunk_store import MemoryChunkStore
from fs3.drivers.memory.chunk_versions import MemoryChunk
from fs3.model.chain import Chain
from fs3.services.storage.target_gate import TargetGate
from fs3.sim.ring2.host_files import SimFile
from fs3.sim.ring2.service_bug import ServiceBug
from fs3.sim.ring2.swarm import ClusterSwarm


def count_nothing(self: ChangeBoard, chunk: ChunkId) -> None:
    """What changes is not counted."""


def show_pending_uncounted(self: MemoryChunkStore, chunk: ChunkId, after: MemoryChunk) -> None:
    """Only what is committed or dropped is counted."""
    counted, self.on_change = self.on_change, None if after.pending is not None else self.on_change
    _real_show(self, chunk, after)
    self.on_change = counted


_real_show = MemoryChunkStore._show


def serve_for_ever(self: BoardReader, gate: ToldEpoch, now_ns: int) -> bool:
    """The lease is not looked at."""
    return self.words[gate.row] == gate.epoch


def set_chain_of_requests(self: TargetGate, chain: Chain | None) -> None:
    """The board hears of it with the next heartbeat."""
    self._chain = chain
    self._pending_is_dirty = reads.pending_is_dirty(chain, self._target)


def begin_with_anything(self: SimFile, content: bytes) -> bool:
    """Whose a directory is, is not looked at."""
    return True


def _beside_nodes(swarm: ClusterSwarm) -> ClusterSwarm:
    return replace(swarm, short_circuit=True, large_chance=0)


SHORT_CIRCUIT_BUGS: dict[str, ServiceBug] = {
    "changes_not_counted": ServiceBug(
        "a storage node counts no changes on its board",
        [(ChangeBoard, "count_change", count_nothing)],
        seeds=40,
        focus=_beside_nodes,
    ),
    "pending_not_counted": ServiceBug(
        "a storage node counts what is committed on its board, and not what becomes pending",
        [(MemoryChunkStore, "_show", show_pending_uncounted)],
        scene="what_others_have_seen_is_there",
    ),
    "board_without_a_lease": ServiceBug(
        "a client that reads files does not look at the lease of the target",
        [(BoardReader, "serves", serve_for_ever)],
        scene="a_node_that_is_stopped",
    ),
    "board_that_waits_for_heartbeats": ServiceBug(
        "a target that leaves its chain says so on the board once the manager has answered",
        [(TargetGate, "set_chain", set_chain_of_requests)],
        scene="a_node_that_leaves_its_chain",
    ),
    "board_of_a_dead_process": ServiceBug(
        "a client that reads files does not look whose the target's directory is by now",
        [(SimFile, "still_says", begin_with_anything)],
        scene="a_node_that_is_started_anew",
    ),
}
