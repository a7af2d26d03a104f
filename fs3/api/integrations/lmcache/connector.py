"""LMCache's remote connector, for the cache inside an engine's own process (configured by LMCACHE_CONFIG_FILE).

A page is a chunk's bytes behind the mark of a whole chunk's layout. A chunk that is not whole is known by its length.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from lmcache.utils import CacheEngineKey
from lmcache.v1.config import LMCacheEngineConfig
from lmcache.v1.memory_management import MemoryObj
from lmcache.v1.metadata import LMCacheMetadata
from lmcache.v1.storage_backend.connector import ConnectorAdapter, ConnectorContext, extract_plugin_type
from lmcache.v1.storage_backend.connector.base_connector import RemoteConnector

from fs3.api.integrations.engine import EngineOptions, unknown_options
from fs3.api.integrations.lmcache.keys import mark_of
from fs3.api.integrations.lmcache.object_cache import ObjectCache, Objects, PageName
from fs3.api.io.blocking import run_on
from fs3.api.kvcache import Status
from fs3.base.errors import error
from fs3.base.status import Code

log = logging.getLogger("fs3.lmcache")

_PLUGIN = "fs3"
"""The type of the plugin: `remote_storage_plugins: ["fs3"]`, or "fs3.NAME" for one of several."""

_OWN_OPTIONS = frozenset({"module_path", "class_name"})


class FS3ConnectorAdapter(ConnectorAdapter):  # type: ignore[misc]  # LMCache has no types
    """What LMCache finds by `"remote_storage_plugin.fs3.class_name": "FS3ConnectorAdapter"`."""

    def __init__(self) -> None:
        super().__init__(f"plugin://{_PLUGIN}")

    def can_parse(self, url: str) -> bool:
        """It is a plugin of this type."""
        scheme, _, name = url.partition("://")
        return scheme == "plugin" and extract_plugin_type(name) == _PLUGIN

    def create_connector(self, context: ConnectorContext) -> RemoteConnector:
        """Connect. Raises TypeError or InvalidArgument for a configuration that cannot be, Unreachable when no manager answers:
        LMCache goes on without, and tries again."""
        config = context.config
        if config is None or context.metadata is None:
            raise error(Code.INVALID, "fs3 wants LMCache's configuration and metadata")
        if config.use_layerwise:
            raise error(Code.INVALID, "use_layerwise: fs3's remote connector takes whole chunks only")
        if config.remote_serde not in (None, "naive"):
            raise error(Code.INVALID, f"remote_serde {config.remote_serde!r}: fs3's remote connector takes naive only")
        before = f"remote_storage_plugin.{context.plugin_name or _PLUGIN}."
        given = {key[len(before) :]: value for key, value in (config.extra_config or {}).items() if key.startswith(before)}
        if unknown := unknown_options(given, _OWN_OPTIONS):
            log.warning("options of the fs3 connector that it does not know: %s", ", ".join(unknown))
        options = EngineOptions.read("LMCache", given)
        objects = run_on(context.loop, ObjectCache.open(options))
        return FS3Connector(objects, context, config, context.metadata)


class FS3Connector(RemoteConnector):  # type: ignore[misc]  # LMCache has no types
    """The chunks of an engine's process. Belongs to LMCache's event loop; `exists_sync` and the like may be called elsewhere."""

    def __init__(
        self, objects: ObjectCache, context: ConnectorContext, config: LMCacheEngineConfig, metadata: LMCacheMetadata
    ) -> None:
        super().__init__(config, metadata)
        self._objects = objects
        self._loop = context.loop
        self._memory = context.local_cpu_backend
        self._mark = mark_of([*self.meta_shapes, [self.meta_fmt.value]], self.meta_dtypes)

    def can_take_many(self) -> bool:
        """Chunks are read, stored and looked up together."""
        return True

    support_batched_get = support_batched_put = support_batched_contains = support_ping = can_take_many

    async def exists(self, key: CacheEngineKey) -> bool:
        """A chunk is there."""
        return await self._hits([key]) == 1

    def exists_sync(self, key: CacheEngineKey) -> bool:
        """A chunk is there; for threads that are not the loop's."""
        return self.batched_contains([key]) == 1

    async def get(self, key: CacheEngineKey) -> MemoryObj | None:
        """Read a chunk to memory of LMCache's; None when it is not there."""
        (found,) = await self.batched_get([key])
        return found

    async def put(self, key: CacheEngineKey, memory_obj: MemoryObj) -> None:
        """Store a chunk. Raises OSError when it is not known to be stored, which LMCache counts."""
        await self.batched_put([key], [memory_obj])

    async def batched_get(self, keys: list[CacheEngineKey]) -> list[MemoryObj | None]:
        """Read chunks to memory of LMCache's: each that is there, else None."""
        places: list[MemoryObj | None] = [self._memory.allocate(self.meta_shapes, self.meta_dtypes, self.meta_fmt) for _ in keys]
        wanted = [index for index, place in enumerate(places) if place is not None]
        lengths = [0] * len(wanted)
        try:
            views = [places[index].byte_array for index in wanted]  # type: ignore[union-attr]
            objects = Objects([_name(keys[index]) for index in wanted], [self._mark] * len(wanted), views, places)
            statuses = await self._objects.get(objects, lengths)
        except BaseException:
            _give_back(places)
            raise
        for index, status, length in zip(wanted, statuses, lengths, strict=True):
            if status is not Status.OK or not self._fit(places[index], length):
                _give_back([places[index]])
                places[index] = None
        return places

    def _fit(self, place: Any, length: int) -> bool:
        """Whether so many bytes are a chunk, whole or not; its memory says so then."""
        try:
            self.reshape_partial_chunk(place, length)
        except ValueError as wrong:
            log.warning("a chunk is none of this engine's: %s", wrong)
            return False
        return True

    async def batched_put(self, keys: Sequence[CacheEngineKey], memory_objs: Sequence[MemoryObj]) -> None:
        """Store chunks. Raises OSError when one is not known to be stored."""
        views = [each.byte_array for each in memory_objs]
        objects = Objects([_name(key) for key in keys], [self._mark] * len(views), views, memory_objs)
        statuses = await self._objects.put(objects)
        if failed := [status for status in statuses if not status.ok]:
            raise error(Code.UNAVAILABLE, f"{len(failed)} of {len(keys)} chunks are not known to be stored: {failed[0].value}")

    def batched_contains(self, keys: list[CacheEngineKey]) -> int:
        """How many chunks from the first on are there; for threads that are not the loop's."""
        return run_on(self._loop, self._hits(keys))

    async def batched_async_contains(self, lookup_id: str, keys: list[CacheEngineKey], pin: bool = False) -> int:
        """How many chunks from the first on are there."""
        return await self._hits(keys)

    async def batched_get_non_blocking(self, lookup_id: str, keys: list[CacheEngineKey]) -> list[MemoryObj]:
        """Read chunks up to the first that is not there."""
        places = await self.batched_get(keys)
        hits = next((index for index, place in enumerate(places) if place is None), len(places))
        _give_back(places[hits:])
        return places[:hits]

    async def _hits(self, keys: Sequence[CacheEngineKey]) -> int:
        statuses = await self._objects.lookup([_name(key) for key in keys])
        return next((index for index, status in enumerate(statuses) if status is not Status.OK), len(statuses))

    def remove_sync(self, key: CacheEngineKey) -> bool:
        """Remove a chunk, for all that share it: it is not there any more. For threads that are not the loop's."""
        (status,) = run_on(self._loop, self._objects.remove([_name(key)]))
        return status is Status.OK

    async def list(self) -> list[str]:
        """The keys of all chunks there are."""
        keys: list[str] = []
        after = None
        while True:
            part = await self._objects.list_objects(None, after, _LIST_MANY)
            keys += [name.key.decode(errors="replace") for name, _ in part.objects]
            after = part.after
            if after is None:
                return keys

    async def ping(self) -> int:
        """0: a manager answers."""
        return 0 if await self._objects.is_reachable() else 1

    async def close(self) -> None:
        """Let go; chunks stay."""
        await self._objects.close()


_LIST_MANY = 1000


def _name(key: CacheEngineKey) -> PageName:
    return PageName(key.model_name, key.to_string().encode())


def _give_back(places: Sequence[MemoryObj | None]) -> None:
    """Memory that holds nothing."""
    for place in places:
        if place is not None:
            place.ref_count_down()
