"""The source's side of a resync, against a successor that is a store and does what it is told."""

from __future__ import annotations

import pytest

from fs3.base.ids import TargetId
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.core.craq.effects import FillDone
from fs3.core.craq.events import Tick
from fs3.core.craq.position import position_in
from fs3.core.craq.resync.machine import Resync
from fs3.core.craq.resync.plan import ResyncLimits
from fs3.core.craq.resync.rows import compare_ranges, list_rows
from fs3.core.craq.resync.steps import (
    Compare,
    CompareAnswer,
    CopyLost,
    Fill,
    Finish,
    FinishAnswer,
    ListRows,
    ListRowsAnswer,
    MergeAnswer,
    MergeChannels,
    Pace,
    PositionChanged,
    ResyncEffect,
    ResyncEvent,
    ResyncPhase,
)
from fs3.model.chunk import UpdateKind, UpdateResult
from fs3.sim.ring1.chunks import SimChunks
from fs3.sim.ring1.one_replica import chain, chunk, tag, write

LIMITS = ResyncLimits(
    range_chunks=2,
    ranges_max=2,
    queries_max=2,
    list_max=3,
    fills_max=2,
    bytes_max=1000,
    channels_max=2,
    finish_ns=SECOND,
    retry_min_ns=10 * MILLISECOND,
    retry_max_ns=40 * MILLISECOND,
)


def put(chunks: SimChunks, number: int, data: bytes = b"data", version: int = 1, seq: int = 0) -> None:
    """Stage and commit."""
    chunks.stage(write(seq, number, data, version=version, kind=UpdateKind.FILL, client=number + 1))
    owner = tag(seq, number + 1) if seq else tag(0)
    chunks.commit(chunk(number), version, owner, UpdateResult(Code.OK, version))


class Pair:
    """A source and the store of its successor. Requests wait until they are answered."""

    def __init__(self, limits: ResyncLimits = LIMITS) -> None:
        self.mine, self.theirs = SimChunks(), SimChunks()
        self.machine = Resync(TargetId(1), self.mine, limits)
        self.now = 0
        self.waiting: list[ResyncEffect] = []
        self.done: list[ResyncEffect] = []
        self.incarnation = 5

    def feed(self, event: ResyncEvent) -> list[ResyncEffect]:
        effects = self.machine.step(self.now, event)
        self.waiting += effects
        return effects

    def place(self, version: int = 1, *, syncing: bool = True) -> list[ResyncEffect]:
        new = chain(version, 1, syncing=(2,)) if syncing else chain(version, 1, 2)
        self.waiting.clear()
        return self.feed(PositionChanged(position_in(new, TargetId(1)), len(self.mine.records)))

    def answer(self, effect: ResyncEffect, code: Code = Code.OK) -> list[ResyncEffect]:
        """Carry out one effect."""
        self.waiting.remove(effect)
        self.done.append(effect)
        who = self.incarnation
        ok = code is Code.OK
        if isinstance(effect, Compare):
            return self.feed(
                CompareAnswer(effect.request, code, who, compare_ranges(self.theirs, (), effect.ranges) if ok else ())
            )
        if isinstance(effect, ListRows):
            rows, more = list_rows(self.theirs, (), effect.begin, effect.end, effect.limit) if ok else ((), False)
            return self.feed(ListRowsAnswer(effect.request, code, who, rows, more))
        if isinstance(effect, MergeChannels):
            self.theirs.merge_channels(effect.rows if ok else ())
            return self.feed(MergeAnswer(effect.request, code, who))
        if isinstance(effect, Finish):
            return self.feed(FinishAnswer(effect.request, code, who))
        return self.fill(effect, code)

    def fill(self, effect: Fill, code: Code) -> list[ResyncEffect]:
        record = self.mine.records.get(effect.chunk)
        if code is Code.OK:
            self.theirs.records.pop(effect.chunk, None)
            if record is not None:
                self.theirs.records[effect.chunk] = record
        length = record.meta.length if record is not None and code is Code.OK else 0
        return self.feed(FillDone(effect.chunk, effect.chain_version, code, length, record is not None, record is None, "why"))

    def run(self) -> None:
        """Answer everything until done has been said and heard."""
        for _ in range(1000):
            if not self.waiting:
                return
            self.answer(self.waiting[0])
        raise AssertionError("it does not end")

    def tick(self, milliseconds: int) -> list[ResyncEffect]:
        self.now += milliseconds * MILLISECOND
        return self.feed(Tick())

    def count(self, kind: type[ResyncEffect]) -> int:
        return sum(isinstance(effect, kind) for effect in self.done)


