from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from fs3.base.ids import TargetId
from fs3.base.status import Code
from fs3.core.craq.admission.table import UNTAGGED
from fs3.core.craq.effects import AnswerUpdate, Commit, Effect, Forward, Stage
from fs3.core.craq.events import BirthStored, ForwardDone, StageDone, StoreOpened, UpdateReceived
from fs3.core.craq.flight import FlightPhase
from fs3.core.craq.replica import Replica
from fs3.model.chain import LocalState
from fs3.model.chunk import UpdateKind, UpdateResult
from fs3.sim.ring1.one_replica import (
    LIMITS,
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

# --- one update ------------------------------------------------------------------------------------------------------


def test_the_head_numbers_stages_forwards_and_commits_in_this_order(head: OneReplica) -> None:
    effects = head.ask(write(1))
    stage = only(effects, Stage)
    assert kinds(effects) == ["Stage"]
    assert (stage.update.version, stage.update.chain_version) == (1, 1)
    effects = head.complete_stage(effects)
    forward = only(effects, Forward)
    assert kinds(effects) == ["Forward"]
    assert (forward.target, forward.update.from_target, forward.update.version) == (2, 1, 1)
    assert forward.update.serial == forward.attempt
    assert bytes(forward.update.data or b"") == b"data"
    effects = head.ack(effects)
    assert kinds(effects) == ["Commit", "AnswerUpdate"]
    assert codes(effects) == [Code.OK]
    assert not head.replica.flights.lanes
    assert head.replica.next_deadline() is None


def test_the_tail_commits_what_it_has_staged(tail: OneReplica) -> None:
    effects = tail.complete_stage(tail.ask(forwarded_write(1, from_target=TargetId(2))))
    assert kinds(effects) == ["Commit", "AnswerUpdate"]


def test_a_chain_of_one_is_head_and_tail() -> None:
    alone = OneReplica(1)
    alone.open(chain(1, 1))
    assert kinds(alone.complete_stage(alone.ask(write(1)))) == ["Commit", "AnswerUpdate"]


def test_versions_rise_by_one_and_begin_again_after_a_removal(head: OneReplica) -> None:
    for version in (1, 2):
        put_through(head, write(version))
        assert head.store.get(chunk(0)).committed == version  # type: ignore[union-attr]
    put_through(head, remove(3))
    assert head.store.get(chunk(0)) is None
    effects = head.ask(write(4))
    assert only(effects, Stage).update.version == 1


def test_what_cannot_be_staged_leaves_nothing_behind(head: OneReplica) -> None:
    effects = head.complete_stage(head.ask(write(1)), Code.NO_SPACE)
    assert kinds(effects) == ["AnswerUpdate"]
    assert codes(effects) == [Code.NO_SPACE]
    assert not head.replica.flights.lanes
    assert not head.replica.flights.orphans


def test_a_tail_that_is_not_open_yet_takes_no_place() -> None:
    early = OneReplica(3)
    assert early.join(chain(1, 1, 2, 3)) == []
    assert early.replica.readable_chain is None
    assert codes(early.ask(forwarded_write(1, from_target=TargetId(2)))) == [Code.NOT_SERVING]
    early.feed(StoreOpened(()))
    assert early.replica.readable_chain == chain(1, 1, 2, 3)


def test_a_new_target_takes_no_place_before_its_birth_is_stored() -> None:
    early = OneReplica(3)
    early.join(chain(1, 1, 2, 3))
    early.feed(StoreOpened((), is_born=False))
    assert early.replica.local_state is LocalState.UPTODATE, "which is what its birth waits for"
    assert early.replica.readable_chain is None
    assert codes(early.ask(forwarded_write(1, from_target=TargetId(2)))) == [Code.NOT_SERVING]
    assert early.feed(BirthStored()) == []
    assert early.replica.readable_chain == chain(1, 1, 2, 3)
    assert kinds(early.complete_stage(early.ask(forwarded_write(1, from_target=TargetId(2))))) == ["Commit", "AnswerUpdate"]
    assert early.feed(BirthStored()) == [], "the answer to every heartbeat says it"


# --- exactly once ----------------------------------------------------------------------------------------------------


def test_a_repetition_gets_the_first_answer(head: OneReplica) -> None:
    put_through(head, write(1))
    put_through(head, write(2, client=2, data=b"longer"))
    effects = head.ask(write(1))
    (reply,) = effects
    assert isinstance(reply, AnswerUpdate)
    assert reply.result == UpdateResult(Code.OK, 1, 4, reply.result.checksum)


def test_a_repetition_attaches_to_the_flight_and_all_are_answered_once(head: OneReplica) -> None:
    effects = head.ask(write(1))
    assert head.ask(write(1)) == []
    effects = head.complete_stage(effects)
    assert head.ask(write(1)) == []
    effects = head.ack(effects)
    assert [effect.token for effect in effects if isinstance(effect, AnswerUpdate)] == [1, 2, 3]
    assert codes(effects) == [Code.OK] * 3


def test_there_is_a_limit_to_how_many_ask_for_one_update(head: OneReplica) -> None:
    head.ask(write(1))
    for _ in range(LIMITS.waiters_max - 1):
        assert head.ask(write(1)) == []
    assert codes(head.ask(write(1))) == [Code.BUSY]


def test_a_repetition_attaches_to_what_waits(head: OneReplica) -> None:
    effects = head.ask(write(1))
    assert head.ask(write(1, client=2)) == []
    assert head.ask(write(1, client=2)) == []
    effects = head.ack(head.complete_stage(effects))
    assert kinds(effects) == ["Commit", "AnswerUpdate", "Stage"]
    effects = head.ack(head.complete_stage(effects))
    assert [effect.token for effect in effects if isinstance(effect, AnswerUpdate)] == [2, 3]


def test_an_older_update_that_waited_behind_a_newer_of_its_channel_is_not_applied(head: OneReplica) -> None:
    # The row of the newer is set by a Commit of the very step in which the older gets its turn.
    effects = head.ask(write(6))
    assert head.ask(write(5)) == []
    effects = head.ack(head.complete_stage(effects))
    assert kinds(effects) == ["Commit", "AnswerUpdate", "AnswerUpdate"]
    assert codes(effects) == [Code.OK, Code.STALE_UPDATE]


def test_a_channel_row_is_never_set_back(head: OneReplica) -> None:
    first = head.complete_stage(head.ask(write(5, 0)))
    put_through(head, write(6, 1))
    effects = head.ack(first)
    commit = only(effects, Commit)
    assert commit.tag == UNTAGGED
    assert head.store.get_channel(tag(6).client, 0).seq == 6  # type: ignore[union-attr]


def test_commits_of_one_step_see_each_others_rows(body: OneReplica) -> None:
    body.complete_stage(body.ask(forwarded_write(6, 1, serial=1)))
    body.complete_stage(body.ask(forwarded_write(5, 0, serial=2)))
    effects = body.join(chain(2, 1, 2, out=(3,)))
    assert [effect.tag for effect in effects if isinstance(effect, Commit)] == [tag(6), UNTAGGED]
    assert body.store.get_channel(tag(6).client, 0).seq == 6  # type: ignore[union-attr]


def test_a_page_is_put_once(head: OneReplica) -> None:
    put, other = write(1, kind=UpdateKind.PUT), write(1, kind=UpdateKind.PUT, client=2)
    effects = head.ask(put)
    assert head.ask(other) == []
    effects = head.ack(head.complete_stage(effects))
    assert codes(effects) == [Code.OK, Code.EXISTS]
    assert codes(head.ask(other)) == [Code.EXISTS]


def test_a_put_that_is_sent_again_is_told_what_it_was_told(head: OneReplica) -> None:
    put = write(1, kind=UpdateKind.PUT)
    put_through(head, put)
    assert codes(head.ask(put)) == [Code.OK]
    put_through(head, remove(1, tag=tag(1, client=2)))
    assert codes(head.ask(put)) == [Code.OK]
    assert head.store.get(chunk(0)) is None


def test_a_put_that_was_told_that_its_page_exists_is_told_so_again(head: OneReplica) -> None:
    put_through(head, write(1, kind=UpdateKind.PUT))
    put = write(7, kind=UpdateKind.PUT, client=2)
    assert codes(head.ask(put)) == [Code.EXISTS]
    put_through(head, remove(2))
    assert codes(head.ask(put)) == [Code.EXISTS]
    assert codes(head.ask(write(6, 1, client=2))) == [Code.STALE_UPDATE]
    assert codes(head.ask(write(7, 1, client=2))) == [Code.INVALID]
    put_through(head, write(8, kind=UpdateKind.PUT, client=2))
    assert codes(head.ask(put)) == [Code.STALE_UPDATE]


def test_what_a_put_was_told_sets_no_row_back(head: OneReplica) -> None:
    put_through(head, write(1, kind=UpdateKind.PUT))
    effects = head.complete_stage(head.ask(write(5, 1, client=2)))
    assert codes(head.ask(write(6, kind=UpdateKind.PUT, client=2))) == [Code.EXISTS]
    commit = only(head.ack(effects), Commit)
    assert commit.tag == tag(5, 2), "every replica sets the row, the head too, though its client has gone on since"
    assert codes(head.ask(write(5, 1, client=2))) == [Code.STALE_UPDATE]


def test_what_a_put_was_told_is_forgotten_with_the_chain_version(head: OneReplica) -> None:
    put_through(head, write(1, kind=UpdateKind.PUT))
    put = write(1, kind=UpdateKind.PUT, client=2)
    assert codes(head.ask(put)) == [Code.EXISTS]
    head.join(chain(2, 1, 2, 3))
    assert codes(head.ask(put)) == [Code.WRONG_CHAIN_VERSION]
    assert not len(head.replica.flights.admitter.answers)


def test_a_put_is_refused_when_its_answer_cannot_be_remembered() -> None:
    head = OneReplica(1, replace(LIMITS, answers_max=1))
    head.open(chain(1, 1, 2, 3))
    put_through(head, write(1, kind=UpdateKind.PUT))
    assert codes(head.ask(write(1, kind=UpdateKind.PUT, client=2))) == [Code.EXISTS]
    assert codes(head.ask(write(1, kind=UpdateKind.PUT, client=3))) == [Code.BUSY]
    assert codes(head.ask(write(2, kind=UpdateKind.PUT, client=2))) == [Code.EXISTS]


def test_an_update_that_was_refused_for_want_of_room_is_refused_again(head: OneReplica) -> None:
    refused = write(1, client=2)
    effects = head.complete_stage(head.ask(refused), Code.NO_SPACE)
    assert codes(effects) == [Code.NO_SPACE]
    assert codes(head.ask(refused)) == [Code.NO_SPACE]
    put_through(head, write(2, client=2))
    assert codes(head.ask(refused)) == [Code.STALE_UPDATE]


# --- lanes -----------------------------------------------------------------------------------------------------------


def test_updates_of_one_chunk_are_serial_and_chunks_are_independent(head: OneReplica) -> None:
    first = head.ask(write(1, 0))
    assert head.ask(write(1, 0, client=2)) == []
    second = head.ask(write(1, 1, client=3))
    assert kinds(second) == ["Stage"]
    head.ack(head.complete_stage(second))
    assert kinds(head.ack(head.complete_stage(first))) == ["Commit", "AnswerUpdate", "Stage"]


def test_a_full_lane_and_a_full_target_answer_busy(head: OneReplica) -> None:
    for client in range(LIMITS.lane_waiting_max + 1):
        head.ask(write(1, 0, client=client + 1))
    assert codes(head.ask(write(1, 0, client=9))) == [Code.BUSY]
    for number in range(1, LIMITS.flights_max):
        assert kinds(head.ask(write(1, number, client=9 + number))) == ["Stage"]
    assert codes(head.ask(write(1, 7, client=20))) == [Code.BUSY]


def test_who_waits_too_long_is_told_that_nothing_happened(head: OneReplica) -> None:
    effects = head.ask(write(1))
    head.ask(write(1, client=2))
    assert codes(head.tick(999)) == []
    assert codes(head.tick(1)) == [Code.BUSY]
    # The first is with the disk, which has its data: it is answered when the disk is done.
    assert kinds(head.complete_stage(effects)) == ["Forward"]


# --- forwarding ------------------------------------------------------------------------------------------------------


def test_an_unanswered_sending_is_made_again_under_a_new_serial(head: OneReplica) -> None:
    first = only(head.complete_stage(head.ask(write(1))), Forward)
    assert head.tick(99) == []
    again = head.tick(1)
    second = only(again, Forward)
    assert second.attempt > first.attempt
    assert second.update.version == first.update.version
    ok = UpdateResult(Code.OK, 1, 4, head.store.get(chunk(0)).pending_checksum)  # type: ignore[union-attr]
    assert head.feed(ForwardDone(chunk(0), 1, first.attempt, ok)) == []
    assert kinds(head.ack(again)) == ["Commit", "AnswerUpdate"]


def test_a_refusal_and_a_timeout_never_start_two_attempts(head: OneReplica) -> None:
    effects = head.complete_stage(head.ask(write(1)))
    sent = 1
    for _ in range(40):
        if effects:
            effects = head.ack(effects, Code.BUSY)
        effects = [effect for effect in effects + head.tick(10) if isinstance(effect, Forward)]
        assert len(effects) <= 1
        sent += len(effects)
    # 10, 20, 40, 40 … ms between them, in 400 ms.
    assert sent <= 12


@pytest.mark.parametrize(
    "code",
    [
        Code.WRONG_CHAIN_VERSION,
        Code.NOT_SERVING,
        Code.NOT_HEAD,
        Code.DISCONNECTED,
        Code.DEADLINE,
        Code.BUSY,
        Code.CHECKSUM,
        Code.DISK,
    ],
)
def test_whatever_the_successor_refuses_is_sent_again_and_stays_pending(head: OneReplica, code: Code) -> None:
    effects = head.ack(head.complete_stage(head.ask(write(1))), code)
    assert effects == []
    assert head.store.get(chunk(0)).pending == 1  # type: ignore[union-attr]
    effects = head.tick(10)
    assert kinds(effects) == ["Forward"]
    assert kinds(head.ack(effects)) == ["Commit", "AnswerUpdate"]


def test_no_space_downstream_takes_the_update_back_and_frees_its_number(head: OneReplica) -> None:
    first = head.complete_stage(head.ask(write(1)))
    effects = head.ack(first, Code.NO_SPACE)
    assert kinds(effects) == ["DropPending"]
    waits = head.ask(write(2, data=b"second", client=2))
    assert waits == []  # the number is free only once the drop would survive a loss of power
    effects = head.complete_drop(effects)
    assert kinds(effects) == ["AnswerUpdate", "Stage"]
    assert codes(effects) == [Code.NO_SPACE]
    again = only(head.complete_stage(effects), Forward)
    assert (again.update.version, again.update.tag.seq) == (1, 2)
    assert again.attempt > only(first, Forward).attempt


def test_an_answer_to_a_dropped_update_changes_nothing(head: OneReplica) -> None:
    first = head.complete_stage(head.ask(write(1)))
    effects = head.ack(first, Code.NO_SPACE)
    assert head.ack(first) == []
    assert codes(head.ask(write(1))) == []  # the retry gets the same answer
    assert codes(head.complete_drop(effects)) == [Code.NO_SPACE, Code.NO_SPACE]
    assert head.store.get(chunk(0)) is None


def test_a_drop_goes_on_over_a_chain_change_and_ends_for_who_left(head: OneReplica) -> None:
    effects = head.ack(head.complete_stage(head.ask(write(1))), Code.NO_SPACE)
    assert head.join(chain(2, 1, 3)) == []
    assert codes(head.complete_drop(effects)) == [Code.NO_SPACE]
    effects = head.ack(head.complete_stage(head.ask(write(2, chain_version=2))), Code.NO_SPACE)
    assert head.join(chain(3, 3, out=(1,))) == []
    assert codes(head.complete_drop(effects)) == [Code.NOT_SERVING]


def test_a_syncing_successor_without_room_is_asked_again() -> None:
    last = OneReplica(1)
    last.open(chain(1, 1, syncing=(2,)))
    assert last.ack(last.complete_stage(last.ask(write(1))), Code.NO_SPACE) == []
    assert kinds(last.tick(10)) == ["Forward"]


def test_a_sending_taken_for_late_is_made_again_with_higher_serials(head: OneReplica) -> None:
    first = head.complete_stage(head.ask(write(1)))
    before = only(first, Forward)
    head.ack(first, Code.STALE_UPDATE)
    after = only(head.tick(10), Forward)
    assert after.attempt >> 40 > before.attempt >> 40


def test_after_the_deadline_the_asker_is_told_and_the_update_goes_on(head: OneReplica) -> None:
    head.complete_stage(head.ask(write(1)))
    effects: list[Effect] = []
    for _ in range(100):
        effects += head.tick(10)
    assert codes(effects) == [Code.DEADLINE]
    (lane,) = head.replica.flights.lanes.values()
    assert lane.flight.phase is FlightPhase.FORWARDING
    # A repetition attaches, and gets its own deadline.
    assert head.ask(write(1)) == []
    again = head.tick(400)
    forward = only(again, Forward)
    assert (forward.update.kind, forward.update.data) == (UpdateKind.FILL, None)
    assert codes(head.ack(again)) == [Code.OK]


def test_replicas_that_disagree_commit_nothing_and_keep_the_evidence(head: OneReplica) -> None:
    effects = head.complete_stage(head.ask(write(1)))
    head.ask(write(1, client=2))
    effects = head.ack(effects, checksum=1234)
    assert codes(effects) == [Code.REPLICAS_DISAGREE, Code.REPLICAS_DISAGREE]
    assert head.store.get(chunk(0)).pending == 1  # type: ignore[union-attr]
    assert codes(head.ask(write(2))) == [Code.REPLICAS_DISAGREE]
    assert head.replica.next_deadline() is None or head.tick(10_000) == []
    # It is tried again under the next chain version.
    assert kinds(head.join(chain(2, 1, 3, out=(2,)))) == ["Forward"]


@pytest.mark.parametrize("changes", [{"length": 5}, {"version": 2}, {"checksum": 0}])
def test_any_difference_is_a_disagreement(head: OneReplica, changes: dict[str, int]) -> None:
    assert codes(head.ack(head.complete_stage(head.ask(write(1))), **changes)) == [Code.REPLICAS_DISAGREE]


def test_a_disagreement_further_down_is_passed_on(head: OneReplica) -> None:
    effects = head.ack(head.complete_stage(head.ask(write(1))), Code.REPLICAS_DISAGREE)
    assert codes(effects) == [Code.REPLICAS_DISAGREE]
    (lane,) = head.replica.flights.lanes.values()
    assert lane.flight.phase is FlightPhase.HALTED


# --- what arrives in the wrong way -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"chain_version": 2}, Code.WRONG_CHAIN_VERSION),
        ({"chain": 8}, Code.WRONG_CHAIN_VERSION),
        ({"from_target": 3}, Code.NOT_HEAD),
        ({"version": 0, "from_target": 0}, Code.NOT_HEAD),
        ({"version": 0}, Code.INVALID),
        ({"version": 2}, Code.MISSING_UPDATE),
    ],
)
def test_refusals_downstream(body: OneReplica, changes: dict[str, object], code: Code) -> None:
    effects = body.ask(forwarded_write(1, **changes))
    assert codes(effects) == [code]
    (reply,) = effects
    assert isinstance(reply, AnswerUpdate)
    assert reply.result.message.startswith("target 2: ")


