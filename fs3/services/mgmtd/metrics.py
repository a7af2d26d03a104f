"""What a manager says in numbers of the cluster, while it is the primary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from fs3.model.chain import Chain, PublicState
from fs3.model.metrics import catalogue
from fs3.model.metrics.metric import Sample
from fs3.model.routing import Role, Routing
from fs3.ports.clock import Clock
from fs3.services.mgmtd.service import MgmtdService

_ROLES = (Role.META, Role.STORAGE)
_CHAIN_STATES = ("whole", "degraded", "down")


class MgmtdMetrics:
    """A `MetricSource` of one manager."""

    def __init__(self, service: MgmtdService, clock: Clock) -> None:
        self._service = service
        self._clock = clock
        self._counted: tuple[int, list[Sample]] = (-1, [])
        """What follows from the routing info alone, and of which version."""

    def samples(self) -> Iterator[Sample]:
        """The readings of now."""
        service = self._service
        yield Sample(catalogue.PRIMARY, (), int(service.is_primary))
        manager = service.manager
        if manager is None:
            return
        yield Sample(catalogue.EPOCH, (), service.epoch)
        routing = manager.published
        if self._counted[0] != routing.version:
            self._counted = (routing.version, list(_of_routing(routing)))
        yield from self._counted[1]
        yield Sample(catalogue.NAMESPACES, (), manager.namespaces.count)
        targets = manager.target_statuses(self._clock.now())
        yield Sample(catalogue.SPACE_USED, (), sum(target.used_bytes for target in targets))
        yield Sample(catalogue.SPACE_FREE, (), sum(target.free_bytes for target in targets))


def _of_routing(routing: Routing) -> Iterator[Sample]:
    yield Sample(catalogue.ROUTING_VERSION, (), routing.version)
    nodes = Counter((node.role, node.alive) for node in routing.nodes.values())
    for role in _ROLES:
        for alive in (True, False):
            yield Sample(catalogue.NODES, (role.name.lower(), str(alive).lower()), nodes[role, alive])
    targets = Counter(slot.state for chain in routing.chains.values() for slot in chain.slots)
    for state in PublicState:
        yield Sample(catalogue.TARGETS, (state.name.lower(),), targets[state])
    chains = Counter(_state_of(chain) for chain in routing.chains.values())
    for name in _CHAIN_STATES:
        yield Sample(catalogue.CHAINS, (name,), chains[name])


def _state_of(chain: Chain) -> str:
    serving = len(chain.serving_slots())
    return "whole" if serving == len(chain.slots) else "degraded" if serving else "down"
