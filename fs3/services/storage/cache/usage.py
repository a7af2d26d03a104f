"""What the namespaces of KVCaches take and do on one storage node."""

from __future__ import annotations

from collections.abc import Mapping

from fs3.base.errors import FS3Error
from fs3.base.ids import ChainId, TargetId
from fs3.base.limits import usage_rows_max
from fs3.base.status import Code
from fs3.core.craq.position import ChainRole
from fs3.model.page_usage import NamespaceUsage, UsagePage
from fs3.ports.rpc import Call
from fs3.services.storage.cache.keeper import CacheKeeper
from fs3.services.storage.node_context import NodeContext
from fs3.services.storage.target_map import TargetMap
from fs3.wire.storage_pages import report_lookups_reply_to_pb, report_lookups_request_from_pb, usage_reply_to_pb


class UsageQueries:
    """The handlers of CacheUsage and ReportLookups."""

    def __init__(self, targets: TargetMap, keepers: Mapping[TargetId, CacheKeeper], context: NodeContext) -> None:
        """`keepers`: of the targets that are open."""
        self._by_chain = targets.by_chain
        self._keepers = keepers
        self._context = context
        self._clock = context.clock

    def read(self, call: Call) -> None:
        """The handler of CacheUsage: bytes and pages of the chains whose head is here, so that each page counts once."""
        now = self._clock.now()
        heads = {
            ChainId(chain): self._keepers[shell.target]
            for chain, shell in self._by_chain.items()
            if shell.replica.position.role is ChainRole.HEAD and now < shell.lease_until() and shell.target in self._keepers
        }
        wanted: int = call.request.namespace_id
        if wanted:
            namespaces = [wanted]
        else:
            known = set(self._context.cache_statistics.namespaces)
            for keeper in heads.values():
                known.update(keeper.cache.namespaces)
            namespaces = sorted(each for each in known if each > call.request.after)
        rows = [self._count(each, heads, now) for each in namespaces[:usage_rows_max]]
        page = UsagePage(rows, len(namespaces) > usage_rows_max, sorted(heads))
        call.reply(usage_reply_to_pb(page, routing_version=self._context.routing_version))

    def count_reported(self, call: Call) -> None:
        """The handler of ReportLookups. What is reported of a namespace that was deleted meanwhile counts nowhere."""
        try:
            namespace_id, found = report_lookups_request_from_pb(call.request)
        except FS3Error as wrong:
            call.fail(wrong.code, wrong.strerror or "", self._context.routing_version)
            return
        namespaces = self._context.namespaces
        if namespaces.get(namespace_id) is not None:
            self._context.cache_statistics.count_reported(namespace_id, found)
        elif not namespaces.is_deleted(namespace_id):
            # So that no client fills the counters with namespaces there are not.
            call.fail(Code.BUSY, f"namespace {namespace_id} is not known here yet", self._context.routing_version)
            return
        call.reply(report_lookups_reply_to_pb())

    def _count(self, namespace_id: int, heads: dict[ChainId, CacheKeeper], now: int) -> NamespaceUsage:
        usage = NamespaceUsage(namespace_id)
        usage.leases, usage.leased_pages = self._context.page_leases.use(namespace_id, now)
        for keeper in heads.values():
            taken = keeper.cache.use(namespace_id)
            usage.pages += taken.pages
            usage.bytes += taken.bytes
            pinned = keeper.records.pins.use(namespace_id, now)
            usage.soft_pins += pinned.soft_pages
            usage.hard_pins += pinned.hard_pages
            usage.hard_pin_bytes += pinned.hard_bytes
        counters = self._context.cache_statistics.find(namespace_id)
        if counters is not None:
            usage.counters = counters
        usage.lookups = self._context.cache_statistics.find_reported(namespace_id) or usage.lookups
        return usage
