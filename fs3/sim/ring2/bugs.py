"""Planted bugs: mistakes one could make around the protocol machines, in services and clients, each as exchanged methods.

As in ring 1 (`fs3.sim.ring1.bugs`), a simulator is trusted as far as it finds them, and the product's code knows nothing of this
file: a bug is planted by exchanging attributes for the time of a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from msgspec import structs

from fs3.api.kvcache import page_io
from fs3.base.ids import ChunkId, chunk_file
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.client.mgmtd.client import MgmtdClient
from fs3.client.mgmtd.member import Lease, Member
from fs3.client.storage import updates
from fs3.client.storage.updates import UpdateCall
from fs3.core.craq.admission import admitter
from fs3.core.craq.admission.facts import explain_malformed
from fs3.core.files.write_plan import WriteIO
from fs3.core.membership import managed_nodes
from fs3.core.membership.generations import Lineage
from fs3.core.meta import sessions, trims
from fs3.core.meta.contents import find_by_content
from fs3.core.meta.length import with_truncated_length, with_written_length
from fs3.core.meta.ops import sync as sync_op
from fs3.core.meta.ops import truncate as truncate_op
from fs3.drivers.memory.chunk_store import MemoryChunkStore
from fs3.model.chunk import Tag, Update, UpdateResult
from fs3.model.cluster import RegisterNode, RoutingUpdate
from fs3.model.generation import Generation
from fs3.model.inode import Inode, Trim
from fs3.model.requests import Truncate
from fs3.model.routing import Node
from fs3.ports.chunk_store import Prewritten, ReadGather, ReadResult, StageResult
from fs3.services.meta.change_executor import ChangeExecutor
from fs3.services.meta.duties import sessions as sessions_duty
from fs3.services.meta.duties.sessions import SessionsDuty
from fs3.services.storage import generations
from fs3.services.storage.forwarding.payloads import Payload
from fs3.services.storage.service import StorageService
from fs3.services.storage.target import TargetShell
from fs3.sim.ring2.append_bugs import (
    APPEND_BUGS,
)
from fs3.sim.ring2.cache_bugs import (
    CACHE_BUGS,
)
from fs3.sim.ring2.capability_bugs import CAPABILITY_BUGS
from fs3.sim.ring2.client_bugs import CLIENT_BUGS
from fs3.sim.ring2.damage_bugs import DAMAGE_BUGS
from fs3.sim.ring2.departure_bugs import DEPARTURE_BUGS
from fs3.sim.ring2.disk import SimChunkStore
from fs3.sim.ring2.hole_bugs import HOLE_BUGS
from fs3.sim.ring2.inline_bugs import (
    INLINE_BUGS,
)
from fs3.sim.ring2.lease_bugs import (
    LEASE_BUGS,
)
from fs3.sim.ring2.lock_bugs import (
    LOCK_BUGS,
)
from fs3.sim.ring2.mount_bugs import MOUNT_BUGS
from fs3.sim.ring2.move_bugs import MOVE_BUGS
from fs3.sim.ring2.namespace_bugs import (
    NAMESPACE_BUGS,
)
from fs3.sim.ring2.page_bugs import PAGE_BUGS, believe_the_buffer
from fs3.sim.ring2.posix_bugs import POSIX_BUGS
from fs3.sim.ring2.reader_bugs import READER_BUGS
from fs3.sim.ring2.remembered_bugs import REMEMBERED_BUGS
from fs3.sim.ring2.replace_bugs import (
    REPLACE_BUGS,
)
from fs3.sim.ring2.service_bug import ServiceBug
from fs3.sim.ring2.short_circuit_bugs import SHORT_CIRCUIT_BUGS
from fs3.sim.ring2.swarm import ClusterSwarm
from fs3.sim.ring2.upgrade_bugs import UPGRADE_BUGS
from fs3.sim.ring2.xattr_bugs import (
    XATTR_BUGS,
)

# --- directories ---------------------------------------------------------------------------------------------------------


def _compare_nothing(written: Sequence[Generation], remembered: Generation | None) -> Lineage:
    """What is remembered is not looked at."""
    return Lineage.CURRENT


def _compare_numbers(written: Sequence[Generation], remembered: Generation | None) -> Lineage:
    """A start that was counted as often is taken for the same start."""
    if remembered is None or (written and written[-1].number >= remembered.number):
        return Lineage.CURRENT
    return Lineage.BEHIND


def _admit_newer(known: Node | None, event: RegisterNode, *, alive: bool, unheard: bool) -> int:
    """A newer incarnation does not wait for a lease."""
    if known is None:
        return event.incarnation or 1
    is_same = (event.directory, event.endpoints) == (known.directory, known.endpoints)
    return max(event.incarnation, known.incarnation + (not is_same))


# --- stores --------------------------------------------------------------------------------------------------------------


async def _stage_unsynced(
    self: SimChunkStore, update: Update, version: int, chain_version: int, prewritten: Prewritten | None = None
) -> StageResult:
    """Answered at once; whether a crash finds it is a matter of luck."""
    result = await MemoryChunkStore.stage(self, update, version, chain_version, prewritten)
    if result.code is Code.OK:
        before = self.chunks[update.chunk]
        self.unsynced.add_change(update.chunk, type(before)(before.committed))
    return result


def _after_crash_without_rows(self: SimChunkStore, prng: Prng) -> SimChunkStore:
    """Channel rows were in memory only: the next start knows none."""
    after = _real_after_crash(self, prng)
    after.channel_rows.clear()
    after._epochs.clear()
    return after


_real_after_crash = SimChunkStore.reopen_after_crash


def _read_many_dirty(
    self: SimChunkStore, chunks: Sequence[ChunkId], batch: ReadGather, which: Sequence[int], *, refuse_dirty: bool
) -> Sequence[int]:
    """The committed version is shown while another is pending."""
    for index in which:
        result = MemoryChunkStore.read(self, chunks[index], batch.offsets[index], batch.wanted[index])
        assert result is not None
        batch.put(index, self, result)
    return ()


def _read_block(self: SimChunkStore, chunk: ChunkId, offset: int, length: int) -> ReadResult | None:
    """What is read lies in a block that the next commit of the chunk frees and another one takes, pinned or not."""
    result = MemoryChunkStore.read(self, chunk, offset, length)
    if result is not None and result.pin:
        block = bytearray(b"".join(bytes(part) for part in result.parts))  # type: ignore[arg-type]
        result.parts = (memoryview(block),)
        self.__dict__.setdefault("_blocks", {}).setdefault(chunk, []).append(block)
    return result


def _commit_frees_block(self: SimChunkStore, chunk: ChunkId, version: int, tag: Tag, result: UpdateResult) -> None:
    for block in self.__dict__.get("_blocks", {}).pop(chunk, ()):
        block[:] = b"#" * len(block)
    _real_commit(self, chunk, version, tag, result)


_real_commit = SimChunkStore.commit


# --- leases --------------------------------------------------------------------------------------------------------------


def _lease_for_ever(self: StorageService, *_: object) -> int:
    return 1 << 62


def _lease_twice(self: Lease, sent_at: int, lease_ns: int) -> None:
    """The node believes in its lease for longer than the manager does."""
    self.until = max(self.until, sent_at + 2 * lease_ns)


async def _once_counting_from_receipt(self: Member) -> None:
    lease, clock = self.lease, self._clock
    extend = lease.extend
    lease.extend = lambda sent_at, lease_ns: extend(clock.now(), lease_ns)  # type: ignore[method-assign]
    try:
        await _real_once(self)
    finally:
        del lease.extend


_real_once = Member._send_heartbeat


# --- clients -------------------------------------------------------------------------------------------------------------


def _plan_with_new_tags(self: UpdateCall, indices: Any) -> Any:
    """What is sent again is sent as a new update."""
    again = list(indices)
    for index in again:
        state = self._updates[index]
        if state.attempt and state.seq and (tag := self._channels._pool.acquire()) is not None:
            self._channels._pool.release(state.channel)
            state.channel, state.seq = tag
    return _real_plan(self, again)


_real_plan = UpdateCall._plan


def _draws_no_tag_for_pages(write: WriteIO) -> bool:
    """Puts and removals of pages are sent without a tag, and sent again when no answer comes."""
    return _real_draws_tag(write) and not _is_page(write.chunk)


_real_draws_tag = updates._draws_tag


def _explain_malformed_but_pages(update: Update) -> str:
    """A target takes what it gets."""
    return "" if _is_page(update.chunk) else _real_explain_malformed(update)


_real_explain_malformed = explain_malformed


def _is_page(chunk: ChunkId) -> bool:
    return chunk_file(chunk) is None


def _apply_missing_deltas(self: MgmtdClient, update: RoutingUpdate) -> None:
    """Every third delta only moves the version on."""
    missed = self.__dict__["_sim_updates"] = self.__dict__.get("_sim_updates", 0) + 1
    if update.delta.from_version and missed % 3 == 0:
        update = structs.replace(update, delta=structs.replace(update.delta, chains=()))
    _real_apply(self, update)


_real_apply = MgmtdClient._apply


# --- shells --------------------------------------------------------------------------------------------------------------


def _staged_unless_cancelled(self: TargetShell, dones: Any) -> None:
    """Nobody waits for the answer, so nothing needs to be done any more; and the chunk's lane stays taken."""
    payloads = [self.staging.find(done.chunk) for done in dones]
    gone = [isinstance(payload, Payload) and payload.job.is_cancelled for payload in payloads]
    _real_on_staged(self, [done for done, is_gone in zip(dones, gone, strict=True) if not is_gone])


