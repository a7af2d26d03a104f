"""A target that was asked to leave: whether it does, and for how long it stays away."""

from fs3.base.ids import ChainId, NodeId, TargetId
from fs3.base.limits import rejoin_max_ns, rejoin_min_ns, rejoin_settled_ns
from fs3.model.chain import Chain, PublicState, Slot
from fs3.services.storage.absence import Absence

SERVING, SYNCING, WAITING, LASTSRV, OFFLINE = (
    PublicState.SERVING, PublicState.SYNCING, PublicState.WAITING, PublicState.LASTSRV, PublicState.OFFLINE,
)  # fmt: skip
OTHER, MINE, NONE = TargetId(1), TargetId(2), TargetId(0)


def chain(version, other, mine):
    slots = [Slot(OTHER, NodeId(1), other), Slot(MINE, NodeId(2), mine)]
    return Chain(ChainId(1), version, tuple(sorted(slots, key=lambda slot: (slot.state, slot.target))))


def test_it_stays_away_longer_each_time():
    absence = Absence(MINE)
    now, waits = 0, []
    for version in range(1, 20, 2):
        assert absence.asked(now, chain(version, SERVING, SYNCING), version, NONE)
        gone = chain(version + 1, SERVING, OFFLINE)
        absence.placed(now, gone)
        began = now
        while absence.lasts(now, gone):
            now += rejoin_min_ns
        waits.append(now - began)
    assert waits == [min(rejoin_max_ns, rejoin_min_ns << turn) for turn in range(10)]


def test_it_is_trusted_again_after_it_has_served_for_a_while():
    absence = Absence(MINE)
    for version in (1, 3):
        assert absence.asked(0, chain(version, SERVING, SYNCING), version, NONE)
        assert not absence.lasts(rejoin_max_ns, chain(version + 1, SERVING, OFFLINE))
    for served, wait in ((rejoin_settled_ns - 1, 4 * rejoin_min_ns), (rejoin_settled_ns, rejoin_min_ns)):
        serving, gone = chain(9, SERVING, SERVING), chain(10, SERVING, OFFLINE)
        absence.placed(0, serving)
        assert absence.asked(served, serving, 9, NONE)
        absence.placed(served, gone)
        assert absence.lasts(served + wait - 1, gone)
        assert not absence.lasts(served + wait, gone)


def test_it_says_why():
    for unreachable, why in (
        (NONE, "target 1, its predecessor in the chain, cannot reach it"),
        (TargetId(9), "it cannot reach target 9"),
    ):
        absence = Absence(MINE)
        assert absence.asked(0, chain(1, SERVING, SERVING), 1, unreachable)
        assert why in absence.reason
    assert not absence.lasts(rejoin_max_ns, chain(2, SERVING, OFFLINE))
    assert absence.reason == ""


def test_who_is_not_meant_or_cannot_leave_stays():
    for present in (
        chain(1, OFFLINE, SERVING),
        chain(1, SERVING, OFFLINE),
        chain(1, SERVING, WAITING),
        chain(1, LASTSRV, LASTSRV),
        None,
    ):
        assert not Absence(MINE).asked(0, present, 1, NONE)
    assert not Absence(MINE).asked(0, chain(2, SERVING, SERVING), 1, NONE)


def test_it_is_away_until_the_chain_has_gone_on_however_long_that_takes():
    absence = Absence(MINE)
    serving = chain(1, SERVING, SERVING)
    assert absence.asked(0, serving, 1, NONE)
    assert absence.lasts(rejoin_max_ns, serving)
    assert not absence.lasts(rejoin_max_ns, chain(2, SERVING, OFFLINE))


def test_nobody_stays_away_when_nobody_else_serves():
    for alone in (chain(2, OFFLINE, SERVING), chain(2, LASTSRV, LASTSRV), chain(2, LASTSRV, OFFLINE)):
        absence = Absence(MINE)
        assert absence.asked(0, chain(1, SERVING, SERVING), 1, NONE)
        assert not absence.lasts(1, alone)


def test_one_that_leaves_to_be_compared_comes_back_at_once():
    absence = Absence(MINE)
    assert not absence.begin(chain(1, SERVING, SYNCING), "it does not serve")
    assert not absence.begin(chain(1, OFFLINE, SERVING), "it serves alone")
    assert absence.begin(chain(1, SERVING, SERVING), "a resync was asked for")
    assert absence.lasts(0, chain(1, SERVING, SERVING))
    assert not absence.asked(0, chain(1, SERVING, SERVING), 1, NONE), "it is leaving already"
    assert not absence.lasts(0, chain(2, SERVING, OFFLINE))