def test_nothing_is_done_unless_the_successor_syncs_and_this_target_serves() -> None:
    pair = Pair()
    assert pair.place(syncing=False) == []
    assert pair.machine.phase is ResyncPhase.IDLE
    assert pair.machine.next_deadline() is None
    me_syncing = chain(2, 3, syncing=(1, 2))
    assert pair.feed(PositionChanged(position_in(me_syncing, TargetId(1)), 0)) == []


def test_an_empty_successor_gets_everything_without_being_asked_what_it_has() -> None:
    pair = Pair()
    for number in range(9):
        put(pair.mine, number, b"x" * number, seq=number)
    pair.place()
    pair.run()
    assert {key: record.content for key, record in pair.theirs.records.items()} == {
        key: record.content for key, record in pair.mine.records.items()
    }
    assert pair.theirs.rows == pair.mine.rows
    assert pair.count(ListRows) == 0
    assert isinstance(pair.done[-1], Finish)
    progress = pair.machine.progress
    assert (progress.phase, progress.chunks_done, progress.chunks_total) == (ResyncPhase.FINISHING, 9, 9)
    assert (progress.fills, progress.removals, progress.bytes_moved) == (9, 0, sum(range(9)))
    assert progress.channels == len(pair.mine.rows)


def test_only_what_differs_is_moved() -> None:
    pair = Pair()
    for number in range(20):
        put(pair.mine, number)
        put(pair.theirs, number)
    put(pair.mine, 3, b"newer", version=2)
    put(pair.mine, 7, b"other")
    del pair.mine.records[chunk(11)]
    del pair.theirs.records[chunk(12)]
    put(pair.theirs, 40)
    pair.place()
    pair.run()
    filled = [effect.chunk for effect in pair.done if isinstance(effect, Fill)]
    assert sorted(filled) == [chunk(number) for number in (3, 7, 11, 12, 40)]
    assert pair.theirs.records.keys() == pair.mine.records.keys()
    assert (pair.machine.progress.fills, pair.machine.progress.removals) == (3, 2)


def test_pages_of_a_range_that_is_full_at_the_successor_only() -> None:
    pair = Pair()
    put(pair.mine, 50)
    for number in range(12):
        put(pair.theirs, number)
    pair.place()
    pair.run()
    assert pair.theirs.records.keys() == {chunk(50)}
    assert pair.count(ListRows) > 3


def test_done_is_said_last_and_again_until_the_chain_version_changes() -> None:
    pair = Pair()
    put(pair.mine, 1, seq=1)
    pair.place()
    pair.run()
    kinds = [type(effect) for effect in pair.done]
    assert kinds == [Compare, Fill, MergeChannels, Finish]
    assert pair.tick(999) == []
    (again,) = pair.tick(1)
    assert isinstance(again, Finish)
    assert again.peer.incarnation == 5
    pair.answer(again, Code.DEADLINE)
    assert [type(effect) for effect in pair.tick(1000)] == [Finish]
    assert pair.place(2, syncing=False) == []
    assert pair.tick(5000) == []


def test_nothing_of_one_chain_version_counts_under_the_next() -> None:
    pair = Pair()
    put(pair.mine, 1)
    (compare,) = pair.place()
    pair.answer(compare)
    (fill,) = pair.waiting
    assert isinstance(fill, Fill)
    assert fill.chain_version == 1
    (anew,) = pair.place(2)
    assert isinstance(anew, Compare)
    assert anew.peer.chain_version == 2
    # Late news of the first: of a fill, and of a request.
    assert pair.feed(FillDone(chunk(1), 1, Code.OK)) == []
    assert pair.feed(CompareAnswer(1, Code.OK, 5, compare_ranges(pair.mine, (), anew.ranges))) == []
    assert pair.machine.phase is ResyncPhase.CHUNKS


def test_a_successor_that_was_restarted_is_looked_at_anew() -> None:
    pair = Pair()
    put(pair.mine, 1)
    pair.place()
    pair.run()
    pair.incarnation = 6
    pair.theirs.records.clear()
    (finish,) = pair.tick(1000)
    assert pair.answer(finish, Code.OLD_INCARNATION) == []
    assert pair.machine.phase is ResyncPhase.CHUNKS
    (compare,) = pair.tick(10)
    assert isinstance(compare, Compare)
    assert compare.peer.incarnation == 6
    pair.run()
    assert pair.theirs.records.keys() == {chunk(1)}


