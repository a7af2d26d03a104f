"""A replica that fills its successor, and one that is brought up to date."""

from __future__ import annotations

import pytest

from fs3.base.ids import ChainId, NodeId, TargetId
from fs3.base.status import Code
from fs3.core.craq.admission.table import UNTAGGED
from fs3.core.craq.effects import Effect, FillDone, Forward
from fs3.core.craq.events import FillRequested, ForwardDone, StoreOpened
from fs3.core.craq.position import ChainRole
from fs3.model.chain import Chain, LocalState, PublicState, Slot
from fs3.model.chunk import UpdateKind, UpdateResult
from fs3.sim.ring1.one_replica import (
    CHAIN,
    LIMITS,
    OneReplica,
    chain,
    chunk,
    codes,
    forwarded_write,
    kinds,
    only,
    write,
)

# --- resync ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def source() -> OneReplica:
    """Serves alone before a successor that syncs, and has chunk 0."""
    alone = OneReplica(1)
    alone.open(chain(1, 1))
    alone.complete_stage(alone.ask(write(1)))
    alone.join(chain(2, 1, syncing=(2,)))
    return alone


def filled(effects: list[Effect]) -> list[tuple[Code, bool, bool]]:
    return [(effect.code, effect.sent, effect.removed) for effect in effects if isinstance(effect, FillDone)]


def test_a_fill_sends_what_is_committed_and_stages_nothing_here(source: OneReplica) -> None:
    effects = source.feed(FillRequested(chunk(0), 2))
    forward = only(effects, Forward)
    assert kinds(effects) == ["Forward"]
    assert forward.committed
    assert (forward.update.kind, forward.update.version, forward.update.length) == (UpdateKind.FILL, 1, 4)
    assert (forward.update.tag, forward.update.data) == (UNTAGGED, None)
    meta = source.store.get(chunk(0))
    assert meta is not None
    result = UpdateResult(Code.OK, 1, meta.length, meta.checksum)
    effects = source.feed(ForwardDone(chunk(0), 1, forward.attempt, result))
    assert [(effect.code, effect.length) for effect in effects if isinstance(effect, FillDone)] == [(Code.OK, 4)]
    assert not source.replica.flights.lanes


def test_a_chunk_whose_bytes_nobody_has_is_sent_as_damaged_while_it_is_of_that_version(source: OneReplica) -> None:
    meta = source.store.get(chunk(0))
    assert meta is not None
    for damaged_version, kind in ((1, UpdateKind.FILL_BAD), (2, UpdateKind.FILL)):
        forward = only(source.feed(FillRequested(chunk(0), 2, damaged_version)), Forward)
        assert forward.committed
        assert (forward.update.kind, forward.update.length, forward.update.data) == (kind, 4, None)
        effects = source.feed(ForwardDone(chunk(0), 1, forward.attempt, UpdateResult(Code.OK, 1, meta.length, meta.checksum)))
        assert [effect.is_damaged for effect in effects if isinstance(effect, FillDone)] == [damaged_version == 1]


def test_filling_a_chunk_that_is_not_here_removes_it_there(source: OneReplica) -> None:
    forward = only(source.feed(FillRequested(chunk(5), 2)), Forward)
    assert (forward.update.kind, forward.committed) == (UpdateKind.REMOVE, False)
    effects = source.feed(ForwardDone(chunk(5), 1, forward.attempt, UpdateResult(Code.OK, 1)))
    assert filled(effects) == [(Code.OK, False, True)]


def test_updates_wait_behind_a_fill_and_a_fill_behind_an_update(source: OneReplica) -> None:
    forward = only(source.feed(FillRequested(chunk(0), 2)), Forward)
    assert source.ask(write(2, chain_version=2)) == []
    effects = source.feed(ForwardDone(chunk(0), 1, forward.attempt, UpdateResult(Code.BUSY)))
    assert filled(effects) == [(Code.BUSY, False, False)]
    assert kinds(effects) == ["FillDone", "Stage"]
    # The successor gets all of the chunk with the update: the fill that is asked for meanwhile is done with it.
    assert source.feed(FillRequested(chunk(0), 2)) == []
    effects = source.ack(source.complete_stage(effects))
    assert kinds(effects) == ["Commit", "AnswerUpdate", "FillDone"]
    assert filled(effects) == [(Code.OK, False, False)]


def test_a_fill_comes_after_an_update_that_failed(source: OneReplica) -> None:
    stage = source.ask(write(2, chain_version=2))
    assert source.feed(FillRequested(chunk(0), 2)) == []
    effects = source.complete_stage(stage, Code.NO_SPACE)
    assert kinds(effects) == ["AnswerUpdate", "Forward"]
    assert only(effects, Forward).committed


