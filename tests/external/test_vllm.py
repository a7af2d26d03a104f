"""The tier for vLLM, under vLLM's own TieringOffloadingManager, and under its whole engine in two processes."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import time
import uuid
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from fs3.cli.local import LocalCluster

with warnings.catch_warnings():  # torch's and vLLM's own
    warnings.simplefilter("ignore")
    pytest.importorskip("vllm", reason="vLLM is not installed; `make engines` runs this in an environment that has it")

    import vllm
    from vllm.v1.kv_offload.base import LookupResult, ReqContext, ScheduleEndContext, make_offload_key
    from vllm.v1.kv_offload.config import (
        OffloadingCacheConfig,
        OffloadingConfig,
        OffloadingGroupConfig,
        OffloadingModelConfig,
        OffloadingParallelConfig,
    )
    from vllm.v1.kv_offload.factory import OffloadingSpecFactory
    from vllm.v1.kv_offload.tiering.spec import TieringOffloadingSpec

    from fs3.api.integrations.vllm import FS3Tier, describe_chunks, name_of_namespace

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(300)]
"""vLLM's and torch's own."""

ROOT = Path(__file__).parents[2]
BLOCK_BYTES = 6000
"""Of one worker."""
CHUNK_BYTES = 8192
"""vLLM's rows begin at whole pages of memory."""


def configuration(extra: dict[str, Any], **changes: Any) -> OffloadingConfig:
    """What vLLM derives from a model with two groups of layers, on one rank."""
    parallel: dict[str, Any] = {
        "rank": 0,
        "world_size": 1,
        "tp_size": 1,
        "pp_size": 1,
        "pcp_size": 1,
        "dcp_size": 1,
        "data_parallel_index": 0,
        "data_parallel_size": 1,
        "data_parallel_rank_local": None,
        "is_parallelism_agnostic": False,
    }
    parallel.update(changes.pop("parallel", {}))
    facts: dict[str, Any] = {
        "groups": (OffloadingGroupConfig(16, ("layers.0", "layers.1"), 0), OffloadingGroupConfig(16, ("layers.2",), 1)),
        "worker_kv_bytes_per_block": BLOCK_BYTES,
        "enable_kv_cache_events": False,
        "extra_config": {"spec_name": "TieringOffloadingSpec", **extra},
        "engine_id": uuid.uuid4().hex,
        "model": OffloadingModelConfig("org/model", "bfloat16"),
        "cache": OffloadingCacheConfig(16, 1),
        "parallel": OffloadingParallelConfig(**parallel),
        "kv_cache_layout": "LBNHC",
    }
    return OffloadingConfig(**{**facts, **changes})


class Engine:
    """What vLLM's scheduler does with its offloading manager, step by step."""

    def __init__(self, tier: dict[str, Any], chunks: int = 64, **changes: Any) -> None:
        extra = {"cpu_bytes_to_use": chunks * changes.pop("chunk_bytes", CHUNK_BYTES), "secondary_tiers": [tier]}
        self.spec: TieringOffloadingSpec = OffloadingSpecFactory.create_spec(configuration(extra, **changes))
        self.manager: Any = self.spec.get_manager()
        self.memory: memoryview = self.manager.primary_tier.get_kv_memoryview()
        self.tier: FS3Tier = self.manager.secondary_tiers[0]

    @property
    def chunk_bytes(self) -> int:
        return self.tier.block_size_bytes

    def step(self) -> None:
        """The end of a step; the model is computed then."""
        self.manager.on_schedule_end(ScheduleEndContext((), ()))
        time.sleep(0.002)

    def finish_jobs(self) -> None:
        while self.manager.has_pending_work():
            self.step()

    def row(self, chunk: int) -> memoryview:
        start = int(chunk) * self.chunk_bytes
        return self.memory.cast("B")[start : start + self.chunk_bytes]

    def store(self, pages: dict[bytes, bytes]) -> None:
        """What a request computed, from the device to the CPU's memory and on to the tiers."""
        request = ReqContext(uuid.uuid4().hex)
        self.manager.on_new_request(request)
        prepared = self.manager.prepare_store(list(pages), request)
        assert prepared is not None
        for key, chunk in zip(prepared.keys_to_store, prepared.store_spec.block_ids, strict=True):
            self.row(chunk)[:] = pages[key]
        if prepared.keys_to_store:
            self.manager.complete_store(prepared.keys_to_store, request)
        self.manager.on_request_finished(request)
        self.finish_jobs()

    def find(self, keys: Sequence[bytes], request: ReqContext) -> int:
        """How many chunks from the first on can be loaded, after as many steps as it takes to know."""
        while True:
            waits, hits = False, 0
            for key in keys:
                found = self.manager.lookup(key, request)
                if found is LookupResult.MISS:
                    break
                waits = waits or found is not LookupResult.HIT
                hits += 1
            self.step()
            if not waits:
                return hits

    def load(self, keys: Sequence[bytes]) -> list[bytes]:
        """The chunks from the first on that are there, as a request gets them."""
        request = ReqContext(uuid.uuid4().hex)
        self.manager.on_new_request(request)
        found = keys[: self.find(keys, request)]
        pages = []
        if found:
            pages = [bytes(self.row(chunk)) for chunk in self.manager.prepare_load(found, request).block_ids]
            self.manager.complete_load(found, request)
        self.manager.on_request_finished(request)
        self.finish_jobs()
        return pages

    def close(self) -> None:
        self.manager.shutdown()


