"""What namespaces take, from the heads of all chains; what lookups found, told to one node; and leases given back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from fs3.base.errors import FS3Error, error
from fs3.base.ids import ChainId, NodeId
from fs3.base.limits import keys_per_find_max, read_attempt_ns
from fs3.base.status import Code
from fs3.client.storage.page_heads import LeasedAt
from fs3.client.storage.router import ReplicaRouter
from fs3.model.page_usage import LookupCounters, NamespaceUsage
from fs3.model.routing import Role
from fs3.ports.clock import Clock
from fs3.ports.rpc import Reply
from fs3.wire.methods import STORAGE
from fs3.wire.storage_pages import (
    release_request_to_pb,
    report_lookups_request_to_pb,
    usage_reply_from_pb,
    usage_request_to_pb,
)


class UsageReport(NamedTuple):
    """What all nodes that answered said together."""

    namespaces: dict[int, NamespaceUsage]
    chains: frozenset[ChainId]
    """Whose heads answered: the pages of any other are not counted."""


async def gather_usage(router: ReplicaRouter, clock: Clock, namespace_id: int, deadline: int) -> UsageReport:
    """Of one namespace, or of all (0). Nodes that do not answer are left out."""
    nodes = _alive_nodes(router)
    report = UsageReport({}, frozenset())
    answers = await asyncio.gather(*(_ask(router, clock, node, namespace_id, deadline) for node in nodes))
    heads: set[ChainId] = set()
    for rows, chains in answers:
        heads.update(chains)
        for row in rows:
            known = report.namespaces.get(row.namespace_id)
            if known is None:
                report.namespaces[row.namespace_id] = row
            else:
                known.add(row)
    return report._replace(chains=frozenset(heads))


def _alive_nodes(router: ReplicaRouter) -> list[NodeId]:
    return [node.id for node in router.routing.nodes.values() if node.role is Role.STORAGE and node.alive]


async def report_lookups(
    router: ReplicaRouter, clock: Clock, namespace_id: int, found: LookupCounters, first: int, deadline: int
) -> None:
    """Tell one node what lookups found. `first`: any number of the client's own, so that not all tell the same node.

    Raises FS3Error: UNAVAILABLE when there is no node. What its code calls `Retry.MAYBE` may be counted.
    """
    nodes = _alive_nodes(router)
    if not nodes:
        raise error(Code.UNAVAILABLE, "no storage node is there to be told what lookups found")
    begin, now = first % len(nodes), clock.now()
    order = nodes[begin:] + nodes[:begin]
    node = next((each for each in order if not router.choice.is_suspect(each, now)), order[0])
    message = report_lookups_request_to_pb(namespace_id, found)
    left = min(read_attempt_ns, router.time_left(deadline))
    try:
        await router.channel(node).start(STORAGE.ReportLookups, message, timeout_ns=left)
    except FS3Error as failure:
        router.on_failure(node, failure)
        raise


async def _ask(
    router: ReplicaRouter, clock: Clock, node: NodeId, namespace_id: int, deadline: int
) -> tuple[list[NamespaceUsage], Sequence[ChainId]]:
    rows: list[NamespaceUsage] = []
    heads: Sequence[ChainId] = ()
    while True:
        after = rows[-1].namespace_id if rows else 0
        left = min(read_attempt_ns, deadline - clock.now())
        if left <= 0:
            return rows, heads
        try:
            message = usage_request_to_pb(namespace_id, after)
            reply = await router.channel(node).start(STORAGE.CacheUsage, message, timeout_ns=left)
            page = usage_reply_from_pb(reply.message)
        except FS3Error:
            return rows, ()
        rows += page.namespaces
        heads = page.heads
        if not page.more:
            return rows, heads


async def release_leases(router: ReplicaRouter, clock: Clock, leases: Iterable[LeasedAt], deadline: int) -> None:
    """End leases at once. One whose node does not hear of it ends by itself."""
    by_node: dict[NodeId, list[int]] = {}
    for node, lease_id in leases:
        by_node.setdefault(node, []).append(lease_id)
    calls: list[asyncio.Future[Reply]] = []
    for node, ids in by_node.items():
        for begin in range(0, len(ids), keys_per_find_max):
            message = release_request_to_pb(ids[begin : begin + keys_per_find_max])
            try:
                calls.append(router.channel(node).start(STORAGE.Release, message, timeout_ns=max(1, deadline - clock.now())))
            except FS3Error:
                continue
    for answer in await asyncio.gather(*calls, return_exceptions=True):
        if not isinstance(answer, Reply | FS3Error):
            raise answer
