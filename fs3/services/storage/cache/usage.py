"""What the namespaces of KVCaches take and do on one storage node."""

from __future__ import annotations

from fs3.base.ids import ChainId
from fs3.base.limits import usage_rows_max
from fs3.core.craq.position import ChainRole
from fs3.core.kvcache.leases import Leases
from fs3.core.kvcache.statistics import CacheStatistics
from fs3.model.page_usage import NamespaceUsage, UsagePage
from fs3.ports.rpc import Call
from fs3.services.storage.node_context import NodeContext
from fs3.services.storage.target import TargetShell
from fs3.services.storage.target_map import TargetMap
from fs3.wire.storage_cache import usage_reply_to_pb


class UsageQueries:
    """The handler of CacheUsage."""

    def __init__(self, targets: TargetMap, context: NodeContext, leases: Leases, statistics: CacheStatistics) -> None:
        self._by_chain = targets.by_chain
        self._context = context
        self._clock = context.clock
        self._leases = leases
        self._statistics = statistics

    def read(self, call: Call) -> None:
        """The handler of CacheUsage: bytes and pages of the chains whose head is here, so that each page counts once."""
        now = self._clock.now()
        heads = {
            chain: shell
            for chain, shell in self._by_chain.items()
            if shell.replica.position.role is ChainRole.HEAD and now < shell.lease_until()
        }
        wanted: int = call.request.namespace_id
        if wanted:
            namespaces = [wanted]
        else:
            known = set(self._statistics.namespaces)
            for shell in heads.values():
                if shell.cache is not None:
                    known.update(shell.cache.cache.namespaces)
            namespaces = sorted(each for each in known if each > call.request.after)
        rows = [self._count(each, heads, now) for each in namespaces[:usage_rows_max]]
        page = UsagePage(rows, len(namespaces) > usage_rows_max, sorted(heads))
        call.reply(usage_reply_to_pb(page, routing_version=self._context.routing_version))

    def _count(self, namespace_id: int, heads: dict[ChainId, TargetShell], now: int) -> NamespaceUsage:
        usage = NamespaceUsage(namespace_id)
        usage.leases, usage.leased_pages = self._leases.use(namespace_id, now)
        for shell in heads.values():
            if shell.cache is not None:
                taken = shell.cache.cache.use(namespace_id)
                usage.pages += taken.pages
                usage.bytes += taken.bytes
            pinned = shell.records.pins.use(namespace_id, now)
            usage.soft_pins += pinned.soft_pages
            usage.hard_pins += pinned.hard_pages
            usage.hard_pin_bytes += pinned.hard_bytes
        counters = self._statistics.find(namespace_id)
        if counters is not None:
            usage.counters = counters
        return usage
