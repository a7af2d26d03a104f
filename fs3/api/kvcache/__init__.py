"""KVCache: write-once pages of attention keys and values, in namespaces that have settings and can be cleared and deleted."""

from fs3.api.kvcache.blocking import BlockingKVCache
from fs3.api.kvcache.cache import KVCache
from fs3.api.kvcache.events import BlockingEventStream, CacheChange, CacheEvent, EventStream
from fs3.api.kvcache.jobs import JobKind, JobResult
from fs3.api.kvcache.leases import BlockingLease, PageLease
from fs3.api.kvcache.results import ListedPage, LookupResult, PageList, Status
from fs3.api.kvcache.upkeep import CacheUsage
from fs3.api.registration import RegisteredBuffer
from fs3.model.cluster import CacheNamespace

__all__ = [
    "BlockingEventStream",
    "BlockingKVCache",
    "BlockingLease",
    "CacheChange",
    "CacheEvent",
    "CacheNamespace",
    "CacheUsage",
    "EventStream",
    "JobKind",
    "JobResult",
    "KVCache",
    "ListedPage",
    "LookupResult",
    "PageLease",
    "PageList",
    "RegisteredBuffer",
    "Status",
]
