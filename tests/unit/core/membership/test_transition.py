"""The public-state table, row by row and as a whole."""

from __future__ import annotations

from itertools import product

import pytest

from fs3.base.ids import ChainId, NodeId, TargetId
from fs3.core.membership.transition import TRANSITIONS, Outlook, is_possible, next_chain, outlook_of
from fs3.model.chain import Chain, LocalState, PublicState, Slot

PUBLIC = {
    "S": PublicState.SERVING,
    "y": PublicState.SYNCING,
    "w": PublicState.WAITING,
    "L": PublicState.LASTSRV,
    "-": PublicState.OFFLINE,
}
LOCAL = {"u": LocalState.UPTODATE, "o": LocalState.ONLINE, "x": LocalState.OFFLINE}


def chain(text: str) -> Chain:
    """ "1S 2S 3y": targets with their public states, in chain order."""
    slots = tuple(Slot(TargetId(int(word[0])), NodeId(int(word[0])), PUBLIC[word[1]]) for word in text.split())
    return Chain(ChainId(1), 7, slots)


def local(text: str) -> dict[TargetId, LocalState]:
    """ "1u 2x": what is known of targets."""
    return {TargetId(int(word[0])): LOCAL[word[1]] for word in text.split()}


def show(found: Chain) -> str:
    letters = {state: letter for letter, state in PUBLIC.items()}
    return " ".join(f"{slot.target}{letters[slot.state]}" for slot in found.slots)


def test_exactly_one_row_matches_each_case() -> None:
    TRANSITIONS.check()
    assert set(TRANSITIONS.cases()) == set(product(PublicState, (*LocalState, None), Outlook))


def test_what_is_called_impossible_is_and_nothing_else() -> None:
    """Over all chains of up to three slots: a combination occurs exactly when `possible` says so."""
    cases = list(product(PublicState, (*LocalState, None)))
    seen = set()
    for size in (1, 2, 3):
        for combination in product(cases, repeat=size):
            slots = tuple(Slot(TargetId(index), NodeId(1), public) for index, (public, _) in enumerate(combination))
            states = {TargetId(index): report for index, (_, report) in enumerate(combination) if report is not None}
            outlook = outlook_of(Chain(ChainId(1), 1, slots), states)
            seen.update((public, report, outlook) for public, report in combination)
    everything = product(PublicState, (*LocalState, None), Outlook)
    assert seen == {case for case in everything if is_possible(*case)}


@pytest.mark.parametrize(
    ("before", "known", "after"),
    [
        ("1S 2S 3S", "1u 2u 3u", "1S 2S 3S"),
        ("1S 2S 3S", "", "1S 2S 3S"),  # nothing is known yet
        ("1S 2S 3S", "1x 2u 3u", "2S 3S 1-"),  # the head dies
        ("1S 2S 3S", "1u 2x 3u", "1S 3S 2-"),
        ("1S 2S 3S", "1u 2u 3x", "1S 2S 3-"),
        ("1S 2S 3S", "1x 2x 3x", "1L 2L 3L"),  # all at once: each of them is complete
        ("1S 2-", "1x 2x", "1L 2-"),  # one after the other: only the last is
        ("1L 2L 3L", "1x 2u 3x", "2S 1- 3-"),  # whoever is back first restarts the chain
        ("1L 2L 3L", "1u 2x 3u", "1S 3S 2-"),  # two at once keep their order
        ("1L 2L", "1o 2x", "1L 2L"),  # it is back without its data: that does not restart anything
        ("1L 2-", "1x 2o", "1L 2w"),  # an incomplete one waits for the last serving set
        ("1L 2w", "1u 2o", "1S 2y"),
        ("2S 3S 1-", "1o 2u 3u", "2S 3S 1y"),  # a returning head joins at the end
        ("2S 3S 1y", "1u 2u 3u", "2S 3S 1S"),
        ("3S 1- 2-", "1o 2o 3u", "3S 1y 2y"),  # several sync at once
        ("3S 1y 2y", "1o 2u 3u", "3S 2S 1y"),
        ("1S 2y", "1x 2o", "1L 2w"),
        ("1S 2y", "1x 2u", "2S 1-"),  # it finished syncing in time
        ("1S 2y", "1u 2x", "1S 2-"),
        ("1S 2S", "1o 2u", "2S 1-"),  # its disk was replaced under it
        ("1S 2-", "1u 2u", "1S 2w"),  # it remembers being complete; that was under an older chain
        ("1S 2w", "1u 2u", "1S 2w"),
    ],
)
def test_cases(before: str, known: str, after: str) -> None:
    found = next_chain(chain(before), local(known))
    assert show(found) == after
    assert found.version == (7 if before == after else 8)


def test_an_unchanged_chain_is_the_same_object() -> None:
    before = chain("1S 2y 3-")
    assert next_chain(before, local("1u 2o 3x")) is before


def test_the_table_can_be_printed() -> None:
    lines = TRANSITIONS.markdown().splitlines()
    assert len(lines) == len(TRANSITIONS.rows) + 2
    assert "| LASTSRV | UPTODATE | back | SERVING | complete, so it restarts the chain; several may at once |" in lines
