from __future__ import annotations

from collections.abc import Callable

import pytest

from fs3.base.ids import NodeId, TargetId
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.base.units import MILLISECOND
from fs3.core.membership.events import Heartbeat, TargetReport
from fs3.core.membership.manager import Manager
from fs3.core.membership.state import Rows
from fs3.model.chain import LocalState, PublicState
from fs3.model.chunk import ChannelRow, UpdateKind, UpdateResult
from fs3.sim.checkers import convergence, durability, leases, once
from fs3.sim.ring1.chunks import SimChunks, apply_update
from fs3.sim.ring1.fingerprint import Fingerprint
from fs3.sim.ring1.heap import Heap
from fs3.sim.ring1.links import Links
from fs3.sim.ring1.manager_model import ManagerModel
from fs3.sim.ring1.messages import ChainNotice, ChainRequest, HeartbeatCall, Message, RegisterCall
from fs3.sim.ring1.one_replica import OneReplica, chain, chunk, remove, tag, write
from fs3.sim.ring1.swarm import draw_swarm

OK = UpdateResult(Code.OK, 1)


# --- heap and fingerprint --------------------------------------------------------------------------------------------


def test_things_happen_in_order_of_time_then_of_scheduling() -> None:
    heap = Heap()
    happened: list[tuple[int, str]] = []

    def note(name: str) -> None:
        happened.append((heap.now, name))

    heap.after(20, note, "late")
    heap.after(10, note, "first")
    heap.after(10, note, "second")
    while heap.step():
        pass
    assert happened == [(10, "first"), (10, "second"), (20, "late")]
    assert not heap.step()
    assert heap.steps == 3


def test_fingerprints_notice_order_and_every_bit() -> None:
    def of(*numbers: int) -> str:
        fingerprint = Fingerprint()
        fingerprint.add(*numbers)
        return str(fingerprint)

    assert of(1, 2) == of(1, 2)
    assert len({of(1, 2), of(2, 1), of(1, 3), of(1), of(1 << 63)}) == 5
    one, other = Fingerprint(), Fingerprint()
    one.add_bytes(b"ab")
    other.add_bytes(b"ba")
    assert str(one) != str(other)


# --- the store -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "offset", "data", "before", "after"),
    [
        (UpdateKind.WRITE, 0, b"ab", None, b"ab"),
        (UpdateKind.WRITE, 1, b"XY", b"abcd", b"aXYd"),
        (UpdateKind.WRITE, 3, b"X", b"a", b"a\0\0X"),
        (UpdateKind.PUT, 0, b"ab", None, b"ab"),
        (UpdateKind.FILL, 0, b"ab", b"abcdef", b"ab"),
        (UpdateKind.TRUNCATE, 2, b"", b"abcd", b"ab"),
        (UpdateKind.TRUNCATE, 9, b"", b"abcd", b"abcd"),
        (UpdateKind.REMOVE, 0, b"", b"abcd", None),
    ],
)
def test_what_updates_do(kind: UpdateKind, offset: int, data: bytes, before: bytes | None, after: bytes | None) -> None:
    assert apply_update(kind, offset, data, before) == after


def stored(*seqs: int) -> SimChunks:
    """A store with these writes of one chunk staged and committed, none of them covered by a barrier."""
    chunks = SimChunks()
    for version, seq in enumerate(seqs, 1):
        chunks.stage(write(seq, data=b"%d" % seq, version=version))
        chunks.commit(chunk(0), version, tag(seq), UpdateResult(Code.OK, version))
    return chunks


def test_a_crash_shows_lost_commits_as_pending_with_everything_they_had() -> None:
    chunks = stored(1, 2)
    chunks.end_barrier(1)
    assert chunks.unsynced_count == 1
    chunks.crash(1)
    meta = chunks.get(chunk(0))
    assert meta is not None
    assert (meta.committed, meta.pending, meta.pending_tag) == (1, 2, tag(2))
    assert chunks.get_channel(tag(1).client, 0).seq == 1  # type: ignore[union-attr]
    assert chunks.get_content(chunk(0)) == b"1"
    assert chunks.get_pending_content(chunk(0), 2) == b"2"
    assert chunks.has_update(tag(2))
    chunks.commit(chunk(0), 2, tag(2), OK)
    assert chunks.get_content(chunk(0)) == b"2"
    assert chunks.applications[tag(2)] == 1


def test_a_barrier_covers_what_was_committed_before_it_began() -> None:
    chunks = stored(1)
    mark = chunks.begin_barrier()
    chunks.stage(write(2, 1, version=1))
    chunks.commit(chunk(1), 1, tag(2), OK)
    chunks.end_barrier(mark)
    assert chunks.unsynced_count == 1


