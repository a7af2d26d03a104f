"""One rank of an SGLang server without a model: its host pool, and its HiCacheController with the threads of that.

Needs SGLang and torch. Imported where a turn of the bench is taken, and nowhere else.
"""

from __future__ import annotations

import importlib
import random
import sys
import threading
import types
import uuid
from collections.abc import Sequence
from typing import Any, Self

import torch

LATENT, ROTARY = 512, 64
PATIENCE_S = 300
"""How long the threads of the controller are waited for."""
_MODULES = ("", ".io", ".transforms", ".transforms.functional", ".transforms.v2", ".transforms.v2.functional")


class HiCacheServer:
    """Use as a context manager. The pool has room for so many pages twice: its controller takes half of it for reads."""

    def __init__(self, backend: str, config: dict[str, Any], pages: int, page_tokens: int, layers: int) -> None:
        """`backend` and `config`: as of SGLang's `--hicache-storage-backend` and its extra configuration."""
        _stand_in_for_torchvision()
        torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), world_size=1, rank=0)
        memory = importlib.import_module("sglang.srt.mem_cache.memory_pool")
        pool_host = importlib.import_module("sglang.srt.mem_cache.pool_host.mla")
        context = importlib.import_module("sglang.srt.runtime_context")
        controllers = importlib.import_module("sglang.srt.managers.cache_controller")
        self._hash = importlib.import_module("sglang.srt.mem_cache.utils").get_hash_str
        tokens = pages * page_tokens
        device = memory.MLATokenToKVPool(tokens, page_tokens, torch.bfloat16, LATENT, ROTARY, layers, "cpu", False)
        self._host = pool_host.MLATokenToKVPoolHost(
            device._mla_buffer_info(), 2.0, 0, page_tokens, "page_first",
            target_layer_num=layers, pin_memory=False, device_capacity_tokens=tokens, start_layer=0, end_layer=layers,
        )  # fmt: skip
        allocator = types.SimpleNamespace(get_kvcache=lambda: device)
        ranks = {"tp_rank": 0, "tp_size": 1, "pp_rank": 0, "pp_size": 1, "attn_dcp_size": 1, "attn_dcp_rank": 0}
        with context.get_parallel().override(**ranks):
            self._controller = controllers.HiCacheController(
                allocator, self._host, page_tokens, torch.distributed.group.WORLD, threading.Event(),
                io_backend="direct", storage_backend=backend, prefetch_threshold=page_tokens, model_name="bench/mla",
                storage_backend_extra_config=config,
            )  # fmt: skip
        self._page_tokens = page_tokens
        self._tokens = [random.randrange(1 << 17) for _ in range(tokens)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.detach_storage_backend()
        torch.distributed.destroy_process_group()

    def hashes(self) -> list[str]:
        """SGLang's names of the pages of the tokens that this server has seen, which are like no other server's."""
        names: list[str] = []
        for at in range(0, len(self._tokens), self._page_tokens):
            names.append(self._hash(self._tokens[at : at + self._page_tokens], names[-1] if names else None))
        return names

    def fill(self) -> torch.Tensor:
        """Random bytes in the pool; a copy of those of the pages."""
        self._host.kv_buffer.view(torch.uint8).random_()
        return self._pages().clone()

    def clear(self) -> None:
        """No bytes in the pool, so that what is there afterwards was read."""
        self._host.kv_buffer.zero_()

    def has(self, kept: torch.Tensor) -> bool:
        """The pages are as they were. Compared as bytes: some of these are no numbers."""
        return torch.equal(self._pages().view(torch.uint8), kept.view(torch.uint8))

    def write(self, hashes: Sequence[str]) -> int:
        """Have all pages stored; how many were."""
        self._controller.write_storage(torch.arange(len(self._tokens)), self._tokens, list(hashes))
        completed: int = self._controller.ack_backup_queue.get(timeout=PATIENCE_S).completed_tokens
        return completed // self._page_tokens

    def query(self, hashes: Sequence[str]) -> int:
        """How many pages the backend has, from the first one on."""
        hits: int = self._controller.storage_backend.batch_exists(list(hashes))
        return hits

    def find(self) -> Any:
        """Have the controller ask for all pages: what it is to read then."""
        self._controller.prefetch(uuid.uuid4().hex, self._tokens)
        operation = self._controller.prefetch_hit_queue.get(timeout=PATIENCE_S)
        operation.host_indices = torch.arange(operation.storage_hit_count)
        return operation

    def read(self, found: Any) -> int:
        """Have it read that; how many pages were."""
        self._controller.prefetch_buffer.put(found)
        completed = 0
        while True:
            ack = self._controller.ack_prefetch_queue.get(timeout=PATIENCE_S)
            if ack.completed_tokens is not None:
                completed = ack.completed_tokens
            if ack.completed_req:
                return completed // self._page_tokens

    def _pages(self) -> torch.Tensor:
        return self._host.kv_buffer[: len(self._tokens)]


def _stand_in_for_torchvision() -> None:
    """SGLang imports names of it and the cache uses none; there is no build of it for CPUs beside the torch that it wants."""
    importlib.import_module("transformers.utils").is_torchvision_available()

    def attribute(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})

    for suffix in _MODULES:
        module = types.ModuleType(f"torchvision{suffix}")
        module.__getattr__ = attribute  # type: ignore[method-assign]
        module.__path__ = []
        sys.modules[module.__name__] = module
