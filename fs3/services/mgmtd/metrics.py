"""What a manager says in numbers of the cluster, while it is the primary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from fs3.base.units import SECOND
from fs3.core.health.document import status_document
from fs3.core.health.problems import problems_of
from fs3.model.chain import Chain, PublicState
from fs3.model.cluster import ClusterStatus
from fs3.model.health import HEALTH_TABLE, SEEN_FROM_OUTSIDE
from fs3.model.metrics import catalogue
from fs3.model.metrics.metric import Sample
from fs3.model.routing import Role, Routing
from fs3.ports.clock import Clock
from fs3.services.mgmtd.service import MgmtdService

look_interval_ns = 5 * SECOND
"""The reports of all targets are looked at so often at most."""
_ROLES = (Role.META, Role.STORAGE)
_CHAIN_STATES = ("whole", "degraded", "down")


class MgmtdMetrics:
    """A `MetricSource` of one manager."""

    def __init__(self, service: MgmtdService, clock: Clock) -> None:
        self._service = service
        self._clock = clock
        self._counted: tuple[int, list[Sample]] = (-1, [])
        """What follows from the routing info alone, and of which version."""
        self._seen: list[Sample] = []
        """What follows from the reports of nodes, and when they were looked at."""
        self._looked_at = -look_interval_ns

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
        now = self._clock.now()
        if now - self._looked_at >= look_interval_ns:
            status = service.describe_status()
            if status is not None:
                self._seen = list(_of_status(status))
                self._looked_at = now
        yield from self._seen


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


def _of_status(status: ClusterStatus) -> Iterator[Sample]:
    yield Sample(catalogue.NAMESPACES, (), status.namespaces)
    yield Sample(catalogue.SPACE_USED, (), sum(target.used_bytes for target in status.targets))
    yield Sample(catalogue.SPACE_FREE, (), sum(target.free_bytes for target in status.targets))
    problems = Counter(problem.kind for problem in problems_of(status_document(status)))
    for kind, row in HEALTH_TABLE.items():
        if kind not in SEEN_FROM_OUTSIDE:
            yield Sample(catalogue.PROBLEMS, (kind.value, row.severity), problems[kind])


def _state_of(chain: Chain) -> str:
    serving = len(chain.serving_slots())
    return "whole" if serving == len(chain.slots) else "degraded" if serving else "down"
