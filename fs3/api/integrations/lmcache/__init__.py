"""LMCache on fs3: an L2 adapter for its cache server.

    lmcache server … --l2-adapter '{"type": "plugin", "shared": true,
      "module_path": "fs3.api.integrations.lmcache", "class_name": "FS3L2Adapter",
      "adapter_params": {"url": "fs3://127.0.0.1:8000", "replicas": 2}}'

Objects go from and to LMCache's own memory without a copy. Objects of all sizes of a model are pages of one namespace. A page
begins with a mark of the object's shapes and types, so that two engines that lay a model out differently never take each other's
bytes.

LMCache calls from threads of its own, some of which end for good when a call raises: none does, and what cannot be reached is a
miss.
"""

from __future__ import annotations

from importlib.metadata import version

from fs3.api.integrations.engine import check_version

SUPPORTED_VERSIONS = ("0.5.6",)

try:
    check_version("LMCache", version("lmcache"), SUPPORTED_VERSIONS)
    from fs3.api.integrations.lmcache.l2_adapter import FS3L2Adapter, FS3L2AdapterConfig
except ModuleNotFoundError as missing:
    raise ImportError(f"fs3.api.integrations.lmcache needs LMCache {' or '.join(SUPPORTED_VERSIONS)}: {missing}") from missing

__all__ = ["SUPPORTED_VERSIONS", "FS3L2Adapter", "FS3L2AdapterConfig"]
