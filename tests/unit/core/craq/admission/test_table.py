from __future__ import annotations

from itertools import combinations
from math import prod

import pytest

from fs3.base.ids import ChunkId
from fs3.base.status import Code
from fs3.core.craq.admission.facts import check_tag, client_step, explain_malformed, forwarded_step, is_same_tag, shortcut_of
from fs3.core.craq.admission.table import (
    ADMISSION,
    COLUMNS,
    UNTAGGED,
    Action,
    ChainRole,
    FenceCheck,
    Form,
    LaneState,
    Sender,
    Shortcut,
    Step,
    TagCheck,
    pack,
    row_for,
    unpack,
)
from fs3.model.chunk import ChannelRow, ChunkMeta, UpdateKind, UpdateResult
from fs3.sim.ring1.one_replica import chunk, remove, tag, write

OK = UpdateResult(Code.OK, 1)


def meta(committed: int = 0, pending: int = 0, chain_version: int = 1, pending_tag: int = 0) -> ChunkMeta:
    return ChunkMeta(committed, pending, chain_version, 4, 7, pending_tag=tag(pending_tag) if pending_tag else None)


# --- the table -------------------------------------------------------------------------------------------------------


def test_exactly_one_row_matches_every_case() -> None:
    ADMISSION.check()


def test_rows_exclude_each_other_and_fill_the_space() -> None:
    # The same, proved by counting: two rows that share a case allow a common value in every column.
    for one, other in combinations(ADMISSION.rows, 2):
        assert any(not mine & theirs for mine, theirs in zip(one.when, other.when, strict=True)), f"{one.name} and {other.name}"
    assert sum(prod(len(allowed) for allowed in row.when) for row in ADMISSION.rows) == prod(
        len(column.values) for column in COLUMNS.values()
    )


def test_every_row_has_its_own_name_and_refusals_say_why() -> None:
    assert len({row.name for row in ADMISSION.rows}) == len(ADMISSION.rows)
    for row in ADMISSION.rows:
        assert (row.action is Action.REFUSE) == (row.code not in (Code.OK, Code.EXISTS)), row.name
        assert row.why or row.action is not Action.REFUSE or row.name == "malformed", row.name


def test_packing_loses_nothing() -> None:
    packed = {pack(*case): case for case in ADMISSION.cases()}  # type: ignore[arg-type]
    assert len(packed) == prod(len(column.values) for column in COLUMNS.values())
    for key, case in packed.items():
        assert unpack(key) == case


def lookup(**facts: object) -> tuple[Action, Code]:
    case: dict[str, object] = {
        "form": Form.GOOD,
        "place": ChainRole.HEAD,
        "fence": FenceCheck.EQUAL,
        "sender": Sender.CLIENT,
        "seen": TagCheck.FRESH,
        "lane": LaneState.FREE,
        "step": Step.NEXT,
        "shortcut": Shortcut.NONE,
        **facts,
    }
    row = row_for(pack(*case.values()))  # type: ignore[arg-type]
    return row.action, row.code


@pytest.mark.parametrize(
    ("facts", "action", "code"),
    [
        ({}, Action.ADMIT, Code.OK),
        ({"form": Form.BAD}, Action.REFUSE, Code.INVALID),
        ({"place": ChainRole.OUT}, Action.REFUSE, Code.NOT_SERVING),
        ({"place": ChainRole.OUT, "fence": FenceCheck.OTHER}, Action.REFUSE, Code.NOT_SERVING),
        ({"fence": FenceCheck.OTHER}, Action.REFUSE, Code.WRONG_CHAIN_VERSION),
        ({"fence": FenceCheck.OTHER, "seen": TagCheck.AGAIN}, Action.REFUSE, Code.WRONG_CHAIN_VERSION),
        ({"place": ChainRole.BODY}, Action.REFUSE, Code.NOT_HEAD),
        ({"place": ChainRole.SYNCING}, Action.REFUSE, Code.NOT_HEAD),
        ({"sender": Sender.STRANGER}, Action.REFUSE, Code.NOT_HEAD),
        ({"sender": Sender.PREDECESSOR}, Action.REFUSE, Code.NOT_HEAD),
        ({"seen": TagCheck.AGAIN, "lane": LaneState.TAKEN}, Action.REPEAT, Code.OK),
        ({"seen": TagCheck.STALE}, Action.REFUSE, Code.STALE_UPDATE),
        ({"seen": TagCheck.CROSSED}, Action.REFUSE, Code.INVALID),
        ({"lane": LaneState.SAME}, Action.ATTACH, Code.OK),
        ({"lane": LaneState.TAKEN}, Action.WAIT, Code.OK),
        ({"lane": LaneState.FULL}, Action.REFUSE, Code.BUSY),
        ({"lane": LaneState.HALTED}, Action.REFUSE, Code.REPLICAS_DISAGREE),
        ({"step": Step.GAP}, Action.REFUSE, Code.BUSY),
        ({"shortcut": Shortcut.PRESENT}, Action.EXISTS, Code.EXISTS),
        ({"shortcut": Shortcut.ABSENT}, Action.NOTHING, Code.OK),
        ({"shortcut": Shortcut.PRESENT, "lane": LaneState.TAKEN}, Action.WAIT, Code.OK),
    ],
)
def test_what_a_client_sends(facts: dict[str, object], action: Action, code: Code) -> None:
    assert lookup(**facts) == (action, code)


