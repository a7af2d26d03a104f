"""A cluster of any size as the page of a manager sees it, without processes: for tests of the page, and to measure it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import msgspec

from fs3.base.counting import BUCKETS
from fs3.base.ids import ChainId, NodeId, TableId, TargetId
from fs3.base.status import Code
from fs3.base.units import GIB, MIB, MILLISECOND, SECOND
from fs3.base.version import THIS_RELEASE
from fs3.client.connector import Connector
from fs3.core.dashboard.caches import NodeCaches
from fs3.drivers.http.dashboard_site import DashboardSite
from fs3.drivers.http.metrics_server import MetricsServer
from fs3.drivers.os.clock import OsClock
from fs3.model.activity import NodeActivity, OperationTotals, ToldActivity
from fs3.model.chain import Chain, ChainTable, LocalState, PublicState, Slot
from fs3.model.cluster import CacheNamespace, ClusterStatus, DiskSpace, ManagerInfo, NodeStatus, TargetStatus
from fs3.model.domain import Domain
from fs3.model.event import ClusterEvent
from fs3.model.page_usage import CacheCounters, LookupCounters, NamespaceUsage
from fs3.model.routing import Node, Role, Routing
from fs3.model.slow import SlowOperation, SlowReport, Span
from fs3.model.target_report import UpkeepProgress
from fs3.ports.clock import Clock
from fs3.services.mgmtd.dashboard import DashboardFeed
from fs3.services.mgmtd.process_survey import ProcessSurvey

REPLICAS = 3
SCRIPT = "<script>document.title = 'owned'</script>"
"""A name that must become text."""


class SimulatedCluster:
    """A `ClusterSource`."""

    def __init__(self, nodes: int, chains: int, clock: Clock) -> None:
        self._clock = clock
        self._begun_at = clock.now()
        made = {
            NodeId(number): Node(
                NodeId(number), f"storage-{number}", Role.STORAGE, (f"tcp://10.9.{number // 250}.{number % 250}:8010",),
                f"host-{number}", 1, True, domain=Domain(f"zone-{number % 3 + 1}", f"rack-{number % 12 + 1}"),
            )
            for number in range(1, nodes + 1)
        }  # fmt: skip
        meta = NodeId(nodes + 1)
        made[meta] = Node(meta, "meta", Role.META, ("tcp://10.9.3.1:8002",), "host-0", 1, True)
        self.routing = Routing(
            b"\x12\x34\x56\x78" * 4,
            1,
            made,
            {ChainId(chain): self._make_chain(chain, nodes) for chain in range(1, chains + 1)},
            {TableId(1): ChainTable(TableId(1), 1, REPLICAS, tuple(ChainId(chain) for chain in range(1, chains + 1)))},
        )
        self.is_leading = True
        self.managers = (
            ManagerInfo("mgmtd", ("tcp://127.0.0.1:8000",), True),
            ManagerInfo("mgmtd-2", ("tcp://127.0.0.1:8020", "http://127.0.0.1:9410")),
        )
        self.silent: dict[NodeId, int] = {}
        """Nodes that are not heard, and since when."""
        self.resyncing: dict[ChainId, float] = {}
        """How far the chain's resync is."""
        self.events: list[ClusterEvent] = []
        self.calls_per_second = 1000
        self.namespaces = {1: CacheNamespace(1, SCRIPT, 65536, 3, TableId(1), owner="<b>owner</b>")}
        self.tell("joined", "notice", f"{chains} chains were made")

    @staticmethod
    def _make_chain(chain: int, nodes: int) -> Chain:
        slots = tuple(
            Slot(TargetId(chain * 10 + place), NodeId((chain * 7 + place * 61) % nodes + 1), PublicState.SERVING)
            for place in range(REPLICAS)
        )
        return Chain(ChainId(chain), 1, slots)

    # --- what happens ------------------------------------------------------------------------------------------------

    def tell(self, code: str, severity: str, text: str) -> None:
        """Something happened."""
        last = self.events[-1].seq if self.events else 0
        self.events.append(ClusterEvent(last + 1, self._clock.wall() // MILLISECOND, code, severity, text))

    def set_state(self, number: int, state: PublicState, *, alive: bool) -> None:
        """A node comes or goes, and all its targets are in one state."""
        node = NodeId(number)
        changed = {}
        for chain in self.routing.chains.values():
            if any(slot.node == node for slot in chain.slots):
                slots = tuple(Slot(slot.target, slot.node, state) if slot.node == node else slot for slot in chain.slots)
                changed[chain.id] = Chain(chain.id, chain.version + 1, slots)
        known = self.routing.nodes[node]
        self.routing = msgspec.structs.replace(
            self.routing,
            version=self.routing.version + 1,
            nodes={**self.routing.nodes, node: msgspec.structs.replace(known, alive=alive)},
            chains={**self.routing.chains, **changed},
        )
        self.resyncing = dict.fromkeys(changed, 0.3) if state is PublicState.SYNCING else {}
        if alive:
            self.silent.pop(node, None)
        else:
            self.silent.setdefault(node, self._clock.now())
        self.tell("well" if alive else "node-dead", "notice" if alive else "degraded", f"node {known.name} has changed")

    # --- ClusterSource -----------------------------------------------------------------------------------------------

    def describe(self) -> ClusterStatus | None:
        """See `ClusterSource`."""
        if not self.is_leading:
            return None
        now = self._clock.now()
        disks = (DiskSpace("/data/1", 8000 * GIB, 5000 * GIB, 7),)
        nodes = tuple(
            NodeStatus(
                node, 3 * SECOND, now - self.silent.get(node.id, now - 100 * MILLISECOND), disks=disks, release=THIS_RELEASE
            )
            for node in self.routing.nodes.values()
        )
        return ClusterStatus("0.1.0", self.routing, nodes, (), len(self.namespaces), self.managers, 1, now - self._begun_at)

    def statuses_of(self, chain: Chain) -> list[TargetStatus]:
        """See `ClusterSource`."""
        return [self._status_of(chain, slot) for slot in chain.slots]

    def _status_of(self, chain: Chain, slot: Slot) -> TargetStatus:
        local = LocalState.UPTODATE if slot.state is PublicState.SERVING else LocalState.ONLINE
        upkeep = UpkeepProgress()
        source = next((each for each in chain.slots if each.state is PublicState.SERVING), None)
        if slot is source and chain.id in self.resyncing:
            behind = next(each.target for each in chain.slots if each.state is PublicState.SYNCING)
            part = self.resyncing[chain.id]
            upkeep = UpkeepProgress(behind, int(1000 * part), 1000, 10 * MIB, 50 * MIB)
        return TargetStatus(chain.id, chain.version, slot, local, True, 6 * GIB, 40 * GIB, 1500, "", upkeep)

    def list_managers(self) -> tuple[ManagerInfo, ...]:
        """See `ClusterSource`."""
        return self.managers

    def list_activities(self) -> Mapping[NodeId, ToldActivity]:
        """See `ClusterSource`."""
        now = self._clock.now()
        seconds = (now - self._begun_at) / SECOND
        calls = int(self.calls_per_second * seconds)
        counts = (0,) * 5 + (calls - calls // 50,) + (0,) * 4 + (calls // 50,)
        assert len(counts) <= BUCKETS
        totals = OperationTotals(calls, calls * 65536, counts)
        names = OperationTotals(calls, 0, counts)
        return {
            node.id: ToldActivity(
                now,
                NodeActivity(int(400 * seconds), 300 * MIB, totals, totals)
                if node.role is Role.STORAGE
                else NodeActivity(int(200 * seconds), 200 * MIB, names=names),
            )
            for node in self.routing.nodes.values()
            if node.alive and node.id not in self.silent
        }

    def list_events(self, after: int, limit: int) -> list[ClusterEvent]:
        """See `ClusterSource`."""
        return [event for event in list(self.events) if event.seq > after][-limit:]

    def find_namespaces(self, ids: set[int]) -> Mapping[int, CacheNamespace]:
        """See `ClusterSource`."""
        return {number: found for number, found in self.namespaces.items() if number in ids}


class ToldSurvey(ProcessSurvey):
    """Processes have answered this, whichever is asked."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock, lambda: Connector([], host=""))
        self._slow["storage-1"] = SlowReport(
            (
                SlowOperation(
                    time.time_ns(), 1_250 * MILLISECOND, "Storage.Update", Code.OK, "10.9.0.7:41000", 17,
                    (Span("waiting", MILLISECOND), Span("storing", 1_200 * MILLISECOND), Span("next replicas", 49 * MILLISECOND)),
                ),
            ),
            (),
        )  # fmt: skip
        usage = NamespaceUsage(
            1, pages=12_000, bytes=700 * MIB, counters=CacheCounters(gets=9000, puts=12_000),
            lookups=LookupCounters(lookups=100, keys_asked=1000, keys_found=700, prefix_keys=563),
        )  # fmt: skip
        self._caches["storage-1"] = NodeCaches.of([usage], clock.now(), None)

    async def ask_some(self, status: ClusterStatus) -> None:
        """See `ProcessSurvey`."""


@contextmanager
def serve_page(cluster: SimulatedCluster, clock: OsClock) -> Iterator[str]:
    """Serve the page of a cluster; yields its URL."""
    server = MetricsServer(lambda: (), DashboardSite(DashboardFeed(cluster, clock, ToldSurvey(clock), "mgmtd")))
    host, port = server.start("127.0.0.1", 0)
    try:
        yield f"http://{host}:{port}"
    finally:
        server.close()