@pytest.fixture
def tier(cluster_url: str) -> dict[str, Any]:
    """Of the test's own namespaces."""
    name = uuid.uuid4().hex[:8]
    return {"type": "FS3Tier", "module_path": "fs3.api.integrations.vllm", "url": cluster_url, "name": name, "timeout": 30}


def pages_of(count: int, size: int = CHUNK_BYTES) -> dict[bytes, bytes]:
    """Chunks of a prompt, by key."""
    return {make_offload_key(bytes([index]) * 32, index % 2): os.urandom(size) for index in range(count)}


def test_another_engine_finds_the_chunks(tier: dict[str, Any]) -> None:
    pages = pages_of(20)
    writer, reader = Engine(tier), Engine(tier)
    keys = list(pages)
    assert reader.load(keys) == []
    writer.store({key: pages[key] for key in keys[:15]})
    writer.store({key: pages[key] for key in keys[:15]})
    assert reader.load(keys) == [pages[key] for key in keys[:15]]
    assert reader.load(keys) == [pages[key] for key in keys[:15]], "from the CPU's memory"
    writer.close()
    reader.close()
    late = Engine(tier)
    assert late.load(keys) == [pages[key] for key in keys[:15]], "pages outlive the engines"
    late.close()


def test_what_left_the_memory_is_read_again(tier: dict[str, Any]) -> None:
    engine = Engine(tier, chunks=8)
    pages = pages_of(24)
    keys = list(pages)
    for at in range(0, 24, 8):
        engine.store({key: pages[key] for key in keys[at : at + 8]})
    for at in (0, 8, 16, 0):
        assert engine.load(keys[at : at + 8]) == [pages[key] for key in keys[at : at + 8]]
    engine.close()


def test_a_chunk_that_goes_before_it_is_read_is_computed_anew(tier: dict[str, Any], cluster_url: str) -> None:
    """The chunks before it are kept, and the request does not ask for it again and again."""
    pages = pages_of(6)
    keys = list(pages)
    writer, reader = Engine(tier), Engine(tier)
    writer.store(pages)
    request = ReqContext("request")
    reader.manager.on_new_request(request)
    while any(reader.tier.lookup(key, request) is LookupResult.RETRY for key in keys):
        reader.step()
    reader.tier._cache.remove(keys[2:3])
    assert reader.find(keys, request) == 2
    assert reader.manager.lookup(keys[3], request) is LookupResult.HIT, "those after it were read with it"
    reader.manager.on_request_finished(request)
    reader.store({keys[2]: pages[keys[2]]})
    late = Engine(tier)
    assert late.load(keys) == list(pages.values())
    for engine in (writer, reader, late):
        engine.close()


def test_what_is_alike_on_all_ranks_is_shared(tier: dict[str, Any]) -> None:
    """Latents (MLA) on one rank and on two, of which vLLM keeps one copy; heads are divided in another way."""
    pages = pages_of(4)
    two = {"world_size": 2, "tp_size": 2}
    one_rank, latents = Engine(tier), Engine(tier, parallel=two, replicated_layout=True)
    heads = Engine(tier, parallel=two, chunk_bytes=3 * 4096)
    one_rank.store(pages)
    assert latents.load(list(pages)) == list(pages.values())
    assert heads.load(list(pages)) == []
    for engine in (one_rank, latents, heads):
        engine.close()


