"""The SGLang backend under SGLang's own HiCacheController: its threads, its device and host pools, as tensors in CPU memory."""

from __future__ import annotations

import importlib
import sys
import threading
import types
import uuid
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sglang", reason="SGLang is not installed; `make engines` runs this in an environment that has it")

pytestmark = pytest.mark.filterwarnings("ignore")
"""SGLang's and torch's own."""

PAGE = 16
"""Tokens."""
TOKENS = 16 * PAGE
LAYERS = 3


def _stand_in_for_torchvision() -> None:
    """There is no build for CPUs beside this torch; SGLang imports names of it and uses none here."""
    import transformers.utils

    transformers.utils.is_torchvision_available()

    def attribute(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})

    for name in ("", ".io", ".transforms", ".transforms.functional", ".transforms.v2", ".transforms.v2.functional"):
        module = types.ModuleType(f"torchvision{name}")
        module.__getattr__ = attribute  # type: ignore[method-assign]
        module.__path__ = []
        sys.modules[module.__name__] = module


class Ranks:
    """What SGLang's controller asks of the parallel runtime, for one rank."""

    def __init__(self, tp_rank: int = 0, tp_size: int = 1) -> None:
        self.names = {
            "tp_rank": tp_rank,
            "tp_size": tp_size,
            "pp_rank": 0,
            "pp_size": 1,
            "attn_dcp_size": 1,
            "attn_dcp_rank": 0,
        }


@pytest.fixture(scope="module", autouse=True)
def sglang() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _stand_in_for_torchvision()
        importlib.import_module("sglang.srt.managers.cache_controller")
        importlib.import_module("sglang.srt.mem_cache.utils").get_hash_str(list(range(PAGE)), None)  # compiles, once
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), world_size=1, rank=0)
    yield
    torch.distributed.destroy_process_group()


class Server:
    """One rank of a server: pools and a controller with fs3 behind it."""

    def __init__(self, kind: str, layout: str, config: dict[str, Any], ranks: Ranks | None = None) -> None:
        from sglang.srt.managers.cache_controller import HiCacheController
        from sglang.srt.mem_cache.memory_pool import MHATokenToKVPool, MLATokenToKVPool
        from sglang.srt.mem_cache.pool_host.mha import MHATokenToKVPoolHost
        from sglang.srt.mem_cache.pool_host.mla import MLATokenToKVPoolHost
        from sglang.srt.runtime_context import get_parallel

        common = {"pin_memory": False, "device_capacity_tokens": TOKENS, "start_layer": 0, "end_layer": LAYERS}
        self.host: Any
        if kind == "mha":
            device = MHATokenToKVPool(TOKENS, PAGE, torch.bfloat16, 2, 8, LAYERS, "cpu", False, enable_alt_stream=False)
            self.host = MHATokenToKVPoolHost(device._mha_buffer_info(), 2.0, 0, PAGE, layout, **common)
        else:
            device = MLATokenToKVPool(TOKENS, PAGE, torch.bfloat16, 32, 16, LAYERS, "cpu", False)
            self.host = MLATokenToKVPoolHost(device._mla_buffer_info(), 2.0, 0, PAGE, layout, target_layer_num=LAYERS, **common)

        class Allocator:
            def get_kvcache(self) -> Any:
                return device

        with get_parallel().override(**(ranks or Ranks()).names):
            self.controller = HiCacheController(
                Allocator(),
                self.host,
                PAGE,
                torch.distributed.group.WORLD,
                threading.Event(),
                io_backend="direct",
                storage_backend="dynamic",
                prefetch_threshold=PAGE,
                model_name="org/model",
                storage_backend_extra_config={
                    "backend_name": "fs3",
                    "module_path": "fs3.api.integrations.sglang",
                    "class_name": "HiCacheFS3",
                    **config,
                },
            )
        self.backend = self.controller.storage_backend

    def fill(self) -> Any:
        """Random bytes in the host pool; a copy of them."""
        self.host.kv_buffer.view(torch.uint8).random_()
        return self.host.kv_buffer.clone()

    def back_up(self, tokens: list[int]) -> int:
        """Store the pages of these tokens from the first pages of the host pool; how many tokens were stored."""
        from sglang.srt.mem_cache.utils import get_hash_str

        hashes: list[str] = []
        for at in range(0, len(tokens), PAGE):
            hashes.append(get_hash_str(tokens[at : at + PAGE], hashes[-1] if hashes else None))
        self.controller.write_storage(torch.arange(len(tokens)), tokens, hashes)
        return int(self.controller.ack_backup_queue.get(timeout=60).completed_tokens)

    def fetch(self, tokens: list[int]) -> int:
        """Read the pages of these tokens to the first pages of the host pool; how many tokens were read."""
        self.controller.prefetch(uuid.uuid4().hex, tokens)
        operation = self.controller.prefetch_hit_queue.get(timeout=60)
        if not operation.storage_hit_count:
            return 0
        operation.host_indices = torch.arange(operation.storage_hit_count)
        self.controller.prefetch_buffer.put(operation)
        completed = 0
        while True:
            ack = self.controller.ack_prefetch_queue.get(timeout=60)
            if ack.completed_tokens is not None:
                completed = int(ack.completed_tokens)
            if ack.completed_req:
                return completed

    def close(self) -> None:
        self.controller.detach_storage_backend()


@pytest.fixture
def config(cluster_url: str) -> dict[str, Any]:
    """Of the test's own namespaces."""
    return {"url": cluster_url, "name": uuid.uuid4().hex[:8], "interface_v1": 1, "timeout": 30}