@pytest.mark.parametrize(
    ("facts", "action", "code"),
    [
        ({}, Action.STAGE, Code.OK),
        ({"place": ChainRole.SYNCING}, Action.STAGE, Code.OK),
        ({"sender": Sender.LATE}, Action.REFUSE, Code.STALE_UPDATE),
        ({"sender": Sender.LATE, "fence": FenceCheck.OTHER}, Action.REFUSE, Code.WRONG_CHAIN_VERSION),
        ({"step": Step.RESENT}, Action.ALREADY_PENDING, Code.OK),
        ({"step": Step.RENAMED}, Action.REPLACE_PENDING, Code.OK),
        ({"step": Step.DONE}, Action.ALREADY_COMMITTED, Code.OK),
        ({"step": Step.PAST}, Action.REFUSE, Code.STALE_UPDATE),
        ({"step": Step.GAP}, Action.REFUSE, Code.MISSING_UPDATE),
        ({"lane": LaneState.SAME}, Action.ATTACH, Code.OK),
        ({"lane": LaneState.TAKEN}, Action.WAIT, Code.OK),
        ({"lane": LaneState.FULL}, Action.REFUSE, Code.BUSY),
        ({"lane": LaneState.HALTED}, Action.REFUSE, Code.REPLICAS_DISAGREE),
    ],
)
def test_what_a_predecessor_sends(facts: dict[str, object], action: Action, code: Code) -> None:
    assert lookup(**{"place": ChainRole.BODY, "sender": Sender.PREDECESSOR, **facts}) == (action, code)


# --- the facts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, ""),
        ({"chunk": ChunkId(b"short")}, "chunk id of 5 bytes"),
        ({"offset": -1}, "negative range"),
        ({"length": -1}, "negative range"),
        ({"kind": UpdateKind.PUT, "offset": 1}, "replaces the whole chunk"),
        ({"version": 3}, "the head numbers updates"),
        ({"kind": UpdateKind.FILL}, "FILL from a client"),
        ({"tag": UNTAGGED}, "without a tag"),
        ({"tag": UNTAGGED, "kind": UpdateKind.TRUNCATE}, "without a tag"),
        ({"tag": UNTAGGED, "kind": UpdateKind.PUT}, "without a tag"),
        ({"tag": UNTAGGED, "kind": UpdateKind.REMOVE}, ""),
        ({"from_target": 1}, "without version"),
        ({"from_target": 1, "version": 2}, ""),
        ({"from_target": 1, "version": 2, "kind": UpdateKind.FILL, "tag": UNTAGGED}, ""),
        ({"from_target": 1, "version": 2, "kind": UpdateKind.FILL, "offset": 1}, "replaces the whole chunk"),
    ],
)
def test_malformed_updates_are_named(changes: dict[str, object], says: str) -> None:
    message = explain_malformed(write(1, **changes))  # type: ignore[arg-type]
    assert says in message
    assert bool(says) == bool(message)


def test_a_tag_against_its_channel_row() -> None:
    assert check_tag(write(5), None) is TagCheck.FRESH
    assert check_tag(write(5), ChannelRow(4, chunk(9), OK)) is TagCheck.FRESH
    assert check_tag(write(5), ChannelRow(5, chunk(0), OK)) is TagCheck.AGAIN
    assert check_tag(write(5), ChannelRow(5, chunk(9), OK)) is TagCheck.CROSSED
    assert check_tag(write(5), ChannelRow(6, chunk(0), OK)) is TagCheck.STALE


