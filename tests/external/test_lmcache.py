"""The adapter in LMCache's own hands: its factory, its storage manager with memory and controllers, its check, its benchmark."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import re
import select
import shlex
import subprocess
import sys
import threading
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import pytest

import fs3
from fs3.cli.local import LocalCluster

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # LMCache's and torch's own
    torch = pytest.importorskip("torch")
    pytest.importorskip("lmcache", reason="LMCache is not installed; `make engines` runs this in an environment that has it")
    from lmcache.v1.distributed.api import MemoryLayoutDesc, ObjectKey
    from lmcache.v1.distributed.l2_adapters import create_l2_adapter
    from lmcache.v1.distributed.l2_adapters.config import parse_args_to_l2_adapters_config
    from lmcache.v1.memory_management import MemoryFormat, MemoryObjMetadata, TensorMemoryObj
    from lmcache.v1.platform import consume_fd

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(180)]

PATIENCE_S = 60
KIB = 1024
PAGE = Path(__file__).parents[2] / "docs" / "kvcache.md"


def documented_arguments() -> list[str]:
    """What docs/kvcache.md has behind `lmcache server`."""
    (command,) = re.findall(r"^lmcache server (.*?)\n```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    return shlex.split(command.replace("\\\n", " "))


def specification(url: str, **params: Any) -> dict[str, Any]:
    """The documented adapter, for this cluster."""
    arguments = documented_arguments()
    spec: dict[str, Any] = json.loads(arguments[arguments.index("--l2-adapter") + 1])
    spec["adapter_params"] |= {"url": url, **params}
    return spec


def create(spec: dict[str, Any]) -> Any:
    """An adapter, as LMCache makes it of a configuration."""
    parsed = parse_args_to_l2_adapters_config(argparse.Namespace(l2_adapter=[json.dumps(spec)]))
    return create_l2_adapter(parsed.adapters[0])


@pytest.fixture
def spec(cluster_url: str) -> dict[str, Any]:
    """Of the test's own namespaces."""
    return specification(cluster_url, name=uuid.uuid4().hex[:8], timeout=30)


@pytest.fixture
def adapters(spec: dict[str, Any]) -> Iterator[Callable[..., Any]]:
    """Makes adapters of servers that share a cache."""
    made = []

    def make(**params: Any) -> Any:
        made.append(create({**spec, "adapter_params": spec["adapter_params"] | params}))
        return made[-1]

    yield make
    for adapter in made:
        adapter.close()


def key(index: int, model: str = "org/model", **fields: Any) -> ObjectKey:
    return ObjectKey(chunk_hash=index.to_bytes(16, "big"), model_name=model, kv_rank=fields.pop("kv_rank", 0x01000100), **fields)


def memory(size: int, seed: int | None = None, dtype: Any = torch.uint8, shape: Sequence[int] | None = None) -> TensorMemoryObj:
    """An object in memory: random bytes of a seed, or zeros."""
    raw = torch.zeros(size, dtype=torch.uint8)
    if seed is not None:
        raw.random_(0, 256, generator=torch.Generator().manual_seed(seed))
    count = size // dtype.itemsize
    return TensorMemoryObj(
        raw,
        MemoryObjMetadata(
            shape=torch.Size(shape or [count]),
            dtype=dtype,
            address=raw.data_ptr(),
            phy_size=size,
            ref_count=1,
            fmt=MemoryFormat.KV_2LTD,
        ),
        parent_allocator=None,
    )


def content(each: TensorMemoryObj) -> bytes:
    return bytes(each.byte_array)


def wait(fd: int) -> None:
    """As LMCache's controllers do."""
    assert select.select([fd], [], [], PATIENCE_S)[0], "no task has ended"
    consume_fd(fd)


def store(adapter: Any, keys: list[ObjectKey], objects: list[Any]) -> Any:
    task = adapter.submit_store_task(keys, objects)
    while True:
        wait(adapter.get_store_event_fd())
        completed = adapter.pop_completed_store_tasks()
        if task in completed:
            return completed[task]


def bits(bitmap: Any, count: int) -> list[bool]:
    return [bitmap.test(index) for index in range(count)]


def lookup(adapter: Any, keys: list[ObjectKey]) -> list[bool]:
    task = adapter.submit_lookup_and_lock_task(keys, {})
    wait(adapter.get_lookup_and_lock_event_fd())
    found = adapter.query_lookup_and_lock_result(task)
    assert adapter.query_lookup_and_lock_result(task) is None, "a result is told once"
    adapter.submit_unlock(keys)
    return bits(found, len(keys))


