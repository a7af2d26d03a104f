"""Sections of the page: space that several nodes share, caches that several nodes have, what is bounded."""

from __future__ import annotations

from fs3.base.ids import NodeId, TableId
from fs3.base.status import Code
from fs3.base.units import GIB, MILLISECOND, SECOND
from fs3.core.dashboard.caches import NodeCaches, caches_document, namespaces_shown_max
from fs3.core.dashboard.page import (
    DiskRoom,
    health_document,
    page_of,
    room_of,
    slow_document,
    slow_shown_max,
    space_document,
    texts_shown_max,
)
from fs3.core.health.problems import HealthProblem
from fs3.model.cluster import CacheNamespace, DiskSpace, NodeStatus
from fs3.model.health import HEALTH_TABLE, HealthKind
from fs3.model.page_usage import CacheCounters, LookupCounters, NamespaceUsage
from fs3.model.routing import Node, Role
from fs3.model.slow import SlowOperation


def storage(number: int, host: str, *disks: DiskSpace) -> NodeStatus:
    node = Node(NodeId(number), f"storage-{number}", Role.STORAGE, (), host, 1, True)
    return NodeStatus(node, SECOND, 100 * MILLISECOND, disks=disks)


def test_a_file_system_counts_once_however_many_nodes_are_on_it() -> None:
    shared = [storage(number, "one", DiskSpace(f"/data/{number}", 100, 40, device=5)) for number in (1, 2, 3)]
    other = storage(4, "two", DiskSpace("/data", 100, 40, device=5))
    of_older_release = storage(5, "two", DiskSpace("/data", 100, 40))
    assert room_of([*shared, other, of_older_release]) == DiskRoom(300, 120, 3)


def test_when_space_will_be_used_up() -> None:
    room = DiskRoom(100 * GIB, 36 * GIB, 1)
    assert space_document(room, 5, 10 * GIB / 3600)["full_in_seconds"] == 12960
    assert space_document(room, 5, -10.0)["full_in_seconds"] is None
    assert space_document(room, 5, None)["growth_per_hour"] is None


def test_problems_are_in_groups_the_most_urgent_first() -> None:
    problems = [HealthProblem(HealthKind.TARGET_BEHIND, f"target {number}", float(number)) for number in range(100)]
    problems.append(HealthProblem(HealthKind.CHAIN_UNSERVED, "chain 3"))
    found = health_document(problems, [])
    assert found["health"] == "down"
    first, second = found["groups"]
    assert (first["code"], first["severity"], first["eta_seconds"]) == ("chain-unserved", "down", None)
    assert (second["count"], len(second["texts"]), second["eta_seconds"]) == (100, texts_shown_max, 99.0)
    assert {each.value for each in HEALTH_TABLE} >= {first["runbook"], second["runbook"]}


def test_where_a_manager_serves_its_page() -> None:
    assert page_of(("tcp://10.0.0.1:8000", "http://10.0.0.1:9400")) == "http://10.0.0.1:9400"
    assert page_of(("tcp://10.0.0.1:8000",)) == ""


def test_the_slowest_of_all_processes() -> None:
    operations = [
        (f"storage-{number}", SlowOperation(0, number * MILLISECOND, "Storage.Read", Code.OK, "peer", 0, ()))
        for number in range(100)
    ]
    found = slow_document(operations, [], 7, 9)
    assert [each["ms"] for each in found["operations"]] == [float(99 - place) for place in range(slow_shown_max)]
    assert (found["asked"], found["processes"]) == (7, 9)


def usage(number: int, gets: int, *, asked: int = 0, used: int = 0, size: int = 100) -> NamespaceUsage:
    lookups = LookupCounters(lookups=1, keys_asked=asked, keys_found=used, prefix_keys=used)
    return NamespaceUsage(number, pages=1, bytes=size, counters=CacheCounters(gets=gets), lookups=lookups)


def find(ids: set[int]) -> dict[int, CacheNamespace]:
    return {number: CacheNamespace(number, f"name-{number}", 4096, 3, TableId(1)) for number in ids}


def test_caches_are_added_up_with_rates_by_node() -> None:
    before = [NodeCaches.of([usage(1, 100, asked=10, used=2)], 0, None), NodeCaches.of([usage(1, 50)], 0, None)]
    after = [
        NodeCaches.of([usage(1, 300, asked=20, used=11)], 2 * SECOND, before[0]),
        NodeCaches.of([usage(1, 10)], 4 * SECOND, before[1]),  # was started again
    ]
    (row,) = caches_document(after, find, 1, 2)["rows"]
    assert (row["bytes"], row["gets_per_second"]) == (200, 100.0)
    assert (row["hit_rate"], row["recent_hit_rate"]) == (0.55, 0.9)


def test_as_many_namespaces_as_there_are_do_not_make_the_page_longer() -> None:
    node = NodeCaches.of([usage(number, 0, size=number) for number in range(1, 1001)], 0, None)
    found = caches_document([node], find, 1000, 1)
    assert len(found["rows"]) == namespaces_shown_max
    assert found["rows"][0]["name"] == "name-1000"
    assert found["count"] == 1000