def test_a_message_names_what_was_wrong(head: OneReplica) -> None:
    (reply,) = head.ask(write(1, tag=UNTAGGED))
    assert isinstance(reply, AnswerUpdate)
    assert reply.result.message == f"target 1: chunk {chunk(0).hex()}: WRITE without a tag cannot be applied exactly once"
    (reply,) = head.ask(write(1, chain_version=9))
    assert isinstance(reply, AnswerUpdate)
    assert reply.result.message == "target 1: chain 7 version 9 was asked for, it has chain 7 version 1"


def test_a_late_sending_does_not_bring_back_a_removed_chunk(body: OneReplica) -> None:
    first = forwarded_write(1)
    put_through(body, first)
    put_through(body, remove(2, version=2, from_target=TargetId(1), serial=2, floor=1))
    assert codes(body.ask(first)) == [Code.STALE_UPDATE]
    assert body.store.get(chunk(0)) is None


def test_a_newer_sending_of_what_waits_is_not_late_when_its_turn_comes(body: OneReplica) -> None:
    effects = body.ask(forwarded_write(1))
    waits = forwarded_write(2, version=2, serial=2)
    assert body.ask(waits) == []
    assert body.ask(msgspec.structs.replace(waits, serial=3)) == []
    effects = body.ack(body.complete_stage(effects))
    assert kinds(effects) == ["Commit", "AnswerUpdate", "Stage"]
    assert codes(body.ack(body.complete_stage(effects))) == [Code.OK, Code.OK]


