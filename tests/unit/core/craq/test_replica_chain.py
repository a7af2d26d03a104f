"""A replica over restarts and changes of its chain."""

from __future__ import annotations

import msgspec
import pytest

from fs3.base.ids import TargetId
from fs3.base.status import Code
from fs3.core.craq.admission.table import UNTAGGED
from fs3.core.craq.effects import AnswerUpdate, Commit, Forward
from fs3.core.craq.events import BirthStored, StoreOpened
from fs3.model.chunk import UpdateKind, UpdateResult
from fs3.sim.ring1.one_replica import (
    CHAIN,
    OneReplica,
    chain,
    chunk,
    codes,
    forwarded_write,
    kinds,
    only,
    put_through,
    remove,
    tag,
    write,
)

# --- restarts --------------------------------------------------------------------------------------------------------


def test_a_restarted_tail_commits_what_it_finds_pending(tail: OneReplica) -> None:
    tail.complete_stage(tail.ask(forwarded_write(1, from_target=TargetId(2))))
    tail.restart(lost=1)
    assert tail.store.get(chunk(0)).pending == 1  # type: ignore[union-attr]
    effects = tail.open(chain(1, 1, 2, 3))
    (commit,) = effects
    assert isinstance(commit, Commit)
    assert (commit.version, commit.tag) == (1, tag(1))


def test_a_restarted_head_sends_what_it_finds_pending_whole(head: OneReplica) -> None:
    head.complete_stage(head.ask(write(1)))
    head.complete_stage(head.ask(remove(1, 1, client=2)))
    head.restart()
    effects = head.open(chain(1, 1, 2, 3))
    fill, removal = (effect.update for effect in effects if isinstance(effect, Forward))
    assert (fill.kind, fill.data, fill.length, fill.tag) == (UpdateKind.FILL, None, 4, tag(1))
    assert (removal.kind, removal.version, removal.tag) == (UpdateKind.REMOVE, 1, tag(1, client=2))
    # The client that asks again attaches.
    assert head.ask(write(1)) == []
    assert codes(head.ack([effects[0]])) == [Code.OK]


def test_a_restarted_target_that_is_out_waits_for_the_chain(body: OneReplica) -> None:
    body.complete_stage(body.ask(forwarded_write(1)))
    body.restart()
    assert body.open(chain(2, 1, 3, out=(2,))) == []
    # Everybody was lost, and it is the first to come back.
    effects = body.join(chain(4, 2, out=(1, 3)))
    assert kinds(effects) == ["Commit"]


def test_what_an_earlier_chain_version_left_pending_is_dropped_by_who_syncs(body: OneReplica) -> None:
    body.complete_stage(body.ask(forwarded_write(1)))
    body.restart()
    effects = body.open(chain(2, 1, 3, syncing=(2,)))
    assert kinds(effects) == ["DropPending"]
    # As long as a loss of power could bring it back, nothing may be concluded from what is here.
    assert body.replica.check_resync_fence(CHAIN, 2, TargetId(3), 0) is Code.BUSY
    assert body.replica.finish_resync(CHAIN, 2, TargetId(3), body.incarnation) is Code.BUSY
    assert body.complete_drop(effects) == []
    assert body.store.get(chunk(0)) is None
    assert body.replica.check_resync_fence(CHAIN, 2, TargetId(3), 0) is Code.OK


def test_a_stage_that_outlives_its_chain_version_is_dropped_by_who_syncs(body: OneReplica) -> None:
    stage = body.ask(forwarded_write(1))
    assert body.join(chain(2, 1, 3, out=(2,))) == []
    assert body.join(chain(3, 1, 3, syncing=(2,))) == []
    assert body.replica.check_resync_fence(CHAIN, 3, TargetId(3), 0) is Code.BUSY
    effects = body.complete_stage(stage)
    assert kinds(effects) == ["AnswerUpdate", "DropPending"]
    assert codes(effects) == [Code.NOT_SERVING]
    assert body.replica.check_resync_fence(CHAIN, 3, TargetId(3), 0) is Code.BUSY
    body.complete_drop(effects)
    assert body.replica.check_resync_fence(CHAIN, 3, TargetId(3), 0) is Code.OK


def test_a_sending_that_comes_again_after_the_commit_is_answered_with_what_is_committed(body: OneReplica) -> None:
    put_through(body, forwarded_write(1))
    (reply,) = body.ask(forwarded_write(1, serial=2))
    assert isinstance(reply, AnswerUpdate)
    meta = body.store.get(chunk(0))
    assert meta is not None
    assert reply.result == UpdateResult(Code.OK, 1, meta.length, meta.checksum)


def test_a_syncing_target_that_lost_a_commit_makes_it_again() -> None:
    joining = OneReplica(2)
    joining.open(chain(1, 1, syncing=(2,)))
    fill = forwarded_write(1, kind=UpdateKind.FILL, version=5)
    joining.complete_stage(joining.ask(fill))
    joining.restart(lost=1)
    assert kinds(joining.open(chain(1, 1, syncing=(2,)))) == ["Commit"]
    assert codes(joining.ask(msgspec.structs.replace(fill, serial=2))) == [Code.OK]
    assert joining.store.get(chunk(0)).committed == 5  # type: ignore[union-attr]


def test_removing_nothing_without_a_tag_is_done_at_once(head: OneReplica) -> None:
    (reply,) = head.ask(remove(0, tag=UNTAGGED))
    assert isinstance(reply, AnswerUpdate)
    assert reply.result == UpdateResult(Code.OK)


# --- chain changes ---------------------------------------------------------------------------------------------------