def test_the_head_numbers_nothing_over_a_pending_version() -> None:
    assert client_step(None) is Step.NEXT
    assert client_step(meta(3)) is Step.NEXT
    assert client_step(meta(3, 4)) is Step.GAP


def test_shortcuts() -> None:
    put = write(1, kind=UpdateKind.PUT)
    assert shortcut_of(put, None) is Shortcut.NONE
    assert shortcut_of(put, meta(0, 1)) is Shortcut.NONE
    assert shortcut_of(put, meta(1)) is Shortcut.PRESENT
    assert shortcut_of(write(1), meta(1)) is Shortcut.NONE
    assert shortcut_of(remove(1), None) is Shortcut.NONE
    assert shortcut_of(remove(1, tag=UNTAGGED), None) is Shortcut.ABSENT
    assert shortcut_of(remove(1, tag=UNTAGGED), meta(1)) is Shortcut.NONE


@pytest.mark.parametrize(
    ("version", "known", "step"),
    [
        (1, None, Step.NEXT),
        (2, None, Step.GAP),
        (4, meta(3), Step.NEXT),
        (5, meta(3), Step.GAP),
        (3, meta(3), Step.DONE),
        (2, meta(3), Step.PAST),
        (4, meta(3, 4, pending_tag=1), Step.RESENT),
        (4, meta(3, 4, pending_tag=2), Step.RENAMED),
        (4, meta(3, 4), Step.RENAMED),
        (5, meta(3, 4, pending_tag=1), Step.GAP),
        (3, meta(3, 4, pending_tag=1), Step.DONE),
    ],
)
def test_a_forwarded_version_against_a_serving_targets_chunk(version: int, known: ChunkMeta | None, step: Step) -> None:
    assert forwarded_step(write(1, version=version), known, None, syncing=False) is step


@pytest.mark.parametrize(
    ("version", "known", "step"),
    [
        (9, None, Step.NEXT),
        (9, meta(3), Step.NEXT),
        (9, meta(3, 4, pending_tag=5), Step.NEXT),
        (4, meta(3, 4, pending_tag=5), Step.NEXT),
        (4, meta(3, 4, pending_tag=1), Step.RESENT),
        (2, meta(3, 4, pending_tag=5), Step.NEXT),
        (3, meta(3), Step.DONE),
        (2, meta(3), Step.PAST),
        (2, meta(3, chain_version=0), Step.NEXT),
        (4, meta(3, 4, chain_version=0, pending_tag=1), Step.NEXT),
    ],
)
def test_a_fill_against_a_syncing_targets_chunk(version: int, known: ChunkMeta | None, step: Step) -> None:
    fill = write(1, kind=UpdateKind.FILL, version=version)
    assert forwarded_step(fill, known, None, syncing=True) is step


def test_a_part_cannot_be_applied_to_a_syncing_targets_chunk_that_is_behind() -> None:
    assert forwarded_step(write(1, version=9), meta(3), None, syncing=True) is Step.GAP
    assert forwarded_step(write(1, version=9), None, None, syncing=True) is Step.GAP


def test_removing_what_is_gone_only_has_its_row_to_set() -> None:
    again = remove(5, version=1)
    assert forwarded_step(again, None, None, syncing=False) is Step.NEXT
    assert forwarded_step(again, None, ChannelRow(4, chunk(0), OK), syncing=False) is Step.NEXT
    assert forwarded_step(again, None, ChannelRow(5, chunk(0), OK), syncing=False) is Step.DONE
    assert forwarded_step(again, None, ChannelRow(6, chunk(3), OK), syncing=False) is Step.DONE
    assert forwarded_step(remove(5, version=7), None, None, syncing=True) is Step.NEXT
    assert forwarded_step(remove(5, version=7, tag=UNTAGGED), None, None, syncing=False) is Step.DONE


def test_untagged_updates_are_the_same_when_the_version_is() -> None:
    assert is_same_tag(None, UNTAGGED)
    assert is_same_tag(UNTAGGED, None)
    assert not is_same_tag(None, tag(1))
    assert not is_same_tag(tag(1), UNTAGGED)
    assert is_same_tag(tag(1), tag(1))
    assert not is_same_tag(tag(1), tag(2))