_real_on_staged = TargetShell.on_staged


# --- metadata ------------------------------------------------------------------------------------------------------------


def _with_any_length(
    ctx: Any, inode: Inode, length: int | None, modified: bool, truncations: int | None = None, **told: Any
) -> Inode:
    """What storage said of the length holds, whoever has cut the file meanwhile."""
    return _grown(ctx, inode, length, modified, None, **told)


def _grown(ctx: Any, inode: Inode, length: int | None, modified: bool, truncations: int | None = None, **told: Any) -> Inode:
    """A length may rise while a truncation cuts."""
    after = with_written_length(ctx, structs.replace(inode, trim=None), length, modified, truncations, **told)
    return structs.replace(after, trim=inode.trim)


async def _trim_nothing(*_: object) -> None:
    """The duty asks storage although a truncation is still cutting."""


def _truncated_if_shorter(ctx: Any, inode: Inode, length: int) -> Inode:
    """A truncation counts only when the recorded length shrinks."""
    after = with_truncated_length(ctx, inode, length)
    return after if length < inode.length else structs.replace(after, trim=None, truncations=inode.truncations)


def _truncated_as_recorded(ctx: Any, inode: Inode, length: int) -> Inode:
    """It counts, but cuts only what the recorded length covers."""
    after = with_truncated_length(ctx, inode, length)
    return after if length < inode.length else structs.replace(after, trim=None)