def load(adapter: Any, keys: list[ObjectKey], objects: list[Any]) -> list[bool]:
    task = adapter.submit_load_task(keys, objects)
    wait(adapter.get_load_event_fd())
    found = adapter.query_load_result(task)
    assert adapter.query_load_result(task) is None, "a result is told once"
    return bits(found, len(keys))


# --- the contract ---------------------------------------------------------------------------------------------------------------


def test_objects_of_all_sizes_go_to_another_server(adapters: Callable[..., Any]) -> None:
    """Whole and partial chunks, several groups, ranks, salts and models, in one batch."""
    writer, reader = adapters(), adapters()
    keys = [
        key(1),
        key(2),
        key(3, object_group_id=2),
        key(4, kv_rank=0x02010201),
        key(5, cache_salt="tenant-7"),
        key(1, model="another/model"),
        key(6),
    ]
    sizes = [256 * KIB, 2048 * KIB, 1, 4096, 1000, 256 * KIB, 12_345]
    objects = [memory(size, seed) for seed, size in enumerate(sizes)]
    assert lookup(reader, keys) == [False] * len(keys)
    result = store(writer, keys, objects)
    assert result.is_successful()
    assert result.bytes_transferred() == sum(sizes)
    again = store(writer, keys, objects)
    assert again.is_successful(), "they are there"
    assert again.bytes_transferred() == 0
    assert lookup(reader, keys) == [True] * len(keys)
    read = [memory(size) for size in sizes]
    assert load(reader, keys, read) == [True] * len(keys)
    assert [content(each) for each in read] == [content(each) for each in objects]


def test_what_is_not_there_is_no_hit_and_shifts_nothing(adapters: Callable[..., Any]) -> None:
    adapter = adapters()
    objects = {index: memory(4096, index) for index in (1, 3)}
    assert store(adapter, [key(index) for index in objects], list(objects.values())).is_successful()
    keys = [key(index) for index in range(5)] + [key(1, cache_salt="other"), key(1, object_group_id=1), key(1, kv_rank=7)]
    there = [index in objects for index in range(5)] + [False] * 3
    assert lookup(adapter, keys) == there
    read = [memory(4096) for _ in keys]
    assert load(adapter, keys, read) == there
    assert [content(read[index]) for index in objects] == [content(each) for each in objects.values()]
    assert lookup(adapter, []) == []
    assert load(adapter, [], []) == []


