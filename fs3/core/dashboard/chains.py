"""The chains of a cluster at one look: a letter for each, sums by node, and those that are not whole in detail."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from fs3.base.ids import ChainId, NodeId
from fs3.model.chain import Chain, LocalState, PublicState
from fs3.model.cluster import TargetStatus

odd_chains_max = 1024
"""Chains that are not whole and are looked at one by one; of further ones only the state is told."""
odd_chains_shown_max = 100
"""And so many rows the page has for them, the most urgent ones."""


class ChainState(StrEnum):
    """Of a chain as the page has it, the most urgent first."""

    UNSERVED = "x"
    """No target serves."""
    ONE_COPY = "o"
    """One of several targets serves."""
    BEHIND = "b"
    """Fewer targets serve than should, and none is being brought up to date."""
    SYNCING = "s"
    """Fewer targets serve than should, and one is being brought up to date."""
    NOTED = "n"
    """All serve, and one of them says something."""
    MOVING = "m"
    """As many serve as should, and another one is there beside them."""
    WHOLE = "w"


_URGENCY = {state: place for place, state in enumerate(ChainState)}


@dataclass
class NodeSums:
    """What the targets of one node have together."""

    targets: int = 0
    serving: int = 0
    used_bytes: int = 0
    chunks: int = 0


@dataclass
class ChainSurvey:
    """All chains at one time."""

    places: dict[ChainId, int] = field(default_factory=dict)
    """Each chain's place among them."""
    states: list[ChainState] = field(default_factory=list)
    """By place."""
    runs: list[list[int]] = field(default_factory=list)
    """The ids in the order of their places: runs of neighbouring ones, as first and count."""
    odd: dict[ChainId, list[TargetStatus]] = field(default_factory=dict)
    """Those that are not whole, at most `odd_chains_max` of them."""
    by_node: dict[NodeId, NodeSums] = field(default_factory=dict)

    @property
    def used_bytes(self) -> int:
        """Of all copies."""
        return sum(sums.used_bytes for sums in self.by_node.values())

    def renew(self, found: Iterable[tuple[Chain, list[TargetStatus]]], replicas: Mapping[ChainId, int]) -> None:
        """These of its odd chains are so now; the sums by node stay as they were."""
        for chain, targets in found:
            state = state_of(chain, targets, replicas.get(chain.id, len(chain.slots)))
            self.states[self.places[chain.id]] = state
            if state is ChainState.WHOLE:
                del self.odd[chain.id]
            else:
                self.odd[chain.id] = targets


def survey_chains(found: Iterable[tuple[Chain, list[TargetStatus]]], replicas: Mapping[ChainId, int]) -> ChainSurvey:
    """Look at every chain. `replicas`: how many each should have."""
    survey = ChainSurvey()
    for chain, targets in found:
        for target in targets:
            sums = survey.by_node.get(target.slot.node)
            if sums is None:
                sums = survey.by_node[target.slot.node] = NodeSums()
            sums.targets += 1
            sums.serving += target.slot.state is PublicState.SERVING
            sums.used_bytes += target.used_bytes
            sums.chunks += target.chunks
        state = state_of(chain, targets, replicas.get(chain.id, len(chain.slots)))
        place = survey.places[chain.id] = len(survey.states)
        survey.states.append(state)
        if place and sum(survey.runs[-1]) == chain.id:
            survey.runs[-1][1] += 1
        else:
            survey.runs.append([chain.id, 1])
        if state is not ChainState.WHOLE and len(survey.odd) < odd_chains_max:
            survey.odd[chain.id] = targets
    return survey


def state_of(chain: Chain, targets: Iterable[TargetStatus], replicas: int) -> ChainState:
    """Of one chain, by what is published and by what its nodes say."""
    serving = syncing = 0
    says = False
    for target in targets:
        state = target.slot.state
        if state is PublicState.SERVING:
            serving += 1
            says = says or target.local is not LocalState.UPTODATE or bool(target.reason)
        elif state is PublicState.SYNCING:
            syncing += 1
        says = says or target.upkeep.bad_blocks > 0
    count = len(chain.slots)
    if serving >= min(replicas, count):
        return ChainState.NOTED if says else ChainState.WHOLE if serving == count else ChainState.MOVING
    if serving <= 1:
        return ChainState.ONE_COPY if serving else ChainState.UNSERVED
    return ChainState.SYNCING if syncing else ChainState.BEHIND


def chains_document(survey: ChainSurvey, names: Mapping[NodeId, str]) -> dict[str, Any]:
    """For the page. `ids`: see `ChainSurvey.runs`; `states`: a letter for each, in the same order."""
    letters = {chain: survey.states[survey.places[chain]] for chain in survey.odd}
    urgent = sorted(letters, key=lambda chain: (_URGENCY[letters[chain]], chain))[:odd_chains_shown_max]
    states = "".join(survey.states)
    return {
        "ids": survey.runs,
        "states": states,
        "counts": {state.value: states.count(state) for state in ChainState},
        "odd": [
            {
                "chain": chain,
                "state": letters[chain].value,
                "targets": [_target_document(target, names) for target in survey.odd[chain]],
            }
            for chain in urgent
        ],
    }


def _target_document(target: TargetStatus, names: Mapping[NodeId, str]) -> dict[str, Any]:
    return {
        "target": target.slot.target,
        "node": names.get(target.slot.node, str(target.slot.node)),
        "state": target.slot.state.name.lower(),
        "local": target.local.name.lower() if target.local is not None else "unknown",
        "reason": target.reason,
        "bad_blocks": target.upkeep.bad_blocks,
    }
