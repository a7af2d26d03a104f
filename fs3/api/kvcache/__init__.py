"""KVCache: write-once pages of attention keys and values, in namespaces that have settings and can be cleared and deleted."""

from fs3.api.kvcache.blocking import BlockingKVCache
from fs3.api.kvcache.cache import KVCache, LookupResult, Status
from fs3.api.kvcache.jobs import JobKind, JobResult
from fs3.model.cluster import CacheNamespace

__all__ = ["BlockingKVCache", "CacheNamespace", "JobKind", "JobResult", "KVCache", "LookupResult", "Status"]