@pytest.mark.parametrize("after", [chain(3, 1, syncing=(2,)), chain(3, 1, 2), chain(3, 2, out=(1,))])
def test_a_fill_ends_with_its_chain_version(source: OneReplica, after: Chain) -> None:
    forward = only(source.feed(FillRequested(chunk(0), 2)), Forward)
    effects = source.join(after)
    assert filled(effects) == [(Code.WRONG_CHAIN_VERSION, False, False)]
    assert source.feed(ForwardDone(chunk(0), 1, forward.attempt, UpdateResult(Code.OK, 1))) == []
    assert filled(source.feed(FillRequested(chunk(0), 2))) == [(Code.WRONG_CHAIN_VERSION, False, False)]


def test_a_fill_that_is_not_answered_is_sent_again(source: OneReplica) -> None:
    first = only(source.feed(FillRequested(chunk(0), 2)), Forward)
    again = only(source.tick(100), Forward)
    assert again.committed
    assert again.attempt > first.attempt


def test_other_bytes_at_the_successor_end_a_fill(source: OneReplica) -> None:
    forward = only(source.feed(FillRequested(chunk(0), 2)), Forward)
    effects = source.feed(ForwardDone(chunk(0), 1, forward.attempt, UpdateResult(Code.OK, 1, 4, 99)))
    assert filled(effects) == [(Code.REPLICAS_DISAGREE, False, False)]


def test_there_is_not_room_for_any_number_of_fills(source: OneReplica) -> None:
    for number in range(LIMITS.flights_max):
        assert kinds(source.feed(FillRequested(chunk(number), 2))) == ["Forward"]
    assert filled(source.feed(FillRequested(chunk(9), 2))) == [(Code.BUSY, False, False)]


def test_who_is_up_to_date(body: OneReplica) -> None:
    assert OneReplica(2).replica.local_state is None
    assert body.replica.local_state is LocalState.UPTODATE
    body.join(chain(2, 1, 3, out=(2,)))
    assert body.replica.local_state is LocalState.ONLINE
    body.join(chain(3, 1, 3, syncing=(2,)))
    assert body.replica.local_state is LocalState.ONLINE
    assert body.replica.finish_resync(CHAIN, 3, TargetId(3), body.incarnation) is Code.OK
    assert body.replica.local_state is LocalState.UPTODATE
    # What it was told counts under that chain version only.
    body.join(chain(4, 1, 3, syncing=(2,)))
    assert body.replica.local_state is LocalState.ONLINE
    last = Chain(CHAIN, 5, tuple(Slot(TargetId(number), NodeId(number), PublicState.LASTSRV) for number in (1, 2)))
    body.join(last)
    assert body.replica.local_state is LocalState.UPTODATE


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ((CHAIN, 1, 3, 1), Code.OK),
        ((CHAIN, 1, 3, 0), Code.OK),
        ((CHAIN, 1, 3, 2), Code.OLD_INCARNATION),
        ((CHAIN, 2, 3, 1), Code.WRONG_CHAIN_VERSION),
        ((8, 1, 3, 1), Code.WRONG_CHAIN_VERSION),
        ((CHAIN, 1, 1, 1), Code.NOT_SERVING),
    ],
)
def test_questions_of_a_resync_are_fenced(asked: tuple[ChainId, int, TargetId, int], code: Code) -> None:
    joining = OneReplica(2)
    assert joining.replica.check_resync_fence(*asked) is Code.NOT_SERVING
    joining.open(chain(1, 1, 3, syncing=(2,)))
    assert joining.replica.check_resync_fence(*asked) is code
    if asked[3]:
        assert joining.replica.finish_resync(*asked) is code
    joining.join(chain(2, 1, 3, 2))
    assert joining.replica.check_resync_fence(CHAIN, 2, TargetId(3), 1) is Code.NOT_SERVING


def test_done_is_believed_of_a_known_incarnation_only() -> None:
    joining = OneReplica(2)
    joining.open(chain(1, 1, syncing=(2,)))
    assert joining.replica.finish_resync(CHAIN, 1, TargetId(1), 0) is Code.OLD_INCARNATION


def test_a_store_that_is_not_whole_takes_no_place_but_to_be_brought_up_to_date() -> None:
    lost = OneReplica(2)
    lost.join(chain(1, 1, 2))
    lost.feed(StoreOpened((), whole=False))
    assert lost.replica.readable_chain is None
    assert lost.replica.local_state is LocalState.ONLINE
    assert codes(lost.ask(forwarded_write(1))) == [Code.NOT_SERVING]
    lost.join(chain(2, 1, syncing=(2,)))
    assert lost.replica.position.role is ChainRole.SYNCING
    assert lost.replica.finish_resync(CHAIN, 2, TargetId(1), 1) is Code.OK
    assert lost.replica.local_state is LocalState.UPTODATE
    lost.join(chain(3, 1, 2))
    assert lost.replica.position.is_last
    assert lost.replica.readable_chain is not None
