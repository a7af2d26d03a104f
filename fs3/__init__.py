"""fs3: a parallel file system and KV cache store. Importing it loads no server and no grpc."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fs3.base.version import __version__

if TYPE_CHECKING:
    from fs3.api.client import Client
    from fs3.api.connect import connect, connect_embedded
    from fs3.api.io.dma_buf import DmaBuf
    from fs3.api.kvcache import BlockingKVCache, KVCache
    from fs3.api.tracing import record_trace, trace_operations

__all__ = [
    "BlockingKVCache",
    "Client",
    "DmaBuf",
    "KVCache",
    "__version__",
    "connect",
    "connect_embedded",
    "record_trace",
    "trace_operations",
]

_HOMES = {
    "BlockingKVCache": "fs3.api.kvcache",
    "Client": "fs3.api.client",
    "DmaBuf": "fs3.api.io.dma_buf",
    "KVCache": "fs3.api.kvcache",
    "connect": "fs3.api.connect",
    "connect_embedded": "fs3.api.connect",
    "record_trace": "fs3.api.tracing",
    "trace_operations": "fs3.api.tracing",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
