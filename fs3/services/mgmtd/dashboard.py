"""What a manager tells for the web page of its cluster. Used by a thread of its own: the manager's loop takes no part in it.

Looking at every target of a large cluster takes a while, so that is done when chains have changed and every few seconds, with
rests in between; those that are not whole are looked at each time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from fs3.base.ids import ChainId, NodeId
from fs3.base.units import MILLISECOND, SECOND
from fs3.core.dashboard.chains import ChainSurvey, chains_document, survey_chains
from fs3.core.dashboard.history import History, sample_of
from fs3.core.dashboard.page import (
    NO_SUMS,
    event_documents,
    events_shown_max,
    health_document,
    managers_document,
    node_document,
    page_of,
    room_of,
    space_document,
)
from fs3.core.dashboard.rates import NodeRate, RateMeter
from fs3.core.health.document import list_resyncs, status_document
from fs3.core.health.problems import problems_of
from fs3.model.activity import ToldActivity
from fs3.model.chain import Chain
from fs3.model.cluster import CacheNamespace, ClusterStatus, ManagerInfo, TargetStatus
from fs3.model.event import ClusterEvent
from fs3.model.routing import Routing
from fs3.ports.clock import Clock
from fs3.runtime.pacing import paced
from fs3.services.mgmtd.process_survey import ProcessSurvey
from fs3.services.mgmtd.service import MgmtdService

survey_interval_ns = 5 * SECOND
"""All targets are looked at so often at least, while the page is read."""
idle_survey_interval_ns = 30 * SECOND
"""And so often while it is not, for the history of space."""
survey_share = 10
"""But not before so many times as long as the last look took."""
state_age_ns = 200 * MILLISECOND
"""A state is given to all that ask within so long."""
resyncs_shown_max = 50


class ClusterSource(Protocol):
    """A manager, as far as the page looks into it. All of it may be called from any thread."""

    def describe(self) -> ClusterStatus | None:
        """What it knows of its cluster, without targets; None while it does not lead."""
        ...

    def statuses_of(self, chain: Chain) -> list[TargetStatus]:
        """The targets of a chain."""
        ...

    def list_managers(self) -> Sequence[ManagerInfo]:
        """Every manager."""
        ...

    def list_activities(self) -> Mapping[NodeId, ToldActivity]:
        """What nodes have said of what they do."""
        ...

    def list_events(self, after: int, limit: int) -> list[ClusterEvent]:
        """What happened."""
        ...

    def find_namespaces(self, ids: set[int]) -> Mapping[int, CacheNamespace]:
        """Those that have these ids."""
        ...


class ServiceSource:
    """The `ClusterSource` of a manager that runs in this process."""

    def __init__(self, service: MgmtdService, clock: Clock) -> None:
        self._service = service
        self._clock = clock
        self.list_managers = service.list_managers
        self.list_activities = service.list_activities
        self.list_events = service.list_events

    def describe(self) -> ClusterStatus | None:
        """See `ClusterSource`."""
        return self._service.describe_status(with_targets=False) if self._service.is_primary else None

    def statuses_of(self, chain: Chain) -> list[TargetStatus]:
        """See `ClusterSource`."""
        manager = self._service.manager
        return manager.statuses_of(self._clock.now(), chain) if manager is not None else []

    def find_namespaces(self, ids: set[int]) -> Mapping[int, CacheNamespace]:
        """See `ClusterSource`."""
        manager = self._service.manager
        return manager.namespaces.find_ids(ids) if manager is not None else {}


class LeadingManager(NamedTuple):
    """The manager that leads while another one is asked."""

    name: str = ""
    url: str = ""
    """Of its page; "": it serves none."""


class DashboardFeed:
    """The sections of the page, and the history of the cluster since this manager leads."""

    def __init__(self, source: ClusterSource, clock: Clock, processes: ProcessSurvey, name: str) -> None:
        """`name`: of this manager."""
        self._source = source
        self._clock = clock
        self._processes = processes
        self._name = name
        self._epoch = 0
        self._meter = RateMeter()
        self._rates: dict[NodeId, NodeRate] = {}
        self._history = History()
        self._history_document: dict[str, Any] = {}
        self._survey = ChainSurvey()
        self._survey_version = -1
        self._replicas: dict[ChainId, int] = {}
        """How many each chain of that version should have."""
        self._surveyed_at = self._survey_took_ns = 0
        self._events: list[dict[str, Any]] = []
        self._state: Mapping[str, Any] | None = None
        self._state_at = -state_age_ns

    def sample(self) -> None:
        """See `DashboardSource`."""
        status = self._source.describe()
        if status is None:
            self._forget()
            return
        self._begin_term(status)
        self._rates = self._meter.measure(self._source.list_activities())
        self._look_at_chains(status.routing, idle_survey_interval_ns, of_changes=False)
        room = room_of(status.nodes)
        used, free = (self._survey.used_bytes, room.free_bytes) if room.disks and self._survey_version >= 0 else (None, None)
        self._history.add(sample_of(self._wall_ms(), self._rates, used, free))
        self._history_document = self._history.document()

    def read_state(self) -> Mapping[str, Any] | None:
        """See `DashboardSource`."""
        now = self._clock.now()
        if self._state is not None and now - self._state_at < state_age_ns:
            return self._state
        status = self._source.describe()
        if status is None:
            self._forget()
            return None
        self._begin_term(status)
        if not self._look_at_chains(status.routing, survey_interval_ns, of_changes=True):
            self._look_at_odd_chains(status.routing)
        self._state = dict(paced(self._make_sections(status)))
        self._state_at = self._clock.now()
        return self._state

    def find_elsewhere(self) -> LeadingManager:
        """See `DashboardSource`."""
        if self._source.describe() is not None:
            return LeadingManager()
        for manager in self._source.list_managers():
            if manager.is_primary and manager.name != self._name:
                return LeadingManager(manager.name, page_of(manager.endpoints))
        return LeadingManager()

    async def ask_processes(self) -> None:
        """See `DashboardSource`."""
        status = self._source.describe()
        if status is not None:
            await self._processes.ask_some(status)

    async def close(self) -> None:
        """See `DashboardSource`."""
        await self._processes.close()

    # --- the term ----------------------------------------------------------------------------------------------------

    def _begin_term(self, status: ClusterStatus) -> None:
        if status.epoch != self._epoch:
            self._forget()
            self._epoch = status.epoch

    def _forget(self) -> None:
        self._epoch = 0
        self._meter = RateMeter()
        self._rates = {}
        self._history.clear()
        self._history_document = self._history.document()
        self._survey, self._survey_version = ChainSurvey(), -1
        self._events = []
        self._state = None

    def _wall_ms(self) -> int:
        return self._clock.wall() // MILLISECOND

    # --- chains ------------------------------------------------------------------------------------------------------

    def _look_at_chains(self, routing: Routing, interval_ns: int, *, of_changes: bool) -> bool:
        """Look at all of them, if it is time; `of_changes`: sooner when the routing info has changed."""
        now = self._clock.now()
        if self._survey_version >= 0:
            age = now - self._surveyed_at
            has_changed = of_changes and self._survey_version != routing.version
            if age < survey_share * self._survey_took_ns or (age < interval_ns and not has_changed):
                return False
        chains = routing.chains.values()
        found = ((chain, self._source.statuses_of(chain)) for chain in chains)
        began = time.thread_time_ns()
        if self._survey_version != routing.version:
            self._replicas = {chain: table.replicas for table in routing.tables.values() for chain in table.chains}
        self._survey = survey_chains(paced(found), self._replicas)
        self._survey_took_ns = time.thread_time_ns() - began
        self._survey_version, self._surveyed_at = routing.version, now
        return True

    def _look_at_odd_chains(self, routing: Routing) -> None:
        chains = [routing.chains[chain] for chain in self._survey.odd if chain in routing.chains]
        self._survey.renew([(chain, self._source.statuses_of(chain)) for chain in chains], self._replicas)

    # --- sections ----------------------------------------------------------------------------------------------------

    def _make_sections(self, status: ClusterStatus) -> Iterator[tuple[str, Any]]:
        """The sections one by one, so that there may be rests between them."""
        survey, routing, now_ms = self._survey, status.routing, self._wall_ms()
        odd = self._describe_odd_chains(status)
        yield "cluster", self._describe_cluster(status, now_ms)
        yield "health", health_document(problems_of(odd), status.nodes)
        nodes = (
            node_document(node, survey.by_node.get(node.node.id, NO_SUMS), self._rates.get(node.node.id), now_ms)
            for node in status.nodes
        )
        yield "nodes", list(paced(nodes))
        yield "chains", chains_document(survey, {node.id: node.name for node in routing.nodes.values()})
        resyncs = sorted(list_resyncs(odd), key=lambda each: -(each["seconds_left"] or 0.0))
        yield "resyncs", {"rows": resyncs[:resyncs_shown_max], "count": len(resyncs)}
        yield "space", space_document(room_of(status.nodes), survey.used_bytes, self._history.growth_per_second())
        yield "caches", self._processes.caches(self._source.find_namespaces, status.namespaces)
        yield "slow", self._processes.slow()
        yield "events", self._read_events()
        yield "history", self._history_document

    def _describe_cluster(self, status: ClusterStatus, now_ms: int) -> dict[str, Any]:
        return {
            "id": status.routing.cluster.hex()[:12],
            "manager": self._name,
            "epoch": status.epoch,
            "since_ms": now_ms // 1000 * 1000 - status.primary_for_ns // SECOND * 1000,
            "software": status.software,
            "store": status.store,
            "routing_version": status.routing.version,
            "namespaces": status.namespaces,
            "managers": managers_document(status.managers),
        }

    def _describe_odd_chains(self, status: ClusterStatus) -> dict[str, Any]:
        """The status as if there were no other chains: nothing is wrong with those."""
        odd, routing = self._survey.odd, status.routing
        chains = {chain: routing.chains[chain] for chain in odd if chain in routing.chains}
        reduced = msgspec.structs.replace(
            status,
            routing=msgspec.structs.replace(routing, chains=chains),
            targets=tuple(target for targets in odd.values() for target in targets),
        )
        return status_document(reduced)

    def _read_events(self) -> list[dict[str, Any]]:
        last = self._events[-1]["seq"] if self._events else 0
        found = self._source.list_events(last, events_shown_max)
        if found:
            self._events = [*self._events, *event_documents(found)][-events_shown_max:]
        return self._events
