"""What the planted bugs of leases and events of KVCache pages exchange: see `fs3.sim.ring2.bugs`."""

from __future__ import annotations

from zlib import crc32

from fs3.base.ids import ChunkId
from fs3.base.units import SECOND
from fs3.core.kvcache.budget.page_cache import PageCache
from fs3.core.kvcache.events import Cursor, EventBatch, EventLogs
from fs3.core.kvcache.leases import Leases
from fs3.ports.rpc import Call
from fs3.services.storage.cache.head_records import HeadRecords
from fs3.services.storage.queries import Queries
from fs3.sim.ring2.service_bug import ServiceBug
from fs3.wire.storage_presence import contains_request_from_pb

RENEWAL_NS = 5 * SECOND


def is_never_held(self: Leases, chunk: ChunkId, now: int) -> bool:
    """An eviction does not look at leases."""
    return False


def leaving_unseen(self: PageCache) -> tuple[ChunkId, ...]:
    """A page whose eviction has begun is leased as any other."""
    return ()


def contains_and_renews(self: Queries, call: Call) -> None:
    """A lookup is taken for a sign that its pages are wanted for a while."""
    chunks = contains_request_from_pb(call.request).chunks
    leases = self._context.page_leases
    leases.grant(crc32(chunks[0]), [ChunkId(chunk) for chunk in chunks], RENEWAL_NS, self._clock.now())
    _real_contains(self, call)


_real_contains = Queries.contains


def expire_nothing(self: Leases, now: int) -> None:
    """The leases of those who have died never end."""


def read_without_missing(
    self: EventLogs, namespace_id: int, cursor: Cursor, limit: int, now: int, make_epoch: object
) -> EventBatch:
    """Who comes too late goes on from now, and is not told."""
    return _real_read(self, namespace_id, cursor, limit, now, make_epoch)._replace(missed=False)  # type: ignore[arg-type]


_real_read = EventLogs.read


def read_before_keys(self: EventLogs, namespace_id: int, cursor: Cursor, limit: int, now: int, make_epoch: object) -> EventBatch:
    """Events are told although their keys are still being read."""
    log = self._logs.get(namespace_id)
    if log is not None:
        log.unread.clear()
    return _real_read(self, namespace_id, cursor, limit, now, make_epoch)  # type: ignore[arg-type]


def keep_no_page(self: HeadRecords, chunk: ChunkId) -> None:
    """The key of a page is looked for once the page has been removed."""


LEASE_BUGS: dict[str, ServiceBug] = {
    "evicts_leased": ServiceBug(
        "an eviction does not look at leases", [(Leases, "is_held", is_never_held)], scene="leased_pages_stay"
    ),
    "leases_leaving": ServiceBug(
        "a page whose eviction has begun is leased",
        [(PageCache, "leaving", property(leaving_unseen))],
        scene="lease_what_is_being_evicted",
    ),
    "lookup_renews": ServiceBug(
        "a lookup renews what keeps its pages from eviction",
        [(Queries, "contains", contains_and_renews)],
        scene="a_lookup_renews_nothing",
    ),
    "leases_for_ever": ServiceBug(
        "the leases of a worker that has died do not end",
        [(Leases, "expire", expire_nothing)],
        scene="a_lookup_renews_nothing",
    ),
    "misses_events": ServiceBug(
        "a listener is not told that it has missed something",
        [(EventLogs, "read", read_without_missing)],
        scene="a_picture_made_of_events",
    ),
    "event_before_its_key": ServiceBug(
        "an event is told while the key of its page is still being read",
        [(EventLogs, "read", read_before_keys)],
        scene="a_picture_made_of_events",
    ),
    "key_of_a_page_that_is_gone": ServiceBug(
        "the key of a page that is removed is looked for after its block was freed",
        [(HeadRecords, "before_commit", keep_no_page)],
        scene="a_picture_made_of_events",
    ),
}