def first(pool: Any, kind: str, layout: str, tokens: int) -> Any:
    """The part of a host pool that holds the first tokens."""
    axis = {"layer_first": 2, "page_first": 1, "page_first_direct": 1, "page_head": 1}[layout] - (kind == "mla")
    return pool.narrow(axis, 0, tokens // PAGE if layout in ("page_first_direct", "page_head") else tokens)


def same_bytes(left: Any, right: Any) -> bool:
    """Tensors of random bytes are not equal to themselves: some are not numbers."""
    return bool(torch.equal(left.contiguous().view(torch.uint8), right.contiguous().view(torch.uint8)))


CASES = [
    *[("mha", layout) for layout in ("layer_first", "page_first", "page_first_direct", "page_head")],
    *[("mla", layout) for layout in ("layer_first", "page_first", "page_first_direct")],
]


@pytest.mark.parametrize("interface", [1, 0], ids=["without copies", "with copies"])
@pytest.mark.parametrize(("kind", "layout"), CASES)
def test_another_server_finds_the_pages(kind: str, layout: str, interface: int, config: dict[str, Any]) -> None:
    config["interface_v1"] = interface
    writer = Server(kind, layout, config)
    reader = Server(kind, layout, config)
    try:
        kept = writer.fill()
        tokens = list(range(6 * PAGE))
        assert reader.fetch(tokens) == 0
        assert writer.back_up(tokens[: 5 * PAGE]) == 5 * PAGE
        assert writer.back_up(tokens[: 5 * PAGE]) == 5 * PAGE, "stored again: they are there"
        assert reader.fetch(tokens) == 5 * PAGE
        assert same_bytes(first(reader.host.kv_buffer, kind, layout, 5 * PAGE), first(kept, kind, layout, 5 * PAGE))
    finally:
        writer.close()
        reader.close()


def test_ranks_share_what_they_have_alike(config: dict[str, Any]) -> None:
    """Latent pages (MLA) are the same on all ranks; heads are not."""
    tokens = list(range(2 * PAGE))
    for kind, found in (("mla", 2 * PAGE), ("mha", 0)):
        zero, one = (Server(kind, "page_first", config, Ranks(rank, 2)) for rank in range(2))
        zero.fill()
        assert zero.back_up(tokens) == 2 * PAGE
        assert one.fetch(tokens) == found
        zero.close()
        one.close()


def test_layouts_share_no_page(config: dict[str, Any]) -> None:
    tokens = list(range(2 * PAGE))
    left, right = Server("mla", "page_first", config), Server("mla", "layer_first", config)
    assert left.back_up(tokens) == 2 * PAGE
    assert right.fetch(tokens) == 0
    left.close()
    right.close()


def test_a_second_pool(config: dict[str, Any]) -> None:
    """States of which the last page of a prefix is enough, beside pages that are all needed."""
    from sglang.srt.mem_cache.hicache_storage import PoolHitPolicy, PoolName, PoolTransfer

    server = Server("mla", "page_first", config)
    backend = server.backend
    states = Server("mla", "page_first", config)
    backend.register_mem_host_pool_v2(states.host, PoolName.SWA)
    kept = states.fill()
    keys = [f"page-{index}" for index in range(4)]
    indices = torch.arange(4 * PAGE)
    assert backend.batch_set_v1(keys, indices) == [True] * 4
    stored = PoolTransfer(PoolName.SWA, host_indices=indices[PAGE : 2 * PAGE], keys=keys[2:3])
    assert backend.batch_set_v2([stored]) == {PoolName.SWA: [True]}
    trailing = PoolTransfer(PoolName.SWA, keys=["any"], hit_policy=PoolHitPolicy.TRAILING_PAGES)
    found = backend.batch_exists_v2(keys, [trailing])
    assert (found.kv_hit_pages, found.restorable_prefix_pages) == (3, [3])
    assert found.extra_pool_hit_pages == {PoolName.KV: 4, PoolName.SWA: 3}
    everywhere = PoolTransfer(PoolName.SWA, keys=keys, hit_policy=PoolHitPolicy.ALL_PAGES)
    assert backend.batch_exists_v2(keys, [everywhere]).kv_hit_pages == 0
    states.host.kv_buffer.zero_()
    read = PoolTransfer(PoolName.SWA, host_indices=indices[PAGE : 2 * PAGE], keys=keys[2:3])
    absent = PoolTransfer(PoolName.SWA, host_indices=indices[:PAGE], keys=keys[:1])
    assert backend.batch_get_v2([read]) == {PoolName.SWA: [True]}
    assert backend.batch_get_v2([absent]) == {PoolName.SWA: [False]}
    assert same_bytes(states.host.kv_buffer[PAGE : 2 * PAGE], kept[PAGE : 2 * PAGE])
    server.close()
    states.close()


def test_no_call_raises_and_none_returns_none(config: dict[str, Any]) -> None:
    """What raises in a thread of SGLang ends storage for good."""
    server = Server("mla", "page_first", config)
    backend = server.backend
    indices = torch.arange(2 * PAGE)
    for bad in ([""], ["k" * 5000], [None]):
        assert backend.batch_exists(bad) == 0
        assert backend.batch_get_v1(bad, indices[:PAGE]) == [False]
        assert backend.batch_set_v1(bad, indices[:PAGE]) == [False]
    assert backend.batch_set_v1(["a", "b", "c"], indices) == [False] * 3, "memory of two pages for three"
    assert backend.batch_get_v1([], indices[:0]) == []
    server.controller.storage_backend.close()
    assert backend.batch_exists(["k"]) == 0
    assert backend.batch_get_v1(["k"], indices[:PAGE]) == [False]
    assert server.fetch(list(range(PAGE))) == 0, "its threads go on"
    server.controller.storage_backend = None
    server.controller._stop_storage_threads()


def test_a_configuration_without_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FS3_CLUSTER", raising=False)
    with pytest.raises(ValueError, match='wants "url"'):
        Server("mla", "page_first", {})