def _submit_cutting_first(self: ChangeExecutor, ctx: Any, request: Any, done: Any) -> None:
    """The chunks are cut before the length changes."""

    async def cut() -> None:
        inode = await self._kv.read(lambda txn: find_by_content(txn, request.content))
        assert inode is not None
        await self._trimmer._cut(structs.replace(inode, trim=Trim(inode.truncations + 1, request.length)))
        _real_submit(self, ctx, request, done)

    if isinstance(request, Truncate):
        self._tasks.start(cut())
    else:
        _real_submit(self, ctx, request, done)


_real_submit = ChangeExecutor.submit


def _check_nothing(inode: Inode) -> None:
    """Writers learn of a truncation that is still cutting."""


async def _still_presumed_dead(*_: object) -> bool:
    """Who was found to be silent for too long stays dead, whatever was heard since."""
    return True


async def _revive_nothing(*_: object) -> None:
    """Who was silent for too long is dead, and what it says afterwards does not count."""
    return None


# --- the trouble a bug shows in ------------------------------------------------------------------------------------------


def _contended(swarm: ClusterSwarm) -> ClusterSwarm:
    """Everybody at the same chunk at the same time."""
    return replace(
        swarm, chunks=1, clients=3, chunk_operations=60, file_operations=0, page_operations=0, trouble_ns=swarm.trouble_ns // 4
    )