def test_any_answer_of_another_incarnation_begins_anew() -> None:
    pair = Pair(ResyncLimits(range_chunks=1, ranges_max=1, queries_max=1, retry_min_ns=MILLISECOND))
    put(pair.mine, 1)
    put(pair.mine, 2)
    (first,) = pair.place()
    pair.answer(first)
    pair.incarnation = 6
    second = next(effect for effect in pair.waiting if isinstance(effect, Compare))
    pair.answer(second)
    assert "begun anew" in pair.machine.progress.reason


def test_what_fails_is_asked_again_under_another_number_after_a_while() -> None:
    pair = Pair()
    put(pair.mine, 1)
    (compare,) = pair.place()
    assert pair.answer(compare, Code.BUSY) == []
    assert "BUSY" in pair.machine.progress.reason
    assert pair.machine.next_deadline() == 10 * MILLISECOND
    assert pair.tick(9) == []
    (again,) = pair.tick(1)
    assert isinstance(again, Compare)
    assert isinstance(compare, Compare)
    assert again.request > compare.request
    assert again.ranges == compare.ranges
    assert pair.answer(again, Code.UNAVAILABLE) == []
    assert pair.tick(19) == []
    assert len(pair.tick(1)) == 1
    pair.run()
    assert pair.machine.phase is ResyncPhase.FINISHING


def test_a_fill_that_fails_is_tried_again_and_holds_up_the_end() -> None:
    pair = Pair()
    put(pair.mine, 1)
    put(pair.mine, 2)
    (compare,) = pair.place()
    one, two = pair.answer(compare)
    pair.answer(one, Code.CHECKSUM)
    pair.answer(two)
    assert pair.waiting == []
    assert (pair.machine.progress.blocked, pair.machine.progress.reason) == (1, f"chunk {chunk(1).hex()}: why")
    (again,) = pair.tick(10)
    assert isinstance(again, Fill)
    assert again.chunk == chunk(1)
    pair.answer(again, Code.CHECKSUM)
    assert pair.tick(19) == []
    pair.tick(1)
    pair.run()
    assert pair.machine.phase is ResyncPhase.FINISHING
    assert pair.machine.progress.blocked == 0


def damaged_pair() -> Pair:
    """Chunk 1 of three is bad here, and the first try to fill it has found that."""
    pair = Pair()
    for number in range(3):
        put(pair.mine, number, seq=number)
    pair.mine.rot(chunk(1))
    assert not pair.mine.verify(chunk(1))
    pair.place()
    while pair.waiting:
        effect = pair.waiting[0]
        pair.answer(effect, Code.CHECKSUM if isinstance(effect, Fill) and effect.chunk == chunk(1) else Code.OK)
    assert (pair.machine.phase, pair.machine.progress.blocked) == (ResyncPhase.CHUNKS, 1)
    return pair


def test_a_chunk_that_nobody_has_is_sent_as_it_is_and_holds_up_nothing() -> None:
    pair = damaged_pair()
    (listed,) = pair.feed(CopyLost(chunk(1), 1))
    assert isinstance(listed, ListRows)
    (fill,) = pair.answer(listed)
    assert isinstance(fill, Fill)
    assert (fill.chunk, fill.damaged_version) == (chunk(1), 1)
    pair.waiting.remove(fill)
    pair.feed(FillDone(chunk(1), 1, Code.OK, 4, True, False, "", True))
    pair.run()
    progress = pair.machine.progress
    assert (progress.phase, progress.fills, progress.damaged, progress.blocked) == (ResyncPhase.FINISHING, 3, 1, 0)


def test_a_chunk_that_nobody_has_is_sent_again_when_that_fails() -> None:
    pair = damaged_pair()
    (listed,) = pair.feed(CopyLost(chunk(1), 1))
    (fill,) = pair.answer(listed)
    assert isinstance(fill, Fill)
    pair.answer(fill, Code.NO_SPACE)
    (again,) = pair.tick(1000)
    assert again == Fill(chunk(1), 1, 1)


def test_a_chunk_that_is_damaged_there_as_well_is_not_sent() -> None:
    pair = damaged_pair()
    pair.theirs.records[chunk(1)] = pair.mine.records[chunk(1)]
    (listed,) = pair.feed(CopyLost(chunk(1), 1))
    pair.answer(listed)
    pair.run()
    assert pair.machine.phase is ResyncPhase.FINISHING
    assert pair.machine.progress.damaged == 0


