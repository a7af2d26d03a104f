"""What a KVCache's user can do for its pages beside storing and reading them: pin and touch them, see what they take, listen."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from fs3.api.client import Client
from fs3.api.kvcache.arguments import Key, check_pin_ttl
from fs3.api.kvcache.events import EventStream
from fs3.api.kvcache.lookup_reports import LookupReporter
from fs3.api.kvcache.namespaces import client_of, list_namespaces
from fs3.api.kvcache.page_io import left_ns
from fs3.api.kvcache.results import LookupResult, Status, status_of
from fs3.base.errors import FS3Error, error
from fs3.base.ids import ChainId
from fs3.base.limits import pin_ms_max
from fs3.base.status import Code
from fs3.client.storage.page_heads import PageSet
from fs3.client.storage.page_usage import UsageReport
from fs3.core.kvcache.pages import page_chunks
from fs3.core.kvcache.placement import Placement
from fs3.model.cluster import CacheNamespace
from fs3.model.page_usage import CacheCounters, LookupCounters, NamespaceUsage, PinKind
from fs3.model.routing import Routing

if TYPE_CHECKING:
    from fs3.api.kvcache.breaker import GuardedStorage
    from fs3.client.storage.client import StorageClient

PIN_TTL_SECONDS = 3600.0
"""Of a soft pin."""


class CacheUsage(msgspec.Struct, frozen=True):
    """What a namespace takes, beside what it may take. Bytes and pages of one copy, as stored: with keys and headers."""

    namespace: CacheNamespace
    pages: int
    bytes: int
    hard_pin_bytes: int
    hard_pins: int
    soft_pins: int
    leases: int
    leased_pages: int
    """Each as often as it is leased."""
    counters: CacheCounters
    """Of all storage nodes, each since it began."""
    missing_chains: int
    """Chains whose heads did not answer: their pages are not counted."""
    lookups: LookupCounters
    """What the lookups of all clients found, as they count it: `lookups.hit_rate` is the part of the keys that engines could use.
    Reported within seconds, and when a client is closed; of one that dies, the last seconds are missing."""


def usage_of(namespace: CacheNamespace, report: UsageReport, routing: Routing) -> CacheUsage:
    """What storage nodes have said of a namespace."""
    found = report.namespaces.get(namespace.id) or NamespaceUsage(namespace.id)
    table = routing.tables.get(namespace.table)
    chains = table.chains if table is not None else ()
    return CacheUsage(
        namespace,
        found.pages,
        found.bytes,
        found.hard_pin_bytes,
        found.hard_pins,
        found.soft_pins,
        found.leases,
        found.leased_pages,
        found.counters,
        sum(chain not in report.chains for chain in chains),
        found.lookups,
    )


class PageUpkeep:
    """The part of `KVCache` that this module is about."""

    name: str
    namespace_id: int
    _client: Client
    _namespace: CacheNamespace
    _storage: StorageClient | GuardedStorage
    _timeout_ns: int
    _is_deleted: bool
    _lookups: LookupCounters
    _reports: LookupReporter

    @property
    def salt(self) -> bytes:
        raise NotImplementedError

    def _pack(self, keys: Sequence[Key]) -> list[bytes]:
        raise NotImplementedError

    def _check_use(self) -> None:
        raise NotImplementedError

    async def _check_presence(self) -> int:
        raise NotImplementedError

    def _get_placement(self) -> Placement:
        raise NotImplementedError

    # --- pins and touches -----------------------------------------------------------------------------------------------

    async def pin(self, keys: Sequence[Key], *, ttl: float | None = None, hard: bool = False) -> list[Status]:
        """Keep pages that are wanted although no worker reads them for a while. A soft pin has them evicted when nothing else may
        be; a `hard` one keeps them from eviction altogether, within the `pin_bytes` of the namespace. Pinning again replaces
        the pin. `ttl`: seconds; an hour unless given, of a hard pin until it is taken away.

        OK, MISS, NO_SPACE (the pin budget is used up; the page stays as it was), or why it is not known. Pins are in memory at
        the head of each chain: one that fails forgets them, so a client that relies on one pins again from time to time.

        Raises TypeError or InvalidArgument for a bad argument.
        """
        if not isinstance(hard, bool):
            raise TypeError(f"hard is not a bool but {type(hard).__name__}")
        if ttl is None and not hard:
            ttl = PIN_TTL_SECONDS
        pin_ms = 0 if ttl is None else check_pin_ttl(ttl)
        return await self._pin(keys, PinKind.HARD if hard else PinKind.SOFT, pin_ms)

    async def unpin(self, keys: Sequence[Key]) -> list[Status]:
        """Take pins away. OK whether or not there was one; MISS where there is no such page. Raises as `pin`."""
        return await self._pin(keys, PinKind.NONE, 0)

    async def _pin(self, keys: Sequence[Key], kind: PinKind, pin_ms: int) -> list[Status]:
        packed = self._pack(keys)
        timeout_ns = await self._check_presence()
        if self._is_deleted:
            return [Status.MISS] * len(packed)
        try:
            codes = await self._storage.pin(self._page_set(packed), kind, pin_ms, timeout_ns=timeout_ns)
        except FS3Error as failure:
            return [status_of(failure.code)] * len(packed)
        return [status_of(code) for code in codes]

    async def touch(self, keys: Sequence[Key]) -> list[Status]:
        """Have pages count as just read, without reading them. OK, MISS, or why it is not known. Raises TypeError or
        InvalidArgument for a bad key."""
        packed = self._pack(keys)
        timeout_ns = await self._check_presence()
        if self._is_deleted:
            return [Status.MISS] * len(packed)
        try:
            codes = await self._storage.touch_pages(self._page_set(packed), timeout_ns=timeout_ns)
        except FS3Error as failure:
            return [status_of(failure.code)] * len(packed)
        return [status_of(code) for code in codes]

    def _page_set(self, keys: Sequence[bytes]) -> PageSet:
        placement = self._get_placement()
        chunks = page_chunks(self.namespace_id, self.salt, keys)
        return PageSet(chunks, placement.places(chunks), placement.chains)

    # --- what there is --------------------------------------------------------------------------------------------------

    async def usage(self) -> CacheUsage:
        """What the namespace takes and may take, as the storage nodes and the manager say now: also of what others stored, with
        what the lookups of this handle have found so far.

        Raises NotFound when the namespace was deleted, FS3Error when the manager does not answer within the timeout.
        """
        self._check_use()
        begun = asyncio.get_running_loop().time()
        namespace = await self._client.manager.find_namespace(self.name, await self._check_presence())
        if namespace is None or self._is_deleted:
            raise error(Code.NO_NAMESPACE, "the namespace was deleted", self.name)
        await self._reports.flush(left_ns(self._timeout_ns, begun))
        report = await self._client.storage.page_usage(namespace.id, timeout_ns=left_ns(self._timeout_ns, begun))
        return usage_of(namespace, report, self._client.manager.routing)

    @staticmethod
    async def list_usage(source: Client | str, prefix: str = "") -> list[CacheUsage]:
        """`usage` of every namespace whose name begins with `prefix`, by name. `source`: a client, or the cluster's URL.

        Raises Unreachable when no manager answers.
        """
        async with client_of(source) as client:
            namespaces = await list_namespaces(client, prefix)
            storage, routing = client.storage, client.manager.routing
            if storage.capabilities is None or not storage.capabilities.is_needed:
                report = await storage.page_usage()
                return [usage_of(namespace, report, routing) for namespace in namespaces]
            # What users may ask for is one namespace at a time.
            reports = await asyncio.gather(*(storage.page_usage(namespace.id) for namespace in namespaces))
            return [usage_of(namespace, report, routing) for namespace, report in zip(namespaces, reports, strict=True)]

    def _count_lookup(self, found: LookupResult) -> None:
        there, unknown = found.hits, 0
        if there < len(found.statuses):
            there = sum(found.bitmap)
            unknown = len(found.statuses) - there - found.statuses.count(Status.MISS)
        counted = LookupCounters(1, len(found.statuses), there, found.hits, unknown)
        self._lookups.add(counted)
        self._reports.add(self.namespace_id, counted)

    @property
    def statistics(self) -> LookupCounters:
        """What the lookups of this object have found so far. What all clients did together, `usage` tells."""
        return self._lookups

    # --- events ---------------------------------------------------------------------------------------------------------

    def events(self, token: str = "") -> EventStream:
        """What happens to the pages, by whomever: an async iterator of `CacheEvent`, from now on, or behind the event after
        which a stream gave this `token`. See `fs3.api.kvcache.events`.

        Raises TypeError or InvalidArgument for what is no token.
        """
        self._check_use()
        return EventStream(self, self._client.storage, token, self._timeout_ns)

    def page_ids(self, keys: Sequence[Key]) -> list[bytes]:
        """How events name the pages of these keys. Others, once the namespace was cleared. Raises TypeError or InvalidArgument
        for a bad key."""
        return [bytes(chunk) for chunk in page_chunks(self.namespace_id, self.salt, self._pack(keys))]

    async def check_namespace(self) -> None:
        """Learn whether the namespace was cleared. Raises NotFound when it was deleted, InvalidArgument after `close`."""
        self._check_use()
        await self._check_presence()
        if self._is_deleted:
            raise error(Code.NO_NAMESPACE, "the namespace was deleted", self.name)

    def get_chains(self) -> Sequence[ChainId]:
        """The chains that pages are on now."""
        return self._get_placement().chains


assert round(PIN_TTL_SECONDS * 1000) <= pin_ms_max
