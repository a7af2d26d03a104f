"""What holds of every step of a chain, and of every history of steps."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fs3.base.ids import ChainId, NodeId, TargetId
from fs3.core.membership.transition import next_chain
from fs3.model.chain import Chain, LocalState, PublicState, Slot

SERVING, LASTSRV, SYNCING = PublicState.SERVING, PublicState.LASTSRV, PublicState.SYNCING
Known = dict[TargetId, LocalState]


@st.composite
def situations(draw: st.DrawFn) -> tuple[Chain, Known]:
    size = draw(st.integers(1, 5))
    states = draw(st.lists(st.sampled_from(PublicState), min_size=size, max_size=size))
    chain = Chain(ChainId(1), 3, tuple(Slot(TargetId(i), NodeId(i), state) for i, state in enumerate(states)))
    return chain, draw(known(size))


@st.composite
def known(draw: st.DrawFn, size: int) -> Known:
    reports = draw(st.lists(st.sampled_from((*LocalState, None)), min_size=size, max_size=size))
    return {TargetId(index): report for index, report in enumerate(reports) if report is not None}


def targets(chain: Chain, *states: PublicState) -> set[TargetId]:
    return {slot.target for slot in chain.slots if slot.state in states}


@settings(max_examples=500)
@given(situations())
def test_laws_of_one_step(situation: tuple[Chain, Known]) -> None:
    before, states = situation
    after = next_chain(before, states)

    assert {(slot.target, slot.node) for slot in after.slots} == {(slot.target, slot.node) for slot in before.slots}
    changed = after.slots != before.slots
    assert after.version == before.version + changed
    assert changed or after is before

    if targets(before, SERVING, LASTSRV):
        assert targets(after, SERVING, LASTSRV), "nobody knows any more where the newest data is"
    assert not (targets(after, SERVING) and targets(after, LASTSRV)), "the chain goes on, nobody is last any more"
    for target in targets(after, SERVING) - targets(before, SERVING):
        assert states.get(target) is LocalState.UPTODATE
        assert target in targets(before, SYNCING, LASTSRV), "only who synced, or served last, may begin to serve"
        if target in targets(before, LASTSRV):
            assert not targets(before, SERVING), "somebody has served since"
    for target in targets(after, LASTSRV) - targets(before, LASTSRV):
        assert target in targets(before, SERVING)
    if targets(after, SYNCING):
        assert targets(after, SERVING), "nobody to sync from"
    # Whoever keeps a state keeps its order; who begins to serve comes after those who did.
    for state in PublicState:
        stayed = [slot.target for slot in before.slots if slot.state is state and slot.target in targets(after, state)]
        assert stayed == [slot.target for slot in after.slots if slot.state is state and slot.target in stayed]
    served = [slot.target for slot in after.serving_slots()]
    old = [target for target in served if target in targets(before, SERVING)]
    assert served[: len(old)] == old
    # Head first: serving targets are a prefix of the slots.
    states_in_order = [slot.state is SERVING for slot in after.slots]
    assert states_in_order == sorted(states_in_order, reverse=True)


@given(st.integers(1, 4).flatmap(lambda size: st.tuples(st.just(size), st.lists(known(size), max_size=12))))
def test_laws_of_histories(history: tuple[int, list[Known]]) -> None:
    """From a fresh chain: there is always somebody who serves or served last, and complete data is never given up."""
    size, reports = history
    chain = Chain(ChainId(1), 1, tuple(Slot(TargetId(i), NodeId(i), SERVING) for i in range(size)))
    complete = targets(chain, SERVING)  # who has everything that was ever acknowledged
    for states in reports:
        following = next_chain(chain, states)
        # A target that finished syncing has everything; while somebody serves, who does not take part falls behind.
        complete |= {target for target in targets(chain, SYNCING) if states.get(target) is LocalState.UPTODATE}
        if targets(following, SERVING):
            complete &= targets(following, SERVING)
        assert complete, "everything was lost"
        assert targets(following, SERVING) <= complete
        assert targets(following, LASTSRV) <= complete or targets(following, SERVING)
        chain = following