def test_what_is_not_bad_here_any_more_is_not_lost() -> None:
    pair = damaged_pair()
    assert pair.mine.repair(chunk(1), 1, b"data")
    assert pair.feed(CopyLost(chunk(1), 1)) == []
    (fill,) = pair.tick(1000)
    assert fill == Fill(chunk(1), 1)


def test_what_is_known_to_be_lost_stays_known_when_the_successor_restarts() -> None:
    pair = damaged_pair()
    pair.feed(CopyLost(chunk(1), 1))
    pair.incarnation += 1
    pair.run()
    pair.tick(1000)
    fills = []
    while pair.waiting:
        effect = pair.waiting[0]
        fills += [effect] if isinstance(effect, Fill) else []
        pair.answer(effect)
    assert Fill(chunk(1), 1, 1) in fills


def test_fills_under_way_are_bounded_in_number_and_bytes() -> None:
    pair = Pair()
    for number in range(6):
        put(pair.mine, number, b"x" * 600)
    pair.place()
    while isinstance(pair.waiting[0], Compare):
        pair.answer(pair.waiting[0])
    fills = [effect for effect in pair.waiting if isinstance(effect, Fill)]
    assert len(fills) == 1  # two would be 1200 bytes
    small = Pair()
    for number in range(6):
        put(small.mine, number)
    small.place()
    while isinstance(small.waiting[0], Compare):
        small.answer(small.waiting[0])
    assert len([effect for effect in small.waiting if isinstance(effect, Fill)]) == 2


def test_a_rate_spreads_fills_over_time() -> None:
    pair = Pair(ResyncLimits(range_chunks=16, fills_max=16, bytes_per_second=1000, burst_ns=100 * MILLISECOND))
    for number in range(10):
        put(pair.mine, number, b"x" * 100)
    (compare,) = pair.place()
    pair.answer(compare)
    moved = 0
    for _ in range(100):
        for effect in list(pair.waiting):
            if isinstance(effect, Fill):
                moved += 100
                pair.answer(effect)
        if moved == 1000:
            break
        assert moved <= 1000 * (pair.now + 200 * MILLISECOND) // SECOND
        due = pair.machine.next_deadline()
        assert due is not None
        pair.now = due
        pair.feed(Tick())
    assert moved == 1000
    assert pair.now >= 700 * MILLISECOND


def test_at_rest_nothing_is_asked_or_sent() -> None:
    pair = Pair(ResyncLimits(queries_max=1))
    for number in range(4):
        put(pair.mine, number)
    pair.feed(Pace(0, 0))
    assert pair.place() == []
    assert pair.tick(1000) == []
    assert [type(effect) for effect in pair.feed(Pace(1, 0))] == [Compare]
    pair.answer(pair.waiting[0])
    assert len(pair.waiting) == 1
    pair.feed(Pace(0, 0))
    assert pair.answer(pair.waiting[0]) == []
    pair.feed(Pace(8, 0))
    pair.run()
    assert pair.machine.phase is ResyncPhase.FINISHING


def test_what_is_known_to_differ_and_waits_stays_small() -> None:
    pair = Pair(ResyncLimits(range_chunks=1, ranges_max=1, queries_max=1, list_max=2, fills_max=1))
    for number in range(50):
        put(pair.mine, number)
    pair.place()
    for _ in range(40):
        work = next((effect for effect in pair.waiting if isinstance(effect, Compare)), None)
        if work is None:
            break
        pair.answer(work)
    assert "todo 2" in pair.machine.describe()
    pair.run()
    assert len(pair.theirs.records) == 50


@pytest.mark.parametrize("code", [Code.MISSING_UPDATE, Code.OLD_INCARNATION])
def test_a_successor_that_is_not_content_is_looked_at_anew(code: Code) -> None:
    pair = Pair()
    put(pair.mine, 1)
    pair.place()
    while not isinstance(pair.waiting[0], Finish):
        pair.answer(pair.waiting[0])
    pair.answer(pair.waiting[0], code)
    assert pair.machine.phase is ResyncPhase.CHUNKS
    assert [type(effect) for effect in pair.tick(10)] == [Compare]


def test_done_waits_for_what_was_pending_here() -> None:
    pair = Pair()
    put(pair.mine, 1)
    put(pair.theirs, 1)
    pair.mine.stage(write(1, 1, b"more", version=2))
    pair.place()
    pair.run()
    assert pair.machine.phase is ResyncPhase.FINISHING
    assert pair.count(Finish) == 0
    assert pair.tick(10) == []
    pair.mine.commit(chunk(1), 2, tag(1), UpdateResult(Code.OK, 2))
    (finish,) = pair.tick(10)
    assert isinstance(finish, Finish)
