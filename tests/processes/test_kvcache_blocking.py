"""The KVCache for code without an event loop, against a real cluster: from many threads, as jobs, and after fork."""

from __future__ import annotations

import asyncio
import hashlib
import os
import select
import threading
import weakref
from collections.abc import Iterator

import pytest

import fs3
from fs3.api.io.device_memory import set_device_copier
from fs3.api.kvcache import BlockingKVCache, JobKind, JobResult, Status
from fs3.base.errors import InvalidArgument, NotFound
from fs3.cli.local import LocalCluster
from tests.device_arrays import DeviceArray, MemmoveCopier
from tests.dma_bufs import FakeDmaBufs

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

PAGE = 70_001


def page_of(key: bytes) -> bytes:
    return hashlib.shake_128(key).digest(PAGE)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(storage=2, replicas=2, targets=1) as local:
        yield local


@pytest.fixture
def cache(cluster: LocalCluster, request: pytest.FixtureRequest) -> Iterator[BlockingKVCache]:
    with fs3.BlockingKVCache(cluster.url, namespace=request.node.name, page_bytes=PAGE) as opened:
        yield opened


def collect(cache: BlockingKVCache, kind: str, count: int) -> dict[int, JobResult]:
    """The results of so many jobs of a kind, waited for as an engine does."""
    results: dict[int, JobResult] = {}
    while len(results) < count:
        readable, _, _ = select.select([cache.event_fd(kind)], [], [], 60)
        assert readable, f"{count - len(results)} jobs did not end"
        for result in cache.poll(kind):
            assert result.kind is JobKind(kind)
            results[result.job] = result
    return results


def test_calls_block(cache: BlockingKVCache) -> None:
    keys = [b"%d" % number for number in range(6)]
    assert cache.put_from(keys[:5], [page_of(key) for key in keys[:5]]) == [Status.OK] * 5
    assert cache.lookup(keys)[:2] == (5, [True] * 5 + [False])
    part = bytearray(100)
    assert cache.get_ranges_into(keys[:1], [(1000, 100)], [part]) == [Status.OK]
    assert bytes(part) == page_of(b"0")[1000:1100]
    assert cache.remove(keys[:1]) == [Status.OK]
    cache.clear()
    assert cache.lookup(keys).statuses == [Status.MISS] * 6


def test_threads_share_a_cache(cache: BlockingKVCache) -> None:
    wrong: list[object] = []

    def work(number: int) -> None:
        keys = [b"%d-%d" % (number, index) for index in range(5)]
        buffers = [bytearray(PAGE) for _ in keys]
        wrong.extend(status for status in cache.put_from(keys, [page_of(key) for key in keys]) if status is not Status.OK)
        wrong.extend(status for status in cache.get_into(keys, buffers) if status is not Status.OK)
        wrong.extend(key for key, buffer in zip(keys, buffers, strict=True) if bytes(buffer) != page_of(key))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_jobs_end_and_say_so(cache: BlockingKVCache) -> None:
    keys = [b"%d" % number for number in range(20)]
    puts = [cache.submit_put([key], [[page_of(key)[:7], page_of(key)[7:]]]) for key in keys]
    assert len(set(puts)) == 20
    assert {job: result.statuses for job, result in collect(cache, "put", 20).items()} == {job: [Status.OK] for job in puts}
    assert not select.select([cache.event_fd("put")], [], [], 0)[0], "nothing waits any more"
    buffers = [bytearray(PAGE) for _ in keys]
    gets = [cache.submit_get([key, b"none"], [buffer, bytearray(PAGE)]) for key, buffer in zip(keys, buffers, strict=True)]
    lookup = cache.submit_lookup([*keys, b"none"])
    found = collect(cache, "lookup", 1)[lookup]
    assert found.found is not None
    assert found.found.hits == 20
    assert found.statuses == [Status.OK] * 20 + [Status.MISS]
    results = collect(cache, "get", 20)
    assert all(results[job].statuses == [Status.OK, Status.MISS] for job in gets)
    assert [bytes(buffer) for buffer in buffers] == [page_of(key) for key in keys]
    part = bytearray(9)
    (result,) = cache.wait([cache.submit_get(keys[:1], [part], ranges=[(1, 9)])], timeout=60)
    assert (result.statuses, bytes(part)) == ([Status.OK], page_of(b"0")[1:10])
    assert cache.poll() == []


def test_a_job_that_is_waited_for(cache: BlockingKVCache) -> None:
    first, second = cache.submit_lookup([b"a"]), cache.submit_lookup([b"b", b"c"])
    assert [result.job for result in cache.wait([second, first], timeout=60)] == [second, first]
    assert cache.poll() == []
    with pytest.raises(KeyError, match=f"no job {first}"):
        cache.wait([first])