def test_the_shell_may_not_make_up_events(head: OneReplica) -> None:
    with pytest.raises(AssertionError, match="without a flight"):
        head.feed(StageDone(chunk(0), 1, Code.OK, 0, 0))
    effects = head.ask(write(1))
    with pytest.raises(AssertionError, match="for version 1"):
        head.feed(StageDone(chunk(0), 2, Code.OK, 0, 0))
    head.complete_stage(effects)
    with pytest.raises(AssertionError, match="in phase FORWARDING"):
        head.feed(StageDone(chunk(0), 1, Code.OK, 0, 0))
    with pytest.raises(AssertionError, match="twice"):
        head.feed(StoreOpened(()))


def test_one_line_describes_it(head: OneReplica) -> None:
    head.complete_stage(head.ask(write(1)))
    head.ask(write(1, client=2))
    assert head.replica.describe() == "·→1→2 head v1 flights 1 000000@1:forwarding#1+1"
    assert OneReplica(4).replica.describe() == "·→4→· closed v0 flights 0"


def test_steps_are_functions_of_what_came_before() -> None:
    def story() -> list[str]:
        made = OneReplica(1)
        lines = [repr(made.open(chain(1, 1, 2)))]
        for seq in range(1, 4):
            lines += [repr(made.ack(made.complete_stage(made.ask(write(seq, seq % 2, data=b"x" * seq)))))]
        return lines

    assert story() == story()


def test_a_replica_asks_its_view_and_nobody_else() -> None:
    # The store port has the same methods; whatever has them will do.
    class View:
        def get(self, chunk: object) -> None:
            return None

        def get_channel(self, client: object, channel: int) -> None:
            return None

    replica = Replica(TargetId(1), View(), incarnation=1)
    replica.step(0, StoreOpened(()))
    assert replica.step(0, UpdateReceived(write(1), 1))[0].result.code is Code.NOT_SERVING  # type: ignore[union-attr]