def test_a_lost_removal_brings_the_chunk_back() -> None:
    chunks = stored(1)
    chunks.stage(remove(2, version=2))
    chunks.commit(chunk(0), 2, tag(2), OK)
    assert chunks.get(chunk(0)) is None
    chunks.crash(1)
    meta = chunks.get(chunk(0))
    assert meta is not None
    assert (meta.committed, meta.pending, meta.pending_kind) == (1, 2, UpdateKind.REMOVE)


def test_a_merged_row_survives_a_lost_commit() -> None:
    chunks = stored(5)
    chunks.merge_channels([((tag(1).client, 0), ChannelRow(4, chunk(0), OK)), ((tag(1).client, 1), ChannelRow(9, chunk(0), OK))])
    assert chunks.get_channel(tag(1).client, 0).seq == 5  # type: ignore[union-attr]
    chunks.crash(1)
    assert chunks.get_channel(tag(1).client, 0).seq == 4  # type: ignore[union-attr]
    assert chunks.get_channel(tag(1).client, 1).seq == 9  # type: ignore[union-attr]


def test_a_full_disk_refuses_what_takes_room() -> None:
    chunks = stored(1)
    chunks.is_full = True
    assert chunks.stage(write(2, version=2))[0] is Code.NO_SPACE
    assert chunks.get(chunk(0)).pending == 0  # type: ignore[union-attr]
    assert chunks.stage(remove(2, version=2))[0] is Code.OK


def test_a_changed_byte_is_noticed_and_repaired_with_the_very_version_only() -> None:
    chunks = stored(1)
    assert chunks.verify(chunk(0))
    chunks.rot(chunk(0))
    assert not chunks.verify(chunk(0))
    assert chunk(0) in chunks.bad_chunks
    assert chunks.stage(write(2, version=2))[0] is Code.CHECKSUM
    assert not chunks.repair(chunk(0), 2, b"1")
    assert not chunks.repair(chunk(0), 1, b"2")
    assert chunks.repair(chunk(0), 1, b"1")
    assert not chunks.bad_chunks


def test_dropping_what_is_pending() -> None:
    chunks = stored(1)
    chunks.stage(write(2, version=2))
    chunks.drop_pending(chunk(0))
    assert chunks.get(chunk(0)).pending == 0  # type: ignore[union-attr]
    chunks.stage(write(3, 1, version=1))
    chunks.drop_pending(chunk(1))
    assert chunks.get(chunk(1)) is None


def test_a_corrupt_stage_has_another_checksum() -> None:
    right, wrong = SimChunks(), SimChunks()
    wrong.corrupt_next = True
    assert right.stage(write(1, version=1)) != wrong.stage(write(1, version=1))


# --- checkers --------------------------------------------------------------------------------------------------------


def test_once_counts_what_survives() -> None:
    chunks = stored(1, 2)
    chunks.crash(2)
    chunks.commit(chunk(0), 1, tag(1), OK)
    assert once.explain([(1, chunks)]) == ""
    assert "update 1 of client 0001/0 2 times" in once.explain([(1, stored(1, 1))])


def test_durability_wants_every_serving_target() -> None:
    stores = {TargetId(1): stored(1), TargetId(2): SimChunks()}
    assert durability.explain(tag(1), chain(1, 1), stores) == ""
    assert "without target 2" in durability.explain(tag(1), chain(1, 1, 2), stores)
    assert durability.explain(tag(1), chain(1, 1, syncing=(2,)), stores) == ""
    assert durability.explain(tag(1), chain(1, 1, 2), {TargetId(1): stored(1)}) == ""
    stores[TargetId(2)].stage(write(1, version=1))
    assert durability.explain(tag(1), chain(1, 1, 2), stores) == ""
    assert "target 2 lost update 1" in durability.explain_end([tag(1)], chain(1, 1, 2), stores)


def test_convergence_wants_the_same_bytes_versions_and_rows() -> None:
    one, two = TargetId(1), TargetId(2)
    both = chain(1, 1, 2)
    assert convergence.explain(both, {one: stored(1), two: stored(1)}) == ""
    assert "target 1 has (1, b'1'), target 2 has (1, b'2')" in convergence.explain(both, {one: stored(1), two: stored(2)})
    assert "has None" in convergence.explain(both, {one: stored(1), two: SimChunks()})
    other_row = stored(1)
    other_row.rows.clear()
    assert "different channel rows" in convergence.explain(both, {one: stored(1), two: other_row})
    pending = stored(1)
    pending.stage(write(2, version=2))
    assert "still has" in convergence.explain(both, {one: stored(1), two: pending})