DIFFERENT: list[dict[str, Any]] = [
    {"model": OffloadingModelConfig("org/model", "float8_e4m3fn")},
    {"model": OffloadingModelConfig("org/model-instruct", "bfloat16")},
    {"cache": OffloadingCacheConfig(32, 1)},
    {"cache": OffloadingCacheConfig(16, 2), "worker_kv_bytes_per_block": BLOCK_BYTES // 2},
    {"groups": (OffloadingGroupConfig(16, ("layers.0", "layers.1", "layers.2"), 0),)},
    {"groups": (OffloadingGroupConfig(16, ("layers.0",), 0), OffloadingGroupConfig(16, ("layers.1", "layers.2"), 1))},
    {"groups": (OffloadingGroupConfig(16, ("layers.0", "layers.1"), 0), OffloadingGroupConfig(32, ("layers.2",), 1))},
    {"kv_cache_layout": "LBHNC"},
    {"kv_cache_layout": None},
    {"canonical_layout": True},
    {"worker_kv_bytes_per_block": 2 * BLOCK_BYTES},
    {"parallel": {"world_size": 2, "tp_size": 2}, "worker_kv_bytes_per_block": BLOCK_BYTES // 2},
    {"parallel": {"world_size": 2, "pp_size": 2}, "worker_kv_bytes_per_block": BLOCK_BYTES // 2},
    {"parallel": {"world_size": 2, "dcp_size": 2, "tp_size": 2}, "worker_kv_bytes_per_block": BLOCK_BYTES // 2},
    {"parallel": {"world_size": 2, "pcp_size": 2}, "worker_kv_bytes_per_block": BLOCK_BYTES // 2},
]
"""Models and settings of which no two may share a chunk."""


def name_of(**changes: Any) -> str:
    spec = OffloadingSpecFactory.create_spec(configuration({"cpu_bytes_to_use": 1 << 20}, **changes))
    return name_of_namespace(describe_chunks(spec, spec.kv_bytes_per_chunk), "")


def test_no_two_that_differ_have_a_name_in_common() -> None:
    names = [name_of(), *(name_of(**changes) for changes in DIFFERENT)]
    assert len(set(names)) == len(names)
    version = ".".join(vllm.__version__.split(".")[:2])
    assert re.fullmatch(rf"vllm{version}/[0-9a-f]{{12}}/bfloat16/hash16x1/whole/org/model", names[0])
    assert "/tp2/" in names[DIFFERENT.index({"parallel": {"world_size": 2, "tp_size": 2}, "worker_kv_bytes_per_block": 3000}) + 1]


def test_replicas_of_an_engine_have_one_name() -> None:
    """Data parallel ones, and those that differ in what has nothing to do with chunks."""
    parallel = {"data_parallel_index": 1, "data_parallel_size": 4}
    assert name_of() == name_of(parallel=parallel, enable_kv_cache_events=True)
    canonical = {"canonical_layout": True, "parallel": {"is_parallelism_agnostic": True}}
    divided = {"is_parallelism_agnostic": True, "world_size": 2, "tp_size": 2}
    halves = {"canonical_layout": True, "parallel": divided, "worker_kv_bytes_per_block": BLOCK_BYTES // 2}
    assert name_of(**canonical) == name_of(**halves), "vLLM's canonical layout does not depend on ranks"


def test_the_name_is_in_the_log(tier: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("vllm.fs3")  # below vLLM's, which hands nothing on to the root
    log.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.INFO, log.name):
            engine = Engine(tier)
    finally:
        log.removeHandler(caplog.handler)
    assert f"namespace '{engine.tier._cache.name}', {CHUNK_BYTES} bytes each, 3 replicas" in caplog.text
    assert engine.tier._cache.name.startswith(f"{tier['name']}/vllm")
    assert '"layers.1"' in caplog.text
    engine.close()


def test_events_of_what_was_stored(tier: dict[str, Any]) -> None:
    pages = pages_of(3)
    engine = Engine({**tier, "enable_kv_events": True, "locality": "LOCAL"}, enable_kv_cache_events=True)
    engine.store(pages)
    (event,) = engine.tier.take_events()
    assert (event.keys, event.removed, event.medium.value, event.locality.value) == (list(pages), False, "STORAGE", "LOCAL")
    assert list(engine.tier.take_events()) == []
    engine.close()


def test_a_reset_waits_for_jobs(tier: dict[str, Any]) -> None:
    pages = pages_of(8)
    engine = Engine(tier)
    request = ReqContext("request")
    engine.manager.on_new_request(request)
    prepared = engine.manager.prepare_store(list(pages), request)
    for key, chunk in zip(prepared.keys_to_store, prepared.store_spec.block_ids, strict=True):
        engine.row(chunk)[:] = pages[key]
    engine.manager.complete_store(prepared.keys_to_store, request)
    engine.manager.reset_cache()
    assert not engine.manager.has_pending_work()
    if hasattr(engine.manager, "on_reset_flushed"):
        engine.manager.on_reset_flushed()
    engine.manager.on_request_finished(request)
    assert engine.load(list(pages)) == list(pages.values())
    engine.close()


def test_the_end_gives_the_memory_back(tier: dict[str, Any]) -> None:
    engine = Engine(tier)
    engine.store(pages_of(8))
    region = engine.manager.primary_tier._mmap_region
    memory, path = region.mmap_obj, Path(region.mmap_path)
    del engine.memory
    engine.close()
    assert memory.closed, "somebody holds a part of it"
    assert not path.exists()
    assert engine.tier.lookup(make_offload_key(b"k" * 32, 0), ReqContext("late")) is LookupResult.RETRY
    engine.tier.on_schedule_end(ScheduleEndContext((), ()))
    assert engine.tier.lookup(make_offload_key(b"k" * 32, 0), ReqContext("late")) is LookupResult.MISS
    assert list(engine.tier.get_finished_jobs()) == []
    engine.tier.drain_jobs()


def test_an_engine_goes_on_without_its_cluster(tier: dict[str, Any]) -> None:
    """Nothing is found, nothing stays pinned, nothing raises."""
    with LocalCluster(storage=1, replicas=1, targets=1) as cluster:
        engine = Engine({**tier, "url": cluster.url, "timeout": 1}, chunks=8)
        pages = pages_of(16)
        keys = list(pages)
        engine.store({key: pages[key] for key in keys[:8]})
        engine.store({key: pages[key] for key in keys[8:]})
        request = ReqContext("caught in between")
        engine.manager.on_new_request(request)
        while any(engine.tier.lookup(key, request) is LookupResult.RETRY for key in keys[:4]):
            engine.step()
        cluster.kill()
        assert engine.find(keys[:4], request) == 0, "known to be there, and not to be had"
        engine.manager.on_request_finished(request)
        for _ in range(2):
            assert engine.load(keys[:4]) == []
            engine.store({key: pages[key] for key in keys[:8]})
            assert engine.load(keys[:8]) == [pages[key] for key in keys[:8]], "from the CPU's memory"
            engine.store({key: pages[key] for key in keys[8:]})
        engine.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"url": ""}, 'fs3 for vLLM wants "url"'),
        ({"url": "fs3://127.0.0.1:1"}, "127.0.0.1:1"),
        ({"replica": 2}, "does not know: replica"),
        ({"replicas": "2"}, "replicas is not an integer"),
        ({"timeout": 0}, "timeout 0"),
        ({"locality": "NEARBY"}, "NEARBY"),
    ],
)
def test_options_that_cannot_be(change: dict[str, Any], said: str, tier: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FS3_CLUSTER", raising=False)
    with pytest.raises((ValueError, TypeError, OSError), match=said):
        Engine({**tier, **change})


def test_chunks_that_are_too_large_for_a_page(tier: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="set a smaller block_size or blocks_per_chunk"):
        Engine(tier, chunks=1, chunk_bytes=65 << 20, worker_kv_bytes_per_block=65 << 20)


# --- the whole engine -----------------------------------------------------------------------------------------------------------


def documented_configuration() -> dict[str, Any]:
    """The one that the README and docs/kvcache.md have people paste."""
    pages = [ROOT / "README.md", ROOT / "docs" / "kvcache.md"]
    pasted = [found for page in pages for found in re.findall(r"--kv-transfer-config '(.*?)'", page.read_text(), re.DOTALL)]
    readme, reference = map(json.loads, pasted)
    assert readme == reference
    return dict(reference)


@pytest.fixture
def transfer(tier: dict[str, Any]) -> dict[str, Any]:
    """The documented configuration, with what copies blocks on a CPU, less memory, and a cluster and name of the test's own."""
    pasted = documented_configuration()
    extra = pasted["kv_connector_extra_config"]
    assert extra["spec_name"] == "TieringOffloadingSpec"
    extra.update({"spec_name": "CopyingSpec", "spec_module_path": "tests.external.vllm_engine", "cpu_bytes_to_use": 32 << 20})
    (documented,) = extra["secondary_tiers"]
    documented.update({"url": tier["url"], "name": tier["name"]})
    return pasted


def run_engine(directory: Path, transfer: dict[str, Any], tokens: int) -> Iterator[dict[str, Any]]:
    command = [sys.executable, "-m", "tests.external.vllm_engine", str(directory / "model"), json.dumps(transfer), str(tokens)]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    quiet = {"PYTHONWARNINGS": "ignore", "VLLM_LOGGING_LEVEL": "INFO", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **quiet, "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, cwd=directory, env=environment, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    return iter(json.loads(done.stdout.strip().splitlines()[-1]))


@pytest.mark.skipif(not vllm.__version__.startswith("0.32"), reason="there is no build of this version for CPUs")
@pytest.mark.timeout(900)
def test_another_process_goes_on_from_what_the_first_one_computed(tmp_path: Path, transfer: dict[str, Any]) -> None:
    first, _ = run_engine(tmp_path, transfer, 512)
    second, _ = run_engine(tmp_path, transfer, 512)
    assert first["found"] == 0
    assert second["found"] >= 480, "of 512 tokens, in blocks of 32"
    assert second["tokens"] == first["tokens"]