def test_bad_input_is_refused_before_a_job_begins(cache: BlockingKVCache) -> None:
    with pytest.raises(InvalidArgument, match="buffer 0 has 0 bytes"):
        cache.submit_put([b"k"], [b""])
    with pytest.raises(InvalidArgument, match="buffer 0 is read-only"):
        cache.submit_get([b"k"], [bytes(PAGE)])
    with pytest.raises(InvalidArgument, match="1 keys and 2 lengths"):
        cache.submit_get([b"k"], [bytearray(PAGE)], lengths=[0, 0])
    with pytest.raises(InvalidArgument, match="lengths: ranges have"):
        cache.submit_get([b"k"], [bytearray(PAGE)], [(0, 1)], [0])
    with pytest.raises(TypeError, match="keys: one bytes"):
        cache.submit_lookup(b"k")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="kind 'gets': put, get, lookup are known"):
        cache.event_fd("gets")
    assert cache.poll() == []


def test_what_a_call_raises_is_in_the_result(cluster: LocalCluster, cache: BlockingKVCache) -> None:
    with fs3.BlockingKVCache(cluster.url, namespace="doomed", page_bytes=PAGE) as doomed:
        asyncio.run(fs3.KVCache.delete_namespace(cluster.url, "doomed"))
        while True:  # until the deletion is known here
            (result,) = doomed.wait([doomed.submit_put([b"k"], [bytes(PAGE)])], timeout=60)
            if result.failure is not None:
                break
        assert isinstance(result.failure, NotFound)
        assert result.statuses == [Status.ERROR]


def test_a_closed_cache_says_so(cluster: LocalCluster) -> None:
    cache = fs3.BlockingKVCache(cluster.url, namespace="closed", page_bytes=PAGE)
    cache.close()
    cache.close()
    for call in (lambda: cache.lookup([b"k"]), cache.poll, lambda: cache.submit_lookup([b"k"]), lambda: cache.event_fd("get")):
        with pytest.raises(InvalidArgument, match="'closed' is closed"):
            call()


def test_a_forgotten_cache_ends(cluster: LocalCluster) -> None:
    cache = fs3.BlockingKVCache(cluster.url, namespace="forgotten", page_bytes=PAGE)
    held = cache._thread
    assert held is not None
    ending = weakref.ref(cache)
    with pytest.warns(ResourceWarning, match="'forgotten' was not closed"):
        del cache
    assert ending() is None
    held._thread.join(60)
    assert held.loop.is_closed()


def test_a_forked_child_makes_its_own(cache: BlockingKVCache) -> None:
    assert cache.put_from([b"k"], [page_of(b"k")]) == [Status.OK]
    parents = cache.event_fd("get")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            buffer = bytearray(PAGE)
            (result,) = cache.wait([cache.submit_get([b"k"], [buffer])], timeout=60)
            if result.statuses == [Status.OK] and bytes(buffer) == page_of(b"k") and cache.event_fd("get") != parents:
                cache.close()
                code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert cache.lookup([b"k"]).hits == 1, "the parent's goes on"


def test_jobs_with_a_dma_buf(cache: fs3.BlockingKVCache, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = FakeDmaBufs()
    monkeypatch.setattr("fs3.api.io.dma_buf._kernel", kernel)
    page = b"of a device" * 100
    fd = kernel.make(page + bytes(4096))
    memory = fs3.DmaBuf(fd)
    registered = cache.register_buffer(memory)
    (stored,) = cache.wait([cache.submit_put(["dma-buf"], [memory[: len(page)]])], 60)
    assert stored.statuses == [Status.OK]
    jobs = [
        cache.submit_get(["dma-buf"], [memory[2000 : 2000 + len(page)]]),
        cache.submit_get(["dma-buf"], [memory[5000:5010]], ranges=[(3, 10)]),
    ]
    memory.close()  # what was submitted has it to the end
    assert [result.statuses for result in cache.wait(jobs, 60)] == [[Status.OK], [Status.OK]]
    cache.unregister_buffer(registered)
    found = kernel.load(fd, 5010)
    assert (found[2000 : 2000 + len(page)], found[5000:]) == (page, page[3:13])
    assert kernel.accesses == 0
    os.close(fd)
    kernel.close()


def test_jobs_with_device_memory(cache: fs3.BlockingKVCache) -> None:
    set_device_copier(MemmoveCopier())
    try:
        page = b"device" * 100
        registered = cache.register_buffer(array := DeviceArray(len(page)))
        (stored,) = cache.wait([cache.submit_put(["on device"], [DeviceArray(page)])], 60)
        assert stored.statuses == [Status.OK]
        part = DeviceArray(10)
        jobs = [cache.submit_get(["on device"], [array]), cache.submit_get(["on device"], [part], ranges=[(3, 10)])]
        assert [result.statuses for result in cache.wait(jobs, 60)] == [[Status.OK], [Status.OK]]
        assert (array.tobytes(), part.tobytes()) == (page, page[3:13])
        cache.unregister_buffer(registered)
    finally:
        set_device_copier(None)