def _cut_off(swarm: ClusterSwarm) -> ClusterSwarm:
    """Nodes that the managers do not hear while clients do."""
    return replace(_contended(swarm), reconfigure=True, storages=3, replicas=3, isolations=2, trouble_ns=9 * SECOND)


def _uneven_wires(swarm: ClusterSwarm) -> ClusterSwarm:
    """Most frames are quick and some are not: while an update waits for one of those, much else happens."""
    uneven = replace(swarm.links, latency_min_ns=MILLISECOND, latency_max_ns=5 * MILLISECOND, tail_ns=2 * SECOND, tail_chance=200)
    return replace(_contended(swarm), links=uneven, storages=3, replicas=3)


def _lossy(swarm: ClusterSwarm) -> ClusterSwarm:
    uneven = _uneven_wires(swarm)
    return replace(uneven, links=replace(uneven.links, cut_chance=2500))


def _contended_pages(swarm: ClusterSwarm) -> ClusterSwarm:
    """Everybody at a few pages, over wires that break."""
    lossy = _lossy(swarm)
    return replace(lossy, chunk_operations=3, page_operations=120, pages=1, page_bytes=100, trouble_ns=swarm.trouble_ns)


def _crashing(swarm: ClusterSwarm) -> ClusterSwarm:
    return replace(swarm, crashes=4, chunks=1)