def test_what_waits_for_a_lost_successor_goes_to_the_next(head: OneReplica) -> None:
    first = head.complete_stage(head.ask(write(1)))
    effects = head.join(chain(2, 1, 3, out=(2,)))
    forward = only(effects, Forward)
    assert (forward.target, forward.update.chain_version) == (3, 2)
    assert head.ack(first) == []
    assert kinds(head.ack(effects)) == ["Commit", "AnswerUpdate"]


def test_who_becomes_the_tail_commits_what_it_has_sent(body: OneReplica) -> None:
    body.complete_stage(body.ask(forwarded_write(1)))
    effects = body.join(chain(2, 1, 2, out=(3,)))
    assert kinds(effects) == ["Commit", "AnswerUpdate"]


def test_who_leaves_the_live_chain_refuses_everything_and_commits_nothing(body: OneReplica) -> None:
    body.complete_stage(body.ask(forwarded_write(1)))
    body.ask(forwarded_write(2, version=2, serial=2))
    effects = body.join(chain(2, 1, 3, out=(2,)))
    assert kinds(effects) == ["AnswerUpdate", "AnswerUpdate"]
    assert codes(effects) == [Code.NOT_SERVING, Code.NOT_SERVING]
    assert not body.replica.flights.lanes
    assert list(body.replica.flights.orphans) == [chunk(0)]


@pytest.mark.parametrize("gone", [None, chain(2, 1, 3)])
def test_who_leaves_while_the_disk_works_answers_when_it_is_done(body: OneReplica, gone: object) -> None:
    effects = body.ask(forwarded_write(1))
    assert body.join(gone) == []  # type: ignore[arg-type]
    effects = body.complete_stage(effects)
    assert codes(effects) == [Code.NOT_SERVING]
    assert list(body.replica.flights.orphans) == [chunk(0)]


def test_who_leaves_and_is_back_before_the_disk_is_done_goes_on(body: OneReplica) -> None:
    effects = body.ask(forwarded_write(1))
    body.join(chain(2, 1, 3, out=(2,)))
    body.join(chain(3, 2, out=(1, 3)))
    assert kinds(body.complete_stage(effects)) == ["Commit", "AnswerUpdate"]


def test_a_new_target_that_is_made_to_serve_goes_on_once_its_birth_is_stored() -> None:
    new = OneReplica(3)
    new.join(chain(2, 1, 2, syncing=(3,)))
    new.feed(StoreOpened((), is_born=False))
    staged = new.ask(forwarded_write(1, from_target=TargetId(2), chain_version=2))
    assert codes(new.join(chain(3, 1, 2, 3))) == []
    # What the disk was working on then is refused, and goes on as what a restart finds pending does.
    refused = new.complete_stage(staged)
    assert codes(refused) == [Code.NOT_SERVING]
    assert new.replica.readable_chain is None
    assert kinds(new.feed(BirthStored())) == ["Commit"]
    assert new.store.get(chunk(0)).committed == 1  # type: ignore[union-attr]


def test_who_waits_in_a_lane_is_told_of_a_new_chain_version(head: OneReplica) -> None:
    effects = head.ask(write(1))
    head.ask(write(1, client=2))
    assert codes(head.join(chain(2, 1, 2, 3))) == [Code.WRONG_CHAIN_VERSION]
    forward = only(head.complete_stage(effects), Forward)
    assert forward.update.chain_version == 2


def test_older_and_equal_chain_versions_change_nothing(head: OneReplica) -> None:
    head.complete_stage(head.ask(write(1)))
    head.join(chain(5, 1, 3))
    for version in (4, 5):
        assert head.join(chain(version, 1)) == []
    assert head.replica.position.successor == 3


def test_a_target_of_no_chain_serves_nothing(head: OneReplica) -> None:
    assert head.join(None) == []
    assert codes(head.ask(write(1))) == [Code.NOT_SERVING]
    # Old news of the chain it was in do not bring it back.
    assert head.join(chain(1, 1, 2, 3)) == []
    assert codes(head.ask(write(1))) == [Code.NOT_SERVING]


def test_a_syncing_successor_gets_updates_as_they_are_and_whole_chunks_when_it_asks() -> None:
    last = OneReplica(1)
    last.open(chain(1, 1, syncing=(2,)))
    effects = last.complete_stage(last.ask(write(1, data=b"abc", offset=5)))
    forward = only(effects, Forward)
    assert (forward.update.kind, forward.update.offset, bytes(forward.update.data or b"")) == (UpdateKind.WRITE, 5, b"abc")
    forward = only(last.ack(effects, Code.MISSING_UPDATE), Forward)
    assert (forward.update.kind, forward.update.offset, forward.update.length, forward.update.data) == (
        UpdateKind.FILL,
        0,
        8,
        None,
    )
    assert not forward.committed
    removal = only(last.complete_stage(last.ask(remove(1, 1, client=2))), Forward)
    assert removal.update.kind is UpdateKind.REMOVE


def test_who_begins_to_sync_drops_what_it_had_under_way(body: OneReplica) -> None:
    body.complete_stage(body.ask(forwarded_write(1)))
    # It missed the version in which it was out.
    effects = body.join(chain(3, 1, 3, syncing=(2,)))
    assert kinds(effects) == ["AnswerUpdate", "DropPending"]
    assert codes(effects) == [Code.NOT_SERVING]
    waits = body.ask(
        forwarded_write(
            2, kind=UpdateKind.FILL, version=4, chain_version=3, from_target=TargetId(3), serial=9, data=memoryview(b"whole")
        )
    )
    assert waits == []
    effects = body.complete_drop(effects)
    assert kinds(body.complete_stage(effects)) == ["Commit", "AnswerUpdate"]
    assert body.store.get_content(chunk(0)) == b"whole"
