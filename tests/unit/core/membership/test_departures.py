"""Who left a chain that may never have gone on without it."""

from __future__ import annotations

import pytest

from fs3.base.ids import ChainId, NodeId, TargetId
from fs3.core.membership.departures import Departures, must_be_heard
from fs3.model.chain import Chain, LocalState, PublicState, Slot

SERVING, SYNCING, WAITING = PublicState.SERVING, PublicState.SYNCING, PublicState.WAITING
LASTSRV, OFFLINE = PublicState.LASTSRV, PublicState.OFFLINE
A, B, C = TargetId(1), TargetId(2), TargetId(3)
HERE = {A: LocalState.ONLINE, B: LocalState.ONLINE, C: LocalState.ONLINE}


def chain(version: int, *slots: tuple[TargetId, PublicState]) -> Chain:
    return Chain(ChainId(1), version, tuple(Slot(target, NodeId(target), state) for target, state in slots))


BOTH = chain(1, (A, SERVING), (B, SERVING))
ALONE = chain(2, (B, SERVING), (A, OFFLINE))
LOST = chain(3, (B, LASTSRV), (A, OFFLINE))


def departed() -> Departures:
    """A leaves in routing version 10, and B goes on."""
    found = Departures()
    assert found.on_chain_changed(BOTH, ALONE, 10) == ALONE
    return found


@pytest.mark.parametrize(
    ("applied", "newer", "target", "expected"),
    [
        (BOTH, ALONE, B, True),
        (BOTH, ALONE, A, False),
        (None, ALONE, B, False),
        (ALONE, chain(3, (B, SERVING), (A, SYNCING)), B, False),
        (chain(3, (B, SERVING), (A, SYNCING)), chain(4, (A, SERVING), (B, OFFLINE)), A, True),
        (BOTH, None, B, False),
    ],
)
def test_who_has_to_tell_first(applied: Chain | None, newer: Chain | None, target: TargetId, *, expected: bool) -> None:
    assert must_be_heard(applied, newer, target) is expected


def test_who_left_served_last_when_nobody_is_known_to_go_on() -> None:
    after = departed().on_chain_changed(ALONE, LOST, 11)
    assert after == chain(3, (A, LASTSRV), (B, LASTSRV)), "in the order they had: what B has staged, A has too"


def test_who_left_lacks_what_came_after_it() -> None:
    found = departed()
    assert not found.on_heard(ALONE, B, 9)
    assert found.on_heard(ALONE, B, 10)
    assert found.on_chain_changed(ALONE, LOST, 11) == LOST


def test_that_who_left_is_heard_says_nothing() -> None:
    found = departed()
    assert not found.on_heard(ALONE, A, 10)
    assert found.on_chain_changed(ALONE, LOST, 11).slots[0].state is LASTSRV


def test_nobody_is_back_before_the_chain_goes_on() -> None:
    found = departed()
    assert found.without_returns(ALONE, HERE) == {B: LocalState.ONLINE, C: LocalState.ONLINE}
    found.on_heard(ALONE, B, 12)
    assert found.without_returns(ALONE, HERE) == HERE


def test_each_departure_counts_for_itself() -> None:
    three = chain(1, (A, SERVING), (B, SERVING), (C, SERVING))
    two = chain(2, (B, SERVING), (C, SERVING), (A, OFFLINE))
    one = chain(3, (C, SERVING), (B, OFFLINE), (A, OFFLINE))
    nobody = chain(4, (C, LASTSRV), (B, OFFLINE), (A, OFFLINE))
    found = Departures()
    found.on_chain_changed(three, two, 10)
    assert not found.on_heard(three, C, 9)
    found.on_chain_changed(two, one, 11)
    assert not found.on_heard(one, C, 10), "C knows that A has left, not yet that B has"
    assert found.on_chain_changed(one, nobody, 12).slots == chain(4, (B, LASTSRV), (C, LASTSRV), (A, OFFLINE)).slots


def test_a_chain_that_begins_anew_has_no_departures() -> None:
    found = departed()
    lost = found.on_chain_changed(ALONE, LOST, 11)
    back = chain(4, (A, SERVING), (B, OFFLINE))
    assert found.on_chain_changed(lost, back, 12) == back
    assert found.on_chain_changed(back, chain(5, (A, LASTSRV), (B, OFFLINE)), 13).slots[1].state is OFFLINE
