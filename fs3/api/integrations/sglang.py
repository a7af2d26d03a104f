"""SGLang HiCache on fs3: the third level of its hierarchical cache, shared by all servers of a model.

    sglang serve … --enable-hierarchical-cache --hicache-storage-backend dynamic --hicache-storage-backend-extra-config '{
      "backend_name": "fs3", "module_path": "fs3.api.integrations.sglang", "class_name": "HiCacheFS3",
      "interface_v1": 1, "url": "fs3://127.0.0.1:8000", "replicas": 2}'

Pages go from and to SGLang's own host memory without a copy, whatever its layout: one page is one fs3 page in as many pieces as
the layout has it in. Each kind of page has a namespace of its own, whose name says everything that makes pages incompatible; what
all ranks of a model have alike (MLA) is in one namespace for all of them.

SGLang calls from threads of its own, one of which ends for good when a call raises: no call does, and none returns None.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pickle import PickleBuffer
from typing import Any, TypeVar

from fs3.api.integrations.engine import EngineOptions, check_version, namespace_name, open_namespace, unknown_options
from fs3.api.kvcache import BlockingKVCache, Status
from fs3.base.errors import error
from fs3.base.status import Code

SUPPORTED_VERSIONS = ("0.5.23",)

try:
    check_version("SGLang", version("sglang"), SUPPORTED_VERSIONS)
    from sglang.srt.mem_cache.hicache_storage import (
        HiCacheStorage,
        HiCacheStorageConfig,
        HiCacheStorageExtraInfo,
        PoolHitPolicy,
        PoolName,
        PoolTransfer,
        PoolTransferResult,
    )
except ImportError as missing:
    raise ImportError(f"{__name__} is for SGLang {' and '.join(SUPPORTED_VERSIONS)}: {missing}") from missing

T = TypeVar("T")
Call = Callable[[], T]
Transfer = Callable[[str, Sequence[str], Any], list[bool]]
"""Of a pool's pages, from or to their memory: which of the keys it was done for."""

_SGLANG_OPTIONS = frozenset({"backend_name", "module_path", "class_name", "interface_v1"})

log = logging.getLogger("fs3.sglang")


def pointer_view(address: int, size: int) -> memoryview:
    """So many bytes at an address of this process, writable. The caller keeps the memory."""
    return PickleBuffer((ctypes.c_ubyte * size).from_address(address)).raw()


class PagePool:
    """One kind of pages: a host pool of SGLang and the namespace that has its pages."""

    def __init__(self, cache: BlockingKVCache, host_pool: Any, shards: tuple[int, ...]) -> None:
        """`shards`: a page is stored as one fs3 page for each of these groups of heads; () when it is stored as one."""
        self.cache = cache
        self._host_pool = host_pool
        self._shards = shards

    def store_keys(self, keys: Sequence[str]) -> list[str]:
        """The keys of the fs3 pages of these pages."""
        return [f"{key}/{shard}" for key in keys for shard in self._shards] if self._shards else list(keys)

    def buffers(self, host_indices: Any, pages: int) -> list[list[memoryview]]:
        """The memory of the fs3 pages of so many pages, in pieces."""
        if not pages:
            return []
        addresses, sizes = _page_memory(self._host_pool, host_indices, len(self._shards))
        count = pages * max(1, len(self._shards))
        if len(addresses) % count:
            raise error(Code.INVALID, f"{len(addresses)} pieces of memory are no whole number for each of {count} pages")
        pieces = len(addresses) // count
        views = [pointer_view(address, size) for address, size in zip(addresses, sizes, strict=True)]
        return [views[index * pieces : (index + 1) * pieces] for index in range(count)]

    def per_page(self, there: Sequence[bool]) -> list[bool]:
        """From one truth per fs3 page to one per page: all of it."""
        step = max(1, len(self._shards))
        return [all(there[at : at + step]) for at in range(0, len(there), step)]

    def exists(self, keys: Sequence[str]) -> list[bool]:
        """Which pages are there."""
        return self.per_page(self.cache.lookup(self.store_keys(keys)).bitmap)

    def read(self, keys: Sequence[str], host_indices: Any) -> list[bool]:
        """Read pages to their memory: which are there."""
        statuses = self.cache.get_into(self.store_keys(keys), self.buffers(host_indices, len(keys)))
        return self.per_page([status is Status.OK for status in statuses])

    def write(self, keys: Sequence[str], host_indices: Any) -> list[bool]:
        """Store pages from their memory: which are stored."""
        statuses = self.cache.put_from(self.store_keys(keys), self.buffers(host_indices, len(keys)))
        return self.per_page([status.ok for status in statuses])