class Head:
    """What the checker asks of a host."""

    def __init__(self, target: int, *, may: bool) -> None:
        self.target = TargetId(target)
        self.replica = OneReplica(target).replica
        self._may = may

    def may_be_head(self) -> bool:
        return self._may


def test_leases_want_one_head_at_a_time() -> None:
    assert leases.explain([Head(1, may=True), Head(2, may=False)]) == ""  # type: ignore[list-item]
    wrong = leases.explain([Head(1, may=True), Head(2, may=False), Head(3, may=True)])  # type: ignore[list-item]
    assert "target 1 under chain version 0; target 3 under chain version 0" in wrong


# --- manager and network ---------------------------------------------------------------------------------------------


class Around:
    """What a manager finds around it: a clock, and lists of what it wants."""

    def __init__(self) -> None:
        self.manager_clock = 0
        self.told: list[tuple[int, Message]] = []
        self.storing: list[tuple[Callable[[Rows], None], Rows]] = []

    def tell(self, target: int, message: Message) -> None:
        self.told.append((target, message))

    def manager_at(self, due_ns: int, action: Callable[[], None]) -> None:
        self.tick = action

    def manager_stores(self, action: Callable[[Rows], None], rows: Rows) -> None:
        self.storing.append((action, rows))

    def advance(self, to_ms: int) -> None:
        """Time passes, with a tick every 5 ms; what is stored is durable at once."""
        while self.manager_clock < to_ms * MILLISECOND:
            self.manager_clock += 5 * MILLISECOND
            self.tick()
            self.store()

    def store(self) -> None:
        while self.storing:
            action, rows = self.storing.pop()
            action(rows)


def manager_of(around: Around, targets: int) -> ManagerModel:
    """A manager whose targets have registered and know the chain."""
    manager = ManagerModel(targets, 60 * MILLISECOND, 5 * MILLISECOND, 20 * MILLISECOND, around, Manager)
    for target in range(1, targets + 1):
        manager.receive(target, RegisterCall(1, 1))
        around.store()
    return manager


def beat(manager: ManagerModel, around: Around, seq: int, *targets: int) -> None:
    """These targets are up to date under the present chain version."""
    routing = manager.machine.published.version
    for target in targets:
        report = TargetReport(TargetId(target), LocalState.UPTODATE, manager.chain.version)
        manager.receive(target, HeartbeatCall(seq, Heartbeat(0, NodeId(target), 1, seq, (report,), routing)))
        around.store()


def test_the_manager_waits_for_the_lease_to_run_out() -> None:
    around = Around()
    manager = manager_of(around, 3)
    around.advance(30)
    beat(manager, around, 1, 1, 3)
    around.advance(60)
    assert manager.chain.version == 1
    around.advance(80)
    assert [(slot.target, slot.state) for slot in manager.chain.slots] == [
        (1, PublicState.SERVING),
        (3, PublicState.SERVING),
        (2, PublicState.OFFLINE),
    ]
    assert {to for to, what in around.told if isinstance(what, ChainNotice) and what.chain.version == 2} == {1, 2, 3}


def test_what_the_manager_had_not_stored_dies_with_it() -> None:
    around = Around()
    manager = manager_of(around, 3)
    stored = around.storing
    around.storing = []
    around.manager_clock = 200 * MILLISECOND
    manager.crash()
    manager.restart()
    assert manager.chain.version == 1
    assert manager.incarnation == 2
    assert not stored


def test_links_lose_double_delay_and_heal() -> None:
    prng = Prng(3)
    swarms = [draw_swarm(prng) for _ in range(200)]
    swarm = next(swarm for swarm in swarms if swarm.loss_chance > 50 and swarm.duplicate_chance > 50)
    heap = Heap()
    arrived: list[int] = []
    links = Links(heap, Prng(1), swarm, lambda node: 0, lambda source, target, incarnation, message: arrived.append(heap.now))

    def send(count: int) -> int:
        arrived.clear()
        for _ in range(count):
            links.send(1, 2, ChainRequest())
        while heap.step():
            pass
        return len(arrived)

    assert send(2000) != 2000
    assert min(arrived) >= swarm.latency_min_ns
    links.cuts.add((1, 2))
    assert send(10) == 0
    links.heal()
    begun = heap.now
    assert send(500) == 500
    assert max(arrived) <= begun + swarm.latency_max_ns