def test_another_layout_is_a_miss(adapters: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    """The same size, but other types or another order of the same axes; and another size."""
    adapter = adapters()
    stored = memory(4096, 1, torch.bfloat16, [2, 4, 16, 16])
    assert store(adapter, [key(1)], [stored]).is_successful()
    for other in (
        memory(4096, None, torch.float16, [2, 4, 16, 16]),
        memory(4096, None, torch.bfloat16, [4, 2, 16, 16]),
        memory(2048, None, torch.bfloat16, [2, 2, 16, 16]),
        memory(8192, None, torch.bfloat16, [2, 8, 16, 16]),
    ):
        assert load(adapter, [key(1)], [other]) == [False]
    assert "org/model are stored in another layout" in caplog.text
    same = memory(4096, None, torch.bfloat16, [2, 4, 16, 16])
    assert load(adapter, [key(1)], [same]) == [True]
    assert content(same) == content(stored)


def test_three_descriptors_and_tasks_in_any_order(adapters: Callable[..., Any]) -> None:
    one, other = adapters(), adapters()
    fds = [
        fd
        for adapter in (one, other)
        for fd in (adapter.get_store_event_fd(), adapter.get_lookup_and_lock_event_fd(), adapter.get_load_event_fd())
    ]
    assert len(set(fds)) == 6
    tasks = {one.submit_store_task([key(index)], [memory(4096, index)]) for index in range(50)}
    assert len(tasks) == 50
    completed: dict[int, Any] = {}
    while len(completed) < 50:
        wait(one.get_store_event_fd())
        completed |= one.pop_completed_store_tasks()
    assert set(completed) == tasks
    assert all(result.is_successful() for result in completed.values())
    loads = {one.submit_load_task([key(index)], [memory(4096)]): index for index in range(50)}
    results: dict[int, bool] = {}
    while len(results) < 50:
        wait(one.get_load_event_fd())
        for task in set(loads) - set(results):
            if (found := one.query_load_result(task)) is not None:
                results[task] = found.test(0)
    assert all(results.values())


def test_what_was_deleted_is_gone_for_all(adapters: Callable[..., Any]) -> None:
    from lmcache.v1.distributed.internal_api import L2AdapterListener

    told: list[tuple[str, int]] = []

    class Listener(L2AdapterListener):
        def on_l2_keys_stored(self, keys: list[ObjectKey], sizes: list[int]) -> None:
            told.append(("stored", sum(sizes)))

        def on_l2_keys_accessed(self, keys: list[ObjectKey]) -> None:
            told.append(("accessed", len(keys)))

        def on_l2_keys_deleted(self, keys: list[ObjectKey]) -> None:
            told.append(("deleted", len(keys)))

    one, other = adapters(), adapters()
    one.register_listener(Listener())
    keys = [key(index) for index in range(4)]
    store(one, keys, [memory(4096, index) for index in range(4)])
    load(one, keys[:3], [memory(4096) for _ in range(3)])
    one.delete(keys[:2])
    one.delete([])
    assert lookup(other, keys) == [False, False, True, True]
    assert told == [("stored", 4 * 4096), ("accessed", 3), ("deleted", 2)]
    one.delete(keys)
    assert lookup(other, keys) == [False] * 4


def test_listing_tells_what_all_servers_stored(adapters: Callable[..., Any]) -> None:
    one, other = adapters(), adapters()
    sizes = {key(index, model=f"org/model-{index % 3}", cache_salt="salt" * (index % 2)): 1000 + index for index in range(30)}
    for adapter, part in ((one, list(sizes)[:10]), (other, list(sizes)[10:])):
        assert store(adapter, part, [memory(sizes[each], 1) for each in part]).is_successful()
    listed: dict[ObjectKey, int] = {}
    cursor, pages = None, 0
    while pages == 0 or cursor is not None:
        page = one.list_l2_keys(page_size=7, cursor=cursor)
        assert len(page.entries) <= 7
        listed |= {entry.key.to_object_key(): entry.size_bytes for entry in page.entries}
        cursor, pages = page.next_page_token, pages + 1
    assert listed == sizes
    assert pages >= 5
    of_one = one.list_l2_keys(model_name="org/model-1")
    assert of_one.next_page_token is None
    assert {entry.key.to_object_key() for entry in of_one.entries} == {each for each in sizes if each.model_name == "org/model-1"}
    assert one.list_l2_keys(model_name="org/model").entries == (), "the whole name counts"
    with pytest.raises(ValueError, match="page_size"):
        one.list_l2_keys(page_size=0)
    with pytest.raises(ValueError, match="cursor"):
        one.list_l2_keys(cursor="no such place")


def test_usage_counts_what_another_server_stored(adapters: Callable[..., Any]) -> None:
    one, other = adapters(), adapters(max_capacity_gb=1)
    keys = [key(index, cache_salt="tenant") for index in range(10)]
    assert store(one, keys, [memory(4096, index) for index in range(10)]).is_successful()
    assert one.get_usage().bytes_by_cache_salt == {"tenant": 40_960}
    pause = threading.Event()
    while (found := other.get_usage()).total_bytes_used < 40_960:
        pause.wait(0.1)
    assert found.total_bytes_used < 2 * 40_960, "one copy, with keys and headers"
    assert found.total_capacity_bytes == 1 << 30
    assert found.bytes_by_cache_salt == {}
    assert other.supports_global_eviction
    one.delete(keys)
    while other.get_usage().total_bytes_used:
        pause.wait(0.1)
    assert one.get_usage().bytes_by_cache_salt == {}


def test_what_was_found_stays_until_it_is_unlocked(adapters: Callable[..., Any], spec: dict[str, Any]) -> None:
    adapter = adapters()
    keys = [key(index) for index in range(3)]
    store(adapter, keys, [memory(4096, index) for index in range(3)])

    def leased() -> int:
        params = spec["adapter_params"]
        (usage,) = asyncio.run(fs3.KVCache.list_usage(params["url"], f"{params['name']}/lmcache/"))
        return int(usage.leased_pages)

    task = adapter.submit_lookup_and_lock_task([*keys, key(9)], {})
    wait(adapter.get_lookup_and_lock_event_fd())
    assert bits(adapter.query_lookup_and_lock_result(task), 4) == [True, True, True, False]
    assert leased() == 3
    adapter.submit_unlock(keys[:2])
    assert leased() == 3, "a lease ends as a whole"
    adapter.submit_unlock([*keys[2:], key(9)])
    pause = threading.Event()
    while leased():
        pause.wait(0.1)


# --- bad input ------------------------------------------------------------------------------------------------------------------


def test_no_call_raises(adapters: Callable[..., Any]) -> None:
    """What raises in a thread of LMCache may end it for good: a task always gets a result instead."""
    adapter = adapters()
    assert not store(adapter, [key(1), key(2)], [memory(4096, 1)]).is_successful(), "one object for two keys"
    assert load(adapter, [key(1), key(2)], [memory(4096)]) == [False, False]
    assert not store(adapter, [key(1)], [None]).is_successful()
    assert not store(adapter, [key(1)], [memory(64 * KIB * KIB, None)]).is_successful(), "larger than a page may be"
    assert lookup(adapter, [key(1)]) == [False]
    assert store(adapter, [key(1, model="m" * 300)], [memory(4096, 1)]).is_successful(), "a long name is shortened"
    assert store(adapter, [key(1)], [memory(4096, 1)]).is_successful(), "it goes on"


def test_after_close(adapters: Callable[..., Any]) -> None:
    adapter = adapters()
    adapter.close()
    adapter.close()
    task = adapter.submit_store_task([key(1)], [memory(4096, 1)])
    assert task not in adapter.pop_completed_store_tasks()
    assert adapter.query_load_result(adapter.submit_load_task([key(1)], [memory(4096)])) is None
    adapter.delete([key(1)])
    assert adapter.report_status()["is_healthy"] is False


def test_a_dead_cluster_is_a_miss_within_the_timeout(tmp_path: Path) -> None:
    with LocalCluster(tmp_path / "cluster", storage=1, replicas=1, targets=1) as cluster:
        adapter = create(specification(cluster.url.rstrip("/"), replicas=1, timeout=2))
        assert store(adapter, [key(1)], [memory(4096, 1)]).is_successful()
        cluster.kill(*cluster.shape.names())
        assert not store(adapter, [key(2)], [memory(4096, 2)]).is_successful()
        assert lookup(adapter, [key(1)]) == [False]
        assert load(adapter, [key(1)], [memory(4096)]) == [False]
        assert lookup(adapter, [key(1, model="never/seen")]) == [False]
        adapter.delete([key(1)])
        cluster.start()
        deadline = threading.Event()
        for _ in range(240):
            if lookup(adapter, [key(1)]) == [True]:
                break
            deadline.wait(0.25)
        assert load(adapter, [key(1)], [memory(4096)]) == [True], "it is asked again"
        adapter.close()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"url": ""}, 'wants "url"'),
        ({"url": "fs3://127.0.0.1:9", "replicas": "two"}, "replicas"),
        ({"url": "fs3://127.0.0.1:9", "replicas": -1}, "replicas"),
        ({"url": "fs3://127.0.0.1:9", "timeout": 0}, "timeout"),
        ({"url": "fs3://127.0.0.1:9", "max_capacity_gb": -1}, "max_capacity_gb"),
        ({"url": "fs3://127.0.0.1:9", "name": 7}, "name"),
    ],
)
def test_a_configuration_that_cannot_be(params: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FS3_CLUSTER", raising=False)
    with pytest.raises((ValueError, TypeError), match=message):
        create(specification(**params))


def test_a_cluster_that_does_not_answer_at_the_start() -> None:
    before = threading.active_count()
    with pytest.raises(OSError, match=r"127\.0\.0\.1:9"):
        create(specification("fs3://127.0.0.1:9", timeout=2))
    assert threading.active_count() == before


def test_an_option_it_does_not_know_is_logged(adapters: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "fs3.lmcache"):
        adapters(replcas=3)
    assert "does not know: replcas" in caplog.text


# --- LMCache's own parts --------------------------------------------------------------------------------------------------------


class Server:
    """A cache server's storage manager: memory, and controllers that store to and prefetch from fs3."""

    def __init__(self, spec: dict[str, Any]) -> None:
        from lmcache.v1.distributed.config import add_storage_manager_args, parse_args_to_config
        from lmcache.v1.distributed.storage_manager import StorageManager

        self.layout = MemoryLayoutDesc([torch.Size([2, 4, 64, 64])], [torch.bfloat16])
        arguments = documented_arguments()
        arguments[arguments.index("--l1-size-gb") + 1] = "0.0625"
        arguments[arguments.index("--l2-adapter") + 1] = json.dumps(spec)
        parser = argparse.ArgumentParser()
        add_storage_manager_args(parser)
        parsed = parser.parse_args(arguments)
        parsed.shm_name = ""  # memory of this process
        self.manager = StorageManager(parse_args_to_config(parsed))

    def write(self, keys: list[ObjectKey]) -> list[bytes]:
        """Objects of random bytes, as an engine writes them; what they are."""
        reserved = self.manager.reserve_write(keys, self.layout)
        assert set(reserved) == set(keys)
        for each in reserved.values():
            each.raw_data.view(torch.uint8).random_(0, 256)
        written = [content(reserved[each]) for each in keys]
        self.manager.finish_write(keys)
        return written

    def prefetch(self, keys: list[ObjectKey]) -> int:
        """How many from the first on could be brought to memory."""
        from lmcache.v1.distributed.api import GroupedObjectKeys, PrefetchTaskSpec

        handle = self.manager.submit_prefetch_task(PrefetchTaskSpec([GroupedObjectKeys(keys, 0, self.layout)]))
        pause = threading.Event()
        while (result := self.manager.query_prefetch_status(handle)) is None:
            pause.wait(0.01)
        return int(result.l2_hit_count)

    def read(self, keys: list[ObjectKey]) -> list[bytes]:
        """What was prefetched."""
        with self.manager.read_prefetched_results(keys) as objects:
            assert objects is not None
            found = [content(each) for each in objects]
        self.manager.finish_read_prefetched(keys)
        return found


def test_storage_managers_share_a_cache(spec: dict[str, Any], adapters: Callable[..., Any]) -> None:
    writer, reader, watcher = Server(spec), Server(spec), adapters()
    try:
        keys = [key(index) for index in range(40)]
        assert reader.prefetch(keys) == 0
        written = writer.write(keys[:30])
        pause = threading.Event()
        while lookup(watcher, keys[:30]) != [True] * 30:
            pause.wait(0.05)
        assert reader.prefetch(keys) == 30
        assert reader.read(keys[:30]) == written
    finally:
        writer.manager.close()
        reader.manager.close()


def test_lmcaches_own_check(spec: dict[str, Any]) -> None:
    done = run("-m", "lmcache.v1.basic_check", "--mode", "test_l2_adapter", "--num-keys", "7", "--l2-adapter", json.dumps(spec))
    assert "Testing L2 adapter #0 (FS3L2Adapter)" in done
    for line in ("Validation: 7/7 correctly absent", "Validation: 7/7 found", "(loaded): 7/7", "(content): 7/7"):
        assert line in done, done
    assert "FAIL" not in done.upper().replace("FAILED: 0", ""), done


def test_lmcaches_own_benchmark(spec: dict[str, Any]) -> None:
    lmcache = "from lmcache.cli.main import main; main()"
    sizes = ("--num-keys", "8", "--data-size-kb", "64", "--rounds", "2", "--lookup-max-hit-rate", "1.0", "--no-skip-verify")
    done = run("-c", lmcache, "bench", "l2", "--l2-adapter", json.dumps(spec), *sizes)
    assert "Adapter created successfully (FS3L2Adapter)" in done
    assert re.search(r"verif\w*[^\n]*(passed|ok)", done, re.IGNORECASE), done


# --- the cache inside an engine's process ---------------------------------------------------------------------------------------


@pytest.fixture
def connector_file(cluster_url: str, tmp_path: Path) -> Path:
    """The documented configuration, of the test's own namespace."""
    (documented,) = re.findall(r"```yaml\n(.*?remote_storage_plugins.*?)```", PAGE.read_text(), re.DOTALL)
    before = "  remote_storage_plugin.fs3."
    path = tmp_path / "lmcache.yaml"
    path.write_text(f"{documented.replace('fs3://127.0.0.1:8000', cluster_url)}{before}name: {uuid.uuid4().hex[:8]}\n")
    return path


class Engine:
    """The remote backend of an engine's process."""

    def __init__(self, path: Path) -> None:
        from lmcache.v1.check.utils import EventLoopManager
        from lmcache.v1.config import LMCacheEngineConfig
        from lmcache.v1.metadata import LMCacheMetadata
        from lmcache.v1.storage_backend import RemoteBackend
        from lmcache.v1.storage_backend.local_cpu_backend import LocalCPUBackend

        config = LMCacheEngineConfig.from_file(str(path))
        config.chunk_size, config.max_local_cpu_size = 16, 0.0625
        metadata = LMCacheMetadata("org/model", 1, 1, 0, 0, torch.bfloat16, (2, 2, 16, 2, 8), chunk_size=16)
        self.config, self.metadata = config, metadata
        self.loops = EventLoopManager()
        self.loops.start()
        self.memory = LocalCPUBackend(config, metadata, dst_device="cpu")
        self.backend = RemoteBackend(config, metadata, self.loops.loop, self.memory, dst_device="cpu", plugin_name="fs3")

    def key(self, chunk: int) -> Any:
        from lmcache.utils import CacheEngineKey

        return CacheEngineKey("org/model", 1, 0, chunk, torch.bfloat16)

    def chunk(self, tokens: int, seed: int) -> Any:
        """Random bytes for so many tokens."""
        found = self.memory.allocate(torch.Size([2, 2, tokens, 16]), torch.bfloat16, MemoryFormat.KV_2LTD)
        found.tensor.view(torch.uint8).random_(0, 256, generator=torch.Generator().manual_seed(seed))
        return found

    def close(self) -> None:
        self.backend.close()
        self.loops.stop()


def test_chunks_go_to_another_process(connector_file: Path) -> None:
    """Whole ones and one that is not."""
    writer, reader = Engine(connector_file), Engine(connector_file)
    try:
        chunks = {1: writer.chunk(16, 1), 2: writer.chunk(5, 2), 3: writer.chunk(16, 3)}
        kept = {number: content(each) for number, each in chunks.items()}
        for number, each in chunks.items():
            writer.backend.submit_put_task(writer.key(number), each).result(PATIENCE_S)
        keys = [reader.key(number) for number in (1, 2, 3, 4)]
        assert [reader.backend.contains(each) for each in keys] == [True, True, True, False]
        assert reader.backend.batched_contains(keys) == 3
        found = reader.backend.batched_get_blocking(keys)
        assert [None if each is None else content(each) for each in found] == [*kept.values(), None]
        assert found[1].get_shape() == torch.Size([2, 2, 5, 16])
        assert reader.backend.get_blocking(keys[3]) is None
        assert sorted(_on(reader, reader.backend.connection.list())) == sorted(each.to_string() for each in keys[:3])
        assert reader.backend.remove(keys[0])
        assert not writer.backend.contains(keys[0])
    finally:
        writer.close()
        reader.close()


def _on(engine: Engine, work: Any) -> Any:
    return asyncio.run_coroutine_threadsafe(work, engine.loops.loop).result(PATIENCE_S)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"use_layerwise": True}, "use_layerwise"), ({"remote_serde": "cachegen"}, "remote_serde"), ({"extra_config": {}}, "url")],
)
def test_a_connector_that_cannot_be(
    changes: dict[str, Any], message: str, connector_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lmcache.v1.storage_backend.connector import ConnectorContext

    from fs3.api.integrations.lmcache.connector import FS3ConnectorAdapter

    monkeypatch.delenv("FS3_CLUSTER", raising=False)
    engine = Engine(connector_file)
    try:
        config = copy(engine.config)
        for name, value in changes.items():
            setattr(config, name, value)
        context = ConnectorContext("plugin://fs3", engine.loops.loop, engine.memory, config, engine.metadata, "fs3")
        with pytest.raises(ValueError, match=message):
            FS3ConnectorAdapter().create_connector(context)
    finally:
        engine.close()


def test_lmcaches_own_check_of_the_connector(connector_file: Path) -> None:
    with connector_file.open("a") as file:
        file.write("remote_url: plugin://fs3\n")  # of which this check wants one
    check = ("-m", "lmcache.v1.basic_check", "--mode", "test_remote", "--num-keys", "5")
    done = run(*check, LMCACHE_CONFIG_FILE=str(connector_file))
    assert "Test Failed" not in done, done
    validated = re.findall(r"Validation.*?(\d+)/5", done)
    assert len(validated) >= 4, done
    assert set(validated) == {"5"}, done


def run(*arguments: str, **environment: str) -> str:
    """What a Python program says; it must end well."""
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