BUGS: dict[str, ServiceBug] = {
    "stage_unsynced": ServiceBug(
        "a stage is answered before it is durable", [(SimChunkStore, "stage", _stage_unsynced)], seeds=20, focus=_crashing
    ),
    "rows_in_memory": ServiceBug(
        "channel rows do not survive a restart",
        [(SimChunkStore, "reopen_after_crash", _after_crash_without_rows)],
        scene="retry_after_a_restart",
    ),
    "reads_over_pending": ServiceBug(
        "a read shows the committed version while another is pending",
        [(SimChunkStore, "read_many", _read_many_dirty)],
        scene="read_while_an_update_is_under_way",
    ),
    "frees_pinned_block": ServiceBug(
        "a block is freed while a reader has it pinned",
        [(SimChunkStore, "read", _read_block), (SimChunkStore, "commit", _commit_frees_block)],
        scene="overwrite_what_is_being_read",
    ),
    "no_lease": ServiceBug(
        "the shells do not ask for the lease",
        [(StorageService, "lease_until", _lease_for_ever)],
        scene="a_head_that_was_cut_off",
    ),
    "lease_twice": ServiceBug(
        "a node believes in its lease for twice as long", [(Lease, "extend", _lease_twice)], seeds=20, focus=_cut_off
    ),
    "lease_from_receipt": ServiceBug(
        "the lease counts from the answer to a heartbeat, not from its sending",
        [(Member, "_send_heartbeat", _once_counting_from_receipt)],
        scene="leases_do_not_overlap",
    ),
    "retry_is_new": ServiceBug(
        "a client counts a retry as a new update",
        [(UpdateCall, "_plan", _plan_with_new_tags)],
        scene="retry_after_a_lost_answer",
    ),
    "kv_untagged": ServiceBug(
        "puts and removals of pages carry no tag",
        [(updates, "_draws_tag", _draws_no_tag_for_pages), (admitter, "explain_malformed", _explain_malformed_but_pages)],
        seeds=20,
        focus=_contended_pages,
    ),
    "page_length_of_buffer": ServiceBug(
        "a page is taken for as long as the buffer that it was read into",
        [(page_io, "_status_of_read", believe_the_buffer)],
        seeds=20,
        focus=_contended_pages,
    ),
    "misses_deltas": ServiceBug(
        "a watcher misses every third delta of the routing info", [(MgmtdClient, "_apply", _apply_missing_deltas)], seeds=20,
        focus=_crashing,
    ),
    "cancelled_leaks_lane": ServiceBug(
        "an update whose caller has gone keeps its chunk's lane for ever",
        [(TargetShell, "on_staged", _staged_unless_cancelled)],
        seeds=60,
        focus=_lossy,
    ),
    "repair_over_truncation": ServiceBug(
        "the repair of a dead writer's file length undoes a truncation that came in between",
        [(sessions, "with_written_length", _with_any_length)],
        scene="truncate_while_a_dead_writer_is_buried",
    ),
    "repair_before_cut": ServiceBug(
        "the repair of a dead writer's file length believes storage while a truncation is still cutting",
        [(sessions, "with_written_length", _grown), (SessionsDuty, "_finish_trim", _trim_nothing)],
        scene="bury_while_a_truncation_is_stuck",
    ),
    "counts_if_shorter": ServiceBug(
        "a truncation counts only when the recorded length shrinks",
        [(truncate_op, "with_truncated_length", _truncated_if_shorter)],
        scene="truncate_what_is_not_published",
    ),
    "cuts_what_is_recorded": ServiceBug(
        "a truncation cuts only as far as the recorded length",
        [(truncate_op, "with_truncated_length", _truncated_as_recorded)],
        scene="truncate_what_is_not_published",
    ),
    "cuts_before_length": ServiceBug(
        "the chunks are cut before the length changes",
        [(ChangeExecutor, "submit", _submit_cutting_first)],
        scene="read_while_a_file_is_truncated",
    ),
    "grows_while_cut": ServiceBug(
        "a file grows while a truncation is still cutting",
        [
            (sync_op, "with_written_length", _grown),
            (trims, "check_trimmed", _check_nothing),
        ],
        scene="write_on_while_a_truncation_is_stuck",
    ),
    "silent_is_dead": ServiceBug(
        "a writer that was silent for too long cannot close its file any more",
        [(sessions, "_revive", _revive_nothing)],
        scene="a_silent_writer_writes_on",
    ),
    "prunes_who_came_back": ServiceBug(
        "the sessions of a silent writer are ended without asking again whether it was heard of",
        [(sessions_duty, "is_presumed_dead", _still_presumed_dead)],
        scene="a_writer_is_heard_while_its_sessions_are_ended",
    ),
    **APPEND_BUGS,
    **INLINE_BUGS,
    **MOVE_BUGS,
    **REPLACE_BUGS,
    **READER_BUGS,
    **HOLE_BUGS,
    **XATTR_BUGS,
    **LOCK_BUGS,
    **LEASE_BUGS,
    **REMEMBERED_BUGS,
    "frees_page_block": ServiceBug(
        "the block of a page that is evicted is used again while somebody reads it",
        [(SimChunkStore, "read", _read_block), (SimChunkStore, "commit", _commit_frees_block)],
        scene="read_a_page_while_it_is_evicted",
    ),
    **PAGE_BUGS,
    **DAMAGE_BUGS,
    **NAMESPACE_BUGS,
    **{name: ServiceBug(what, patches, scene=scene) for name, (what, patches, scene) in POSIX_BUGS.items()},
    "rolled_back_is_whole": ServiceBug(
        "an old copy of a directory counts as the directory",
        [(generations, "compare", _compare_nothing)],
        scene="an_old_copy_is_put_back",
    ),
    "counts_starts_only": ServiceBug(
        "an old copy is told by the number of its starts alone",
        [(generations, "compare", _compare_numbers)],
        scene="all_but_the_manager_is_put_back",
    ),
    "copy_replaces_at_once": ServiceBug(
        "whoever has counted more starts replaces the process that runs",
        [(managed_nodes, "admit_incarnation", _admit_newer)],
        scene="a_copy_begins_beside_the_original",
    ),
    **CACHE_BUGS,
    **UPGRADE_BUGS,
    **MOUNT_BUGS,
    **CAPABILITY_BUGS,
    **CLIENT_BUGS,
    **SHORT_CIRCUIT_BUGS,
    **DEPARTURE_BUGS,
}  # fmt: skip
