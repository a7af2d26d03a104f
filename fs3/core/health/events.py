"""What happened, from two snapshots of the routing info: nodes that came and went, targets that serve or do not any more."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from fs3.base.ids import NodeId
from fs3.model.chain import Chain, PublicState
from fs3.model.event import JOINED, WELL
from fs3.model.health import HealthKind
from fs3.model.routing import Delta, Node, Routing

events_per_change_max = 32
"""One change of the routing info is told in so many events; of what is more only the number is told."""
_NOTICE = "notice"


class Happening(NamedTuple):
    """An event without its number and time."""

    code: str
    severity: str
    text: str


def happenings_of(before: Routing, delta: Delta) -> list[Happening]:
    """What a delta that follows `before` tells, nodes first."""
    all_of_it = (*_of_nodes(before, delta), *_of_chains(before, delta))
    found = list(islice(all_of_it, events_per_change_max))
    more = len(all_of_it) - len(found)
    if more:
        found.append(Happening(found[-1].code, found[-1].severity, f"and {more} more changes with it"))
    return found


def _of_nodes(before: Routing, delta: Delta) -> Iterator[Happening]:
    for node in delta.nodes:
        known = before.nodes.get(node.id)
        named = f"node {node.name} ({node.role.name.lower()})"
        if known is None:
            yield Happening(JOINED, _NOTICE, f"{named} has joined the cluster")
        elif known.alive and not node.alive:
            yield _wrong(HealthKind.NODE_DEAD, f"{named} has stopped, or its lease has run out")
        elif node.alive and not known.alive:
            yield Happening(WELL, _NOTICE, f"{named} is back")
        elif node.incarnation != known.incarnation:
            yield Happening(WELL, _NOTICE, f"{named} was started again")


def _of_chains(before: Routing, delta: Delta) -> Iterator[Happening]:
    names = {**before.nodes, **{node.id: node for node in delta.nodes}}
    made = sum(chain.id not in before.chains for chain in delta.chains)
    if made:
        yield Happening(JOINED, _NOTICE, f"{made} chains were made")
    for chain in delta.chains:
        known = before.chains.get(chain.id)
        if known is not None:
            yield from _of_chain(known, chain, names)


def _of_chain(known: Chain, chain: Chain, names: dict[NodeId, Node]) -> Iterator[Happening]:
    states = {slot.target: slot.state for slot in known.slots}
    for slot in chain.slots:
        was = states.get(slot.target)
        if was is slot.state or was is None:
            continue
        node = names.get(slot.node)
        text = f"chain {chain.id}: target {slot.target} on {node.name if node is not None else slot.node} was "
        text += f"{was.name.lower()} and is {slot.state.name.lower()} (version {chain.version})"
        if slot.state is PublicState.SERVING:
            yield Happening(WELL, _NOTICE, text)
        elif slot.state is PublicState.LASTSRV:
            yield _wrong(HealthKind.LAST_SERVING_MISSING, text)
        else:
            yield _wrong(HealthKind.TARGET_BEHIND, text)
    had, has = len(known.serving_slots()), len(chain.serving_slots())
    if had and not has:
        yield _wrong(HealthKind.CHAIN_UNSERVED, f"chain {chain.id}: nothing serves any more")
    elif has == 1 < had:
        yield _wrong(HealthKind.CHAIN_ONE_COPY, f"chain {chain.id}: 1 of {len(chain.slots)} replicas serves")


def _wrong(kind: HealthKind, text: str) -> Happening:
    return Happening(kind.value, kind.row.severity, text)
