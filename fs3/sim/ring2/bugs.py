"""Planted bugs: mistakes one could make around the protocol machines, in services and clients, each as exchanged methods.

As in ring 1 (`fs3.sim.ring1.bugs`), a simulator is trusted as far as it finds them, and the product's code knows nothing of this
file: a bug is planted by exchanging attributes for the time of a run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from msgspec import structs

from fs3.api.client import Client
from fs3.api.kvcache import KVCache, page_io
from fs3.api.space import FileSpace
from fs3.base.ids import ChunkId, chunk_file
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.client.meta.readers import Readers
from fs3.client.mgmtd.client import MgmtdClient
from fs3.client.mgmtd.member import Lease, Member
from fs3.client.storage import updates
from fs3.client.storage.router import ReplicaRouter
from fs3.client.storage.updates import UpdateCall
from fs3.core.craq.admission import admitter
from fs3.core.craq.admission.facts import explain_malformed
from fs3.core.craq.flights import Flights
from fs3.core.files.append_plan import AppendPlan
from fs3.core.files.write_plan import WriteIO
from fs3.core.kvcache.budget.page_cache import PageCache
from fs3.core.kvcache.budget.room import TargetRoom
from fs3.core.kvcache.events import EventLogs
from fs3.core.kvcache.leases import Leases
from fs3.core.membership import manager
from fs3.core.membership.generations import Lineage
from fs3.core.membership.ledger import Ledger
from fs3.core.membership.namespace_log import NamespaceLog
from fs3.core.membership.namespaces import Namespaces
from fs3.core.meta import acl, contents, entries, garbage, inline, length, locks, sessions, trims, xattrs
from fs3.core.meta.contents import find_by_content
from fs3.core.meta.length import with_truncated_length, with_written_length
from fs3.core.meta.ops import append as append_op
from fs3.core.meta.ops import close as close_op
from fs3.core.meta.ops import lock as lock_op
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
from fs3.services.meta import change_executor, inline_mover, lock_queue
from fs3.services.meta.append_queue import AppendQueue
from fs3.services.meta.change_executor import ChangeExecutor
from fs3.services.meta.duties import garbage as garbage_duty
from fs3.services.meta.duties import sessions as sessions_duty
from fs3.services.meta.duties.sessions import SessionsDuty
from fs3.services.storage import generations
from fs3.services.storage.cache import keepers
from fs3.services.storage.cache.head_records import HeadRecords
from fs3.services.storage.cache.keeper import CacheKeeper
from fs3.services.storage.cache.keepers import CacheKeepers
from fs3.services.storage.cache.limits import ChainLimits
from fs3.services.storage.forwarding.forwarder import Forwarder
from fs3.services.storage.forwarding.payloads import Payload
from fs3.services.storage.namespaces import NamespaceTable
from fs3.services.storage.queries import Queries
from fs3.services.storage.resync.source import ResyncSource
from fs3.services.storage.service import StorageService
from fs3.services.storage.target import TargetShell
from fs3.sim.planting import Patch
from fs3.sim.ring2.append_bugs import (
    forget_appends,
    grant_always,
    has_any_turn,
    plan_without_tags,
    prune_with_length,
    submit_at_once,
    take_behind_reserved,
)
from fs3.sim.ring2.cache_bugs import (
    born_by_the_client,
    count_nothing,
    evict_from_two,
    exists_while_pending,
    forget_recency,
    keep_for_files,
    none_is_deleted,
    refuse_and_forget,
    reserve_nothing,
    share_everything,
    tell_none,
)
from fs3.sim.ring2.damage_bugs import feed_without_losses, read_zeros
from fs3.sim.ring2.disk import SimChunkStore
from fs3.sim.ring2.hole_bugs import punch_outward, remove_untagged
from fs3.sim.ring2.inline_bugs import (
    append_while_moving,
    begin_by_finishing,
    delete_nothing,
    finish_without_flag,
    move_nothing,
    move_without_tag,
)
from fs3.sim.ring2.lease_bugs import (
    contains_and_renews,
    expire_nothing,
    is_never_held,
    keep_no_page,
    leaving_unseen,
    read_before_keys,
    read_without_missing,
)
from fs3.sim.ring2.lock_bugs import (
    busy_with_locks,
    check_nothing,
    conflicting_with_strangers,
    end_nothing,
    give_back_once,
    list_all,
    withdraw_the_wait_only,
)
from fs3.sim.ring2.namespace_bugs import (
    count_given_out,
    follow_the_name,
    forget_without_counting,
    know_all_since,
    lowest_free_id,
    read_with_last_next_id,
    salt_of_the_id,
    stay_with_the_id,
)
from fs3.sim.ring2.page_bugs import believe_the_buffer, keep_lost_pages, leave_to_others, members_that_serve
from fs3.sim.ring2.posix_bugs import POSIX_BUGS
from fs3.sim.ring2.reader_bugs import begin_whatever_is_queued, leave_in_queue, tell_nothing
from fs3.sim.ring2.replace_bugs import (
    get_by_inode,
    queue_nothing,
    refresh_whatever_it_has,
    replace_and_reclaim_new,
)
from fs3.sim.ring2.swarm import ClusterSwarm
from fs3.sim.ring2.xattr_bugs import (
    inherit_nothing,
    keep_privileges,
    keep_rows,
    operate_again,
    permit_beyond_the_mask,
    permit_others,
)


@dataclass(frozen=True)
class ServiceBug:
    """One planted bug."""

    what: str
    patches: Sequence[Patch]
    seeds: int = 0
    """Within so many seeds it must be found."""
    scene: str = ""
    """When seeds are slow to find it: the scene that goes wrong (`fs3.sim.ring2.scenes`)."""
    focus: Callable[[ClusterSwarm], ClusterSwarm] = lambda swarm: swarm
    """The kind of trouble it shows in, so that a budget need not be thousands: what else a seed draws stays."""

    @property
    def arranged(self) -> str:
        """The scene, as documents name it; "" without one."""
        return f"scene `{self.scene}`" if self.scene else ""


# --- directories ---------------------------------------------------------------------------------------------------------


def _compare_nothing(written: Sequence[Generation], remembered: Generation | None) -> Lineage:
    """What is remembered is not looked at."""
    return Lineage.CURRENT


def _compare_numbers(written: Sequence[Generation], remembered: Generation | None) -> Lineage:
    """A start that was counted as often is taken for the same start."""
    if remembered is None or (written and written[-1].number >= remembered.number):
        return Lineage.CURRENT
    return Lineage.BEHIND


def _admit_newer(known: Node | None, event: RegisterNode, *, alive: bool) -> int:
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


def _with_any_length(ctx: Any, inode: Inode, length: int | None, modified: bool, truncations: int | None = None) -> Inode:
    """What storage said of the length holds, whoever has cut the file meanwhile."""
    return _grown(ctx, inode, length, modified, None)


def _grown(ctx: Any, inode: Inode, length: int | None, modified: bool, truncations: int | None = None, **times: bool) -> Inode:
    """A length may rise while a truncation cuts."""
    after = with_written_length(ctx, structs.replace(inode, trim=None), length, modified, truncations, **times)
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
            (close_op, "with_written_length", _grown),
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
    "appends_unfenced": ServiceBug(
        "the chunk updates of an append are not ordered behind those of later turns",
        [(AppendPlan, "plan", plan_without_tags)],
        scene="append_while_updates_of_an_appender_are_late",
    ),
    "appends_at_once": ServiceBug(
        "whoever wants the turn to append gets it, and all of them publish",
        [
            (append_op, "_take", grant_always),
            (append_op, "_has_turn", has_any_turn),
            (AppendQueue, "submit", submit_at_once),
        ],
        scene="several_appenders_of_one_file",
    ),
    "publishes_lost_turn": ServiceBug(
        "an append is published although its turn was taken over",
        [(append_op, "_has_turn", has_any_turn)],
        scene="append_while_an_appender_cannot_publish",
    ),
    "appends_reserve": ServiceBug(
        "the place of an append that was given up stays reserved",
        [(append_op, "_take", take_behind_reserved)],
        scene="append_while_updates_of_an_appender_are_late",
    ),
    "appends_twice": ServiceBug(
        "an append whose answer was lost is carried out once more",
        [(change_executor, "operation_of", forget_appends)],
        scene="append_while_the_answer_is_lost",
    ),
    "buries_append": ServiceBug(
        "the repair of a dead appender's file takes its length from storage",
        [(SessionsDuty, "_prune", prune_with_length)],
        scene="bury_an_appender",
    ),
    "growth_loses_bytes": ServiceBug(
        "a small file that grows leaves its row, and its bytes are not given to storage",
        [(inline_mover, "plan_move", move_nothing)],
        scene="append_at_the_limit_of_a_small_file",
    ),
    "moves_in_view": ServiceBug(
        "a small file leaves its row before storage has its bytes",
        [(inline_mover, "begin_move", begin_by_finishing)],
        scene="move_while_updates_of_a_service_are_late",
    ),
    "flag_without_row": ServiceBug(
        "a small file that has grown still says that its bytes are in a row",
        [(inline_mover, "finish_move", finish_without_flag)],
        scene="append_at_the_limit_of_a_small_file",
    ),
    "moves_untagged": ServiceBug(
        "services that move the bytes of one small file do so under different names",
        [(inline_mover, "plan_move", move_without_tag)],
        scene="move_while_updates_of_a_service_are_late",
    ),
    "appends_while_moving": ServiceBug(
        "bytes are appended to a row while storage gets what was in it before",
        [(inline, "append_data", append_while_moving)],
        scene="move_while_a_service_does_not_learn_of_it",
    ),
    "keeps_rows": ServiceBug(
        "the bytes of a small file that was replaced stay in the store",
        [(inline, "delete_data", delete_nothing)],
        scene="append_at_the_limit_of_a_small_file",
    ),
    "keeps_replaced": ServiceBug(
        "a content that was replaced is not reclaimed",
        [(contents, "queue_unless_open", queue_nothing)],
        scene="two_writers_replace_a_file",
    ),
    "reclaims_new": ServiceBug(
        "what is reclaimed when a content was replaced is the new one",
        [(close_op, "replace_content", replace_and_reclaim_new)],
        scene="two_writers_replace_a_file",
    ),
    "reads_replaced": ServiceBug(
        "a reader of a content that was replaced and reclaimed reads zeros",
        [(Client, "_refresh", refresh_whatever_it_has)],
        scene="read_what_was_replaced",
    ),
    "reclaims_kept": ServiceBug(
        "a removed file that a client reads still is reclaimed",
        [(garbage, "unqueue", leave_in_queue), (garbage_duty, "begin_reclaim", begin_whatever_is_queued)],
        scene="read_on_what_was_removed",
    ),
    "reads_in_secret": ServiceBug(
        "a client does not tell what it has open, so that others remove it",
        [(Readers, "_look", tell_nothing)],
        scene="read_on_what_was_removed",
    ),
    "punches_outward": ServiceBug(
        "a hole takes the chunks that it covers in part",
        [(FileSpace, "_punch", punch_outward)],
        scene="punch_beside_writers",
    ),
    "punches_again": ServiceBug(
        "the removal of a chunk that is sent again takes what was written meanwhile",
        [(FileSpace, "_remove", remove_untagged)],
        scene="write_before_a_punch_is_told",
    ),
    "closes_replaced": ServiceBug(
        "the length that a writer of a replaced content tells counts for the new one",
        [(close_op, "get_by_content", get_by_inode)],
        scene="write_what_was_replaced",
    ),
    "appends_to_replaced": ServiceBug(
        "an appender of a replaced content appends to the new one",
        [(append_op, "get_by_content", get_by_inode)],
        scene="append_to_what_was_replaced",
    ),
    "masks_nothing": ServiceBug(
        "the mask of an ACL does not limit the users that it names",
        [(acl, "is_permitted", permit_beyond_the_mask)],
        scene="users_share_a_directory",
    ),
    "asks_one_group": ServiceBug(
        "an ACL is asked about the first group of a user only",
        [(acl, "is_permitted", permit_others)],
        scene="users_share_a_directory",
    ),
    "inherits_nothing": ServiceBug(
        "a default ACL is not inherited",
        [(entries, "inherit_grants", inherit_nothing)],
        scene="users_share_a_directory",
    ),
    "keeps_capability": ServiceBug(
        "a file that is written keeps its capability",
        [(length, "without_privileges", keep_privileges)],
        scene="a_file_with_attributes_is_changed",
    ),
    "replaces_beside_capability": ServiceBug(
        "a file that is replaced as a whole keeps its capability",
        [(close_op, "without_privileges", keep_privileges)],
        scene="a_file_with_attributes_is_changed",
    ),
    "keeps_attributes": ServiceBug(
        "extended attributes stay in the store when their file is reclaimed",
        [(xattrs, "delete_all", keep_rows)],
        scene="a_file_with_attributes_is_changed",
    ),
    "sets_again": ServiceBug(
        "a request to set an attribute is carried out again when it is repeated",
        [(change_executor, "operation_of", operate_again)],
        scene="clients_create_attributes",
    ),
    "locks_outlive_clients": ServiceBug(
        "the locks of a client that is presumed dead are not released",
        [(locks, "end_epoch", end_nothing)],
        seeds=20,
        focus=busy_with_locks,
    ),
    "locks_for_two": ServiceBug(
        "an owner that has a lock of a file gets more of it, or exclusively, even if others have it",
        [(lock_op, "conflicting", conflicting_with_strangers)],
        seeds=20,
        focus=busy_with_locks,
    ),
    "withdrawn_and_granted": ServiceBug(
        "a wait is withdrawn, and the lock that it was granted at the same time stays",
        [(lock_op, "_withdraw", withdraw_the_wait_only)],
        seeds=20,
        focus=busy_with_locks,
    ),
    "granted_after_withdrawal": ServiceBug(
        "a request for a lock that arrives after it was withdrawn is granted",
        [(lock_op, "revoke", give_back_once)],
        scene="a_lock_is_withdrawn_while_its_request_is_late",
    ),
    "lost_in_silence": ServiceBug(
        "a client is not told that its locks were released",
        [(lock_op, "check_epoch", check_nothing)],
        scene="a_lock_while_its_holder_is_cut_off",
    ),
    "waits_for_the_dead": ServiceBug(
        "a lock stays free while the first that waits for it does not come",
        [(lock_queue, "list_ready", list_all)],
        scene="a_lock_while_its_waiters_die",
    ),
    "evicts_leased": ServiceBug(
        "an eviction does not look at leases", [(Leases, "is_held", is_never_held)], scene="leased_pages_stay"
    ),
    "leases_leaving": ServiceBug(
        "a page whose eviction has begun is leased",
        [(PageCache, "leaving", property(leaving_unseen))],
        scene="lease_what_is_being_evicted",
    ),
    "lookup_renews": ServiceBug(
        "a lookup renews what keeps its pages from eviction",
        [(Queries, "contains", contains_and_renews)],
        scene="a_lookup_renews_nothing",
    ),
    "leases_for_ever": ServiceBug(
        "the leases of a worker that has died do not end",
        [(Leases, "expire", expire_nothing)],
        scene="a_lookup_renews_nothing",
    ),
    "frees_page_block": ServiceBug(
        "the block of a page that is evicted is used again while somebody reads it",
        [(SimChunkStore, "read", _read_block), (SimChunkStore, "commit", _commit_frees_block)],
        scene="read_a_page_while_it_is_evicted",
    ),
    "misses_events": ServiceBug(
        "a listener is not told that it has missed something",
        [(EventLogs, "read", read_without_missing)],
        scene="a_picture_made_of_events",
    ),
    "event_before_its_key": ServiceBug(
        "an event is told while the key of its page is still being read",
        [(EventLogs, "read", read_before_keys)],
        scene="a_picture_made_of_events",
    ),
    "key_of_a_page_that_is_gone": ServiceBug(
        "the key of a page that is removed is looked for after its block was freed",
        [(HeadRecords, "before_commit", keep_no_page)],
        scene="a_picture_made_of_events",
    ),
    "lost_while_away": ServiceBug(
        "a page is given up when all replicas that serve at the moment have damaged copies",
        [(ReplicaRouter, "members", members_that_serve)],
        scene="the_good_copies_are_away",
    ),
    "damaged_page_stays": ServiceBug(
        "a page whose copies are all damaged is removed neither by a client nor by the head",
        [(page_io, "_clean_up", leave_to_others), (CacheKeeper, "remove_lost", keep_lost_pages)],
        scene="all_copies_are_damaged",
    ),
    "lost_page_stays": ServiceBug(
        "the head keeps a page that neither it nor any other replica has the bytes of",
        [(CacheKeeper, "remove_lost", keep_lost_pages)],
        scene="the_good_copies_are_gone",
    ),
    "awaits_lost_bytes": ServiceBug(
        "a resync waits for the bytes of a file's chunk that is damaged on every replica that serves",
        [(ResyncSource, "feed", feed_without_losses)],
        scene="a_file_is_damaged_on_all_that_serve",
    ),
    "brings_zeros": ServiceBug(
        "what is brought of a damaged chunk is zeros, as if they were its bytes",
        [(Forwarder, "_read_damaged", read_zeros)],
        scene="a_file_is_damaged_on_all_that_serve",
    ),
    "namespace_not_stored": ServiceBug(
        "ids count as given out to namespaces before these are stored",
        [(Namespaces, "_version_and_next_id", count_given_out)],
        scene="nodes_know_the_namespaces",
    ),
    "namespace_id_again": ServiceBug(
        "the id of a namespace that was deleted is given to another one",
        [(Namespaces, "_next_id", lowest_free_id)],
        scene="nodes_know_the_namespaces",
    ),
    "namespace_id_unsalted": ServiceBug(
        "pages are hashed with what is the same whenever an id is given out",
        [(Namespaces, "_make_salt", salt_of_the_id)],
        scene="an_older_list_is_put_back",
    ),
    "namespaces_unproven": ServiceBug(
        "a list of namespaces that changed while it was read is taken for what there was at its end",
        [(NamespaceTable, "read", read_with_last_next_id)],
        scene="nodes_know_the_namespaces",
    ),
    "namespaces_since_election": ServiceBug(
        "a manager takes what changed since it was elected for all that a storage node has missed",
        [(NamespaceLog, "since", know_all_since)],
        scene="nodes_know_the_namespaces",
    ),
    "clears_in_silence": ServiceBug(
        "clients are not told that a namespace was cleared or deleted",
        [(Ledger, "forget_namespace", forget_without_counting)],
        scene="clear_what_a_client_goes_on_with",
    ),
    "stays_uncleared": ServiceBug(
        "a handle of a namespace that another client has cleared goes on with its old pages",
        [(KVCache, "_follow", stay_with_the_id)],
        scene="clear_what_a_client_goes_on_with",
    ),
    "namespace_by_name": ServiceBug(
        "a handle of a deleted namespace goes on with another one that is made under its name",
        [(KVCache, "_follow", follow_the_name)],
        scene="make_a_namespace_again",
    ),
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
        [(manager, "admit_incarnation", _admit_newer)],
        scene="a_copy_begins_beside_the_original",
    ),
    "evicts_from_two": ServiceBug(
        "an eviction is carried to two of three replicas",
        [(Flights, "_forward_or_commit", evict_from_two)],
        scene="evict_under_pressure",
    ),
    "budget_of_a_target": ServiceBug(
        "what one target has is compared with the budget of the whole namespace",
        [(ChainLimits, "share_of", share_everything)],
        scene="evict_under_pressure",
    ),
    "under_way_is_free": ServiceBug(
        "a put that is under way takes nothing of the budget",
        [(PageCache, "reserve", reserve_nothing)],
        scene="evict_under_pressure",
    ),
    "head_reads_alone": ServiceBug(
        "the head does not hear what was read from other replicas",
        [(CacheKeepers, "_exchange", tell_none)],
        scene="evict_under_pressure",
    ),
    "head_counts_nothing": ServiceBug(
        "a head that was restarted does not count the pages it had",
        [(CacheKeeper, "_count", count_nothing)],
        scene="fail_over_while_evicting",
    ),
    "files_find_no_room": ServiceBug(
        "a file that needs room does not have pages evicted",
        [(TargetRoom, "_find_for_room", keep_for_files)],
        scene="files_beside_a_full_cache",
    ),
    "keeps_cleared": ServiceBug(
        "the pages of a namespace that was cleared are not removed",
        [(NamespaceTable, "is_deleted", none_is_deleted)],
        scene="clear_while_putting",
    ),
    "forgets_refusal": ServiceBug(
        "a put that there was no room for is applied when a copy of it comes later",
        [(Flights, "_refuse_for_room", refuse_and_forget)],
        scene="put_beside_what_is_held",
    ),
    "exists_while_pending": ServiceBug(
        "EXISTS is answered for a page that is not committed",
        [(Flights, "on_update_received", exists_while_pending)],
        scene="put_what_is_pending",
    ),
    "expires_by_client": ServiceBug(
        "the age of a page is counted by the wall clock of its client",
        [(PageCache, "on_commit", born_by_the_client)],
        scene="expire_by_the_heads_clock",
    ),
    "forgets_recency": ServiceBug(
        "the order in which pages go is lost on a restart",
        [(keepers, "load_recency", forget_recency)],
        scene="restart_a_warm_cache",
    ),
}  # fmt: skip
