"""A target that was asked to leave: whether it does, and for how long it stays away."""

from fs3.base.ids import ChainId, NodeId, TargetId
from fs3.base.limits import rejoin_max_ns, rejoin_min_ns, rejoin_settled_ns
from fs3.model.chain import Chain, PublicState, Slot
from fs3.services.storage.withdrawal import Withdrawal

SERVING, SYNCING, WAITING, LASTSRV, OFFLINE = (
    PublicState.SERVING, PublicState.SYNCING, PublicState.WAITING, PublicState.LASTSRV, PublicState.OFFLINE,
)  # fmt: skip
OTHER, MINE, NONE = TargetId(1), TargetId(2), TargetId(0)


def chain(version, other, mine):
    slots = [Slot(OTHER, NodeId(1), other), Slot(MINE, NodeId(2), mine)]
    return Chain(ChainId(1), version, tuple(sorted(slots, key=lambda slot: (slot.state, slot.target))))


def test_it_stays_away_longer_each_time():
    absence = Withdrawal(MINE)
    now, waits = 0, []
    for version in range(1, 20, 2):
        assert absence.begin_on_request(now, chain(version, SERVING, SYNCING), version, NONE)
        gone = chain(version + 1, SERVING, OFFLINE)
        absence.on_chain_changed(now, gone)
        began = now
        while absence.is_active(now, gone):
            now += rejoin_min_ns
        waits.append(now - began)
    assert waits == [min(rejoin_max_ns, rejoin_min_ns << turn) for turn in range(10)]


def test_it_is_trusted_again_after_it_has_served_for_a_while():
    absence = Withdrawal(MINE)
    for version in (1, 3):
        assert absence.begin_on_request(0, chain(version, SERVING, SYNCING), version, NONE)
        assert not absence.is_active(rejoin_max_ns, chain(version + 1, SERVING, OFFLINE))
    for served, wait in ((rejoin_settled_ns - 1, 4 * rejoin_min_ns), (rejoin_settled_ns, rejoin_min_ns)):
        serving, gone = chain(9, SERVING, SERVING), chain(10, SERVING, OFFLINE)
        absence.on_chain_changed(0, serving)
        assert absence.begin_on_request(served, serving, 9, NONE)
        absence.on_chain_changed(served, gone)
        assert absence.is_active(served + wait - 1, gone)
        assert not absence.is_active(served + wait, gone)


def test_it_says_why():
    for unreachable, why in (
        (NONE, "target 1, its predecessor in the chain, cannot reach it"),
        (TargetId(9), "it cannot reach target 9"),
    ):
        absence = Withdrawal(MINE)
        assert absence.begin_on_request(0, chain(1, SERVING, SERVING), 1, unreachable)
        assert why in absence.reason
    assert not absence.is_active(rejoin_max_ns, chain(2, SERVING, OFFLINE))
    assert absence.reason == ""


def test_who_is_not_meant_or_cannot_leave_stays():
    for present in (
        chain(1, OFFLINE, SERVING),
        chain(1, SERVING, OFFLINE),
        chain(1, SERVING, WAITING),
        chain(1, LASTSRV, LASTSRV),
        None,
    ):
        assert not Withdrawal(MINE).begin_on_request(0, present, 1, NONE)
    assert not Withdrawal(MINE).begin_on_request(0, chain(2, SERVING, SERVING), 1, NONE)


def test_it_is_away_until_the_chain_has_gone_on_however_long_that_takes():
    absence = Withdrawal(MINE)
    serving = chain(1, SERVING, SERVING)
    assert absence.begin_on_request(0, serving, 1, NONE)
    assert absence.is_active(rejoin_max_ns, serving)
    assert not absence.is_active(rejoin_max_ns, chain(2, SERVING, OFFLINE))


def test_nobody_stays_away_when_nobody_else_serves():
    for alone in (chain(2, OFFLINE, SERVING), chain(2, LASTSRV, LASTSRV), chain(2, LASTSRV, OFFLINE)):
        absence = Withdrawal(MINE)
        assert absence.begin_on_request(0, chain(1, SERVING, SERVING), 1, NONE)
        assert not absence.is_active(1, alone)


def test_one_that_leaves_to_be_compared_comes_back_at_once():
    absence = Withdrawal(MINE)
    assert not absence.begin(chain(1, SERVING, SYNCING), "it does not serve")
    assert not absence.begin(chain(1, OFFLINE, SERVING), "it serves alone")
    assert absence.begin(chain(1, SERVING, SERVING), "a resync was asked for")
    assert absence.is_active(0, chain(1, SERVING, SERVING))
    assert not absence.begin_on_request(0, chain(1, SERVING, SERVING), 1, NONE), "it is leaving already"
    assert not absence.is_active(0, chain(2, SERVING, OFFLINE))