def _page_memory(host_pool: Any, host_indices: Any, shards: int) -> tuple[list[int], list[int]]:
    """Addresses and sizes of the pieces of pages, page by page."""
    if shards:
        found = host_pool.get_split_heads_page_buffer_meta(host_indices, shards)
    else:
        found = host_pool.get_page_buffer_meta(host_indices)
    addresses, sizes = found
    return list(addresses), list(sizes)


class HiCacheFS3(HiCacheStorage):  # type: ignore[misc]  # SGLang has no types
    """The backend that SGLang makes of `"class_name": "HiCacheFS3"`."""

    def __init__(self, storage_config: HiCacheStorageConfig, kwargs: dict[str, Any] | None = None) -> None:
        """Raises FS3Error INVALID for a configuration that cannot be. Connects when SGLang shows its memory."""
        given = dict(storage_config.extra_config or {})
        if unknown := unknown_options(given, _SGLANG_OPTIONS):
            log.warning("options of the fs3 backend that it does not know: %s", ", ".join(unknown))
        self._options = EngineOptions.read("SGLang", given)
        self._config = storage_config
        self._pools: dict[str, PagePool | None] = {}
        """By the name of the pool; None for one without memory of its own, whose pages are always there."""
        self._wants_tensors = not given.get("interface_v1")
        self._flat: BlockingKVCache | None = None
        """The namespace of pages as tensors, whose bytes are in another order than the pieces'."""

    # --- SGLang shows its memory ------------------------------------------------------------------------------------------

    def register_mem_pool_host(self, mem_pool_host: Any) -> None:
        """The pool of the model's own KV pages. Raises FS3Error when the cluster does not answer: SGLang goes on without."""
        super().register_mem_pool_host(mem_pool_host)
        self._pools[PoolName.KV.value] = self._open(mem_pool_host, PoolName.KV.value)
        if self._wants_tensors:
            page = mem_pool_host.get_dummy_flat_data_page()
            size = page.numel() * page.element_size()
            page_size = getattr(mem_pool_host, "page_size", 1)
            self._flat = self._connect(mem_pool_host, PoolName.KV.value, page_size, f"flat{size}", size, is_split=False)

    def register_mem_host_pool_v2(self, host_pool: Any, host_pool_name: Any) -> None:
        """A pool beside it: states, indexers, a draft model. Raises as `register_mem_pool_host`."""
        super().register_mem_host_pool_v2(host_pool, host_pool_name)
        name = str(host_pool_name)
        if name != PoolName.KV.value or name not in self._pools:
            self._pools[name] = self._open(host_pool, name)

    def _open(self, host_pool: Any, pool: str) -> PagePool | None:
        if getattr(host_pool, "kv_buffer", True) is None:
            return None
        import torch

        shards: tuple[int, ...] = ()
        if self._config.should_split_heads and pool == PoolName.KV.value:
            factor = self._config.tp_lcm_size // self._config.tp_size
            shards = tuple(range(self._config.tp_rank * factor, (self._config.tp_rank + 1) * factor))
        page_size = getattr(host_pool, "logical_page_size", None) or getattr(host_pool, "page_size", None) or 1
        _, sizes = _page_memory(host_pool, torch.arange(page_size), len(shards))
        pieces = sizes[: len(sizes) // max(1, len(shards))]
        shape = f"{len(pieces)}x{pieces[0]}" if len(set(pieces)) == 1 else "+".join(map(str, pieces))
        return PagePool(self._connect(host_pool, pool, page_size, shape, sum(pieces), bool(shards)), host_pool, shards)

    def _connect(self, host_pool: Any, pool: str, page_size: int, shape: str, page_bytes: int, is_split: bool) -> BlockingKVCache:
        config = self._config
        is_shared = config.is_mla_model and pool != PoolName.MAMBA.value and not hasattr(host_pool, "v_buffer")
        ranks = [f"pp{config.pp_rank}of{config.pp_size}"]
        if config.attn_cp_size > 1:
            ranks.append(f"cp{config.attn_cp_rank}of{config.attn_cp_size}")
        if config.dcp_size > 1:
            ranks.append(f"dcp{config.dcp_rank}of{config.dcp_size}")
        if is_split:
            ranks.append(f"heads{config.tp_lcm_size}")
        elif not is_shared:
            ranks.append(f"tp{config.tp_rank}of{config.tp_size}")
        dtype = str(getattr(host_pool, "dtype", "bytes")).removeprefix("torch.")
        layout = getattr(host_pool, "layout", "page")
        name = namespace_name(
            self._options.name, "sglang", config.model_name, pool, dtype, layout, f"page{page_size}", shape, *ranks
        )
        return open_namespace(self._options, name, page_bytes, log, pages=f"pages of {pool}")

    # --- pages, from and to SGLang's memory ---------------------------------------------------------------------------------

    def batch_exists(self, keys: list[str], extra_info: HiCacheStorageExtraInfo | None = None) -> int:
        """How many pages from the first on are there."""
        if self._wants_tensors:
            return self._guard(lambda: self._get_flat().lookup(keys).hits, 0)
        return self._guard(lambda: _prefix_length(self._exists(PoolName.KV.value, keys)), 0)

    def batch_get_v1(self, keys: list[str], host_indices: Any, extra_info: HiCacheStorageExtraInfo | None = None) -> list[bool]:
        """Read pages: which are in their memory now."""
        return self._guard(lambda: self._read(PoolName.KV.value, keys, host_indices), _none_of(keys))

    def batch_set_v1(self, keys: list[str], host_indices: Any, extra_info: HiCacheStorageExtraInfo | None = None) -> list[bool]:
        """Store pages: which are stored."""
        return self._guard(lambda: self._write(PoolName.KV.value, keys, host_indices), _none_of(keys))

    def batch_exists_v2(
        self,
        keys: list[str],
        pool_transfers: list[PoolTransfer] | None = None,
        extra_info: HiCacheStorageExtraInfo | None = None,
    ) -> PoolTransferResult:
        """How long a prefix can be restored from all pools, and which shorter ones can."""
        return self._guard(lambda: self._restorable(keys, pool_transfers or []), PoolTransferResult(0, {}, []))

    def batch_get_v2(
        self, transfers: list[PoolTransfer], extra_info: HiCacheStorageExtraInfo | None = None
    ) -> dict[str, list[bool]]:
        """Read pages of several pools."""
        return {each.name: self._transfer(self._read, each) for each in transfers}

    def batch_set_v2(
        self, transfers: list[PoolTransfer], extra_info: HiCacheStorageExtraInfo | None = None
    ) -> dict[str, list[bool]]:
        """Store pages of several pools."""
        return {each.name: self._transfer(self._write, each) for each in transfers}

    def _transfer(self, action: Transfer, transfer: PoolTransfer) -> list[bool]:
        keys = transfer.keys or []
        return self._guard(lambda: action(str(transfer.name), keys, transfer.host_indices), _none_of(keys))

    def _exists(self, pool: str, keys: Sequence[str]) -> list[bool]:
        pages = self._pools[pool]
        return pages.exists(keys) if pages is not None else [True] * len(keys)

    def _read(self, pool: str, keys: Sequence[str], host_indices: Any) -> list[bool]:
        pages = self._pools[pool]
        return pages.read(keys, host_indices) if pages is not None else [True] * len(keys)

    def _write(self, pool: str, keys: Sequence[str], host_indices: Any) -> list[bool]:
        pages = self._pools[pool]
        return pages.write(keys, host_indices) if pages is not None else [True] * len(keys)

    def _restorable(self, keys: list[str], transfers: Sequence[PoolTransfer]) -> PoolTransferResult:
        pages = _prefix_length(self._exists(PoolName.KV.value, keys))
        hits = {PoolName.KV.value: pages} if pages else {}
        lengths = set(range(1, pages + 1))
        for transfer in transfers:
            if not lengths:
                break
            there = self._exists(str(transfer.name), keys[:pages])
            if transfer.hit_policy == PoolHitPolicy.ALL_PAGES:
                possible = set(range(1, _prefix_length(there) + 1))
            elif transfer.hit_policy == PoolHitPolicy.TRAILING_PAGES:
                window = max(1, len(transfer.keys or ()))
                possible = {end for end in lengths if all(there[max(0, end - window) : end])}
            else:
                raise error(Code.UNSUPPORTED, f"hit policy {transfer.hit_policy} of pool {transfer.name}")
            if possible:
                hits[transfer.name] = max(possible)
            lengths &= possible
        return PoolTransferResult(max(lengths, default=0), hits, sorted(lengths))

    # --- the interface with copies, for SGLang without "interface_v1" -------------------------------------------------------

    def exists(self, key: str) -> bool:
        """A page is there."""
        return self.batch_exists([key]) == 1

    def get(self, key: str, target_location: Any = None, target_sizes: Any = None) -> Any:
        """Read a page to a tensor, which is returned; None when it is not there."""
        (found,) = self.batch_get([key], [target_location])
        return found

    def batch_get(self, keys: list[str], target_locations: Any = None, target_sizes: Any = None) -> list[Any]:
        """Read pages to tensors: each that is there, else None."""
        if not keys:
            return []

        def read() -> list[Any]:
            statuses = self._get_flat().get_into(keys, target_locations)
            return [tensor if status is Status.OK else None for tensor, status in zip(target_locations, statuses, strict=True)]

        return self._guard(read, [None] * len(keys))

    def set(self, key: str, value: Any = None, target_location: Any = None, target_sizes: Any = None) -> bool:
        """Store a page from a tensor."""
        return self.batch_set([key], [value])

    def batch_set(self, keys: list[str], values: Any = None, target_locations: Any = None, target_sizes: Any = None) -> bool:
        """Store pages from tensors: all are stored."""
        if not keys:
            return True
        return self._guard(lambda: all(each.ok for each in self._get_flat().put_from(keys, values)), False)

    def _get_flat(self) -> BlockingKVCache:
        if self._flat is None:
            raise error(Code.INVALID, 'pages go as tensors only without "interface_v1"')
        return self._flat

    # --- the rest -----------------------------------------------------------------------------------------------------------

    def clear(self) -> None:
        """Remove the pages of this model's namespaces, for all that share them."""
        for cache in self._caches():
            self._guard(cache.clear, None)

    def close(self) -> None:
        """Let go; pages stay."""
        for cache in self._caches():
            self._guard(cache.close, None)

    def _caches(self) -> list[BlockingKVCache]:
        caches = [pages.cache for pages in self._pools.values() if pages is not None]
        return caches + ([self._flat] if self._flat is not None else [])

    def _guard(self, call: Call[T], otherwise: T) -> T:
        """What a call gives; what stands for a miss when it raises, because the thread that called is never started again."""
        try:
            return call()
        except Exception as failure:  # whatever it is: ranks that wait for this one in a collective would wait for ever
            log.warning("fs3 is left out of one call: %s: %s", type(failure).__name__, failure)
            return otherwise


def _prefix_length(there: Sequence[bool]) -> int:
    return next((index for index, each in enumerate(there) if not each), len(there))


def _none_of(keys: Sequence[str] | None) -> list[bool]:
    return [False] * len(keys or ())
