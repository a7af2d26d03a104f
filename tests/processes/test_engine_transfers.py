"""Jobs and lookups as engines want them, against a real cluster: many pages, in parts, and a cluster that has gone."""

from __future__ import annotations

import gc
import hashlib
import mmap
import select
from collections.abc import Iterator

import pytest

import fs3
from fs3.api.integrations import transfers
from fs3.api.integrations.lookups import BatchedLookups
from fs3.api.integrations.transfers import Transfer, TransferQueue
from fs3.api.kvcache import BlockingKVCache, JobKind, Status
from fs3.cli.local import LocalCluster

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

PAGE = 20_000


def page_of(key: bytes) -> bytes:
    return hashlib.shake_128(key).digest(PAGE)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(storage=2, replicas=2, targets=1) as local:
        yield local


@pytest.fixture
def cache(cluster: LocalCluster, request: pytest.FixtureRequest) -> Iterator[BlockingKVCache]:
    with fs3.BlockingKVCache(cluster.url, namespace=request.node.name, page_bytes=PAGE, timeout=20) as opened:
        yield opened


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of three pages, two at a time."""
    monkeypatch.setattr(transfers, "part_pages_max", 3)
    monkeypatch.setattr(transfers, "parts_max", 2)


def next_ended(queue: TransferQueue, cache: BlockingKVCache, count: int) -> list[Transfer]:
    """The next jobs to end, waited for as an engine does that polls at each step."""
    ended = queue.poll()
    while len(ended) < count:
        readable, _, _ = select.select([cache.event_fd("get"), cache.event_fd("put")], [], [], 60)
        assert readable, "no part of a job has ended"
        ended += queue.poll()
    return ended


@pytest.mark.usefixtures("parts")
def test_jobs_of_many_pages(cache: BlockingKVCache) -> None:
    queue = TransferQueue(cache)
    keys = [b"%d" % number for number in range(20)]
    queue.store(7, keys[:17], [page_of(key) for key in keys[:17]])
    queue.store(8, [], [])
    ended = {transfer.number: transfer for transfer in next_ended(queue, cache, 2)}
    assert ended[8].statuses == []
    assert (ended[7].kind, ended[7].keys, ended[7].statuses) == (JobKind.PUT, keys[:17], [Status.OK] * 17)
    buffers = [bytearray(PAGE) for _ in keys]
    queue.read(9, keys, buffers)
    queue.read(10, keys[:1], [bytearray(PAGE)])
    read = {transfer.number: transfer for transfer in next_ended(queue, cache, 2)}
    assert read[9].statuses == [Status.OK] * 17 + [Status.MISS] * 3
    assert read[10].statuses == [Status.OK]
    assert [bytes(buffer) for buffer in buffers[:17]] == [page_of(key) for key in keys[:17]]
    assert queue.poll() == []


@pytest.mark.usefixtures("parts")
def test_draining_waits_for_all(cache: BlockingKVCache) -> None:
    queue = TransferQueue(cache)
    keys = [b"%d" % number for number in range(20)]
    queue.store(1, keys, [page_of(key) for key in keys])
    queue.read(2, keys[:1], [bytearray(PAGE)])
    queue.drain()
    assert sorted(transfer.number for transfer in queue.poll()) == [1, 2]
    queue.drain()
    assert queue.poll() == []


@pytest.mark.usefixtures("parts")
def test_a_job_that_cannot_be_ends_all_the_same(cache: BlockingKVCache) -> None:
    queue = TransferQueue(cache)
    good, bad = page_of(b"k"), bytes(PAGE + 1)
    queue.store(1, [b"a", b"b", b"c", b"k"], [good, bad, good, good])
    (ended,) = next_ended(queue, cache, 1)
    assert ended.statuses == [Status.ERROR] * 3 + [Status.OK], "a part of it could be done"
    queue.read(2, [b"k"], [bytearray(PAGE)])
    cache.close()
    queue.read(3, [b"k"], [bytearray(PAGE)])
    queue.drain()
    assert sorted((transfer.number, *transfer.statuses) for transfer in queue.poll()) == [(2, Status.ERROR), (3, Status.ERROR)]


def test_memory_can_be_unmapped_when_jobs_have_ended(cache: BlockingKVCache) -> None:
    """Nothing holds a part of it until the garbage collector comes by."""
    memory = mmap.mmap(-1, 8 * PAGE)
    view = memoryview(memory)
    keys = [b"%d" % number for number in range(8)]
    gc.disable()
    try:
        queue = TransferQueue(cache)
        for begin in (queue.store, queue.read, queue.read):
            begin(1, keys, [view[at : at + PAGE] for at in range(0, 8 * PAGE, PAGE)])
            (ended,) = next_ended(queue, cache, 1)
            assert ended.statuses == [Status.OK] * 8
        queue.close()
        cache.close()
        view.release()
        memory.close()
    finally:
        gc.enable()


def answers_of(lookups: BatchedLookups, cache: BlockingKVCache) -> None:
    """Wait for the answers of what was sent."""
    assert select.select([cache.event_fd("lookup")], [], [], 60)[0], "the lookup has not ended"
    lookups.poll()


def test_lookups_of_a_step(cache: BlockingKVCache) -> None:
    cache.put_from([b"there"], [page_of(b"there")])
    lookups = BatchedLookups(cache)
    for request in ("one", "two"):
        assert [lookups.ask(key, request) for key in (b"there", b"absent")] == [None, None]
    lookups.send()
    assert lookups.ask(b"later", "two") is None
    answers_of(lookups, cache)
    assert [lookups.ask(key, "one") for key in (b"there", b"absent", b"later")] == [True, False, None]
    lookups.send()
    answers_of(lookups, cache)
    assert lookups.ask(b"later", "one") is False
    assert cache.poll("lookup") == [], "all keys of a step are one lookup"


def test_an_answer_ends_with_the_requests_that_asked(cache: BlockingKVCache) -> None:
    lookups = BatchedLookups(cache)
    assert lookups.ask(b"k", "one") is None
    lookups.send()
    answers_of(lookups, cache)
    assert lookups.ask(b"k", "two") is False
    lookups.forget("one")
    assert lookups.ask(b"k", "two") is False, "another request goes on"
    lookups.forget("two")
    lookups.forget("two")
    cache.put_from([b"k"], [page_of(b"k")])
    assert lookups.ask(b"k", "three") is None
    lookups.send()
    lookups.forget("three")
    assert lookups.ask(b"k", "four") is None
    answers_of(lookups, cache)
    assert lookups.ask(b"k", "four") is None, "that was the answer of another question"
    lookups.send()
    answers_of(lookups, cache)
    assert lookups.ask(b"k", "four") is True


def test_a_page_that_could_not_be_read_is_not_there(cache: BlockingKVCache) -> None:
    cache.put_from([b"k"], [page_of(b"k")])
    lookups = BatchedLookups(cache)
    lookups.ask(b"k", "one")
    lookups.mark_missing([b"k", b"never asked"])
    lookups.send()
    assert lookups.ask(b"k", "one") is False
    lookups.forget("one")
    lookups.ask(b"k", "two")
    lookups.send()
    lookups.mark_missing([b"k"])
    answers_of(lookups, cache)
    assert lookups.ask(b"k", "two") is False
    for bad in (b"", b"k" * 5000):
        assert lookups.ask(bad, "two") is None
        lookups.send()
        assert lookups.ask(bad, "two") is False
    lookups.ask(b"other", "two")
    lookups.send()
    cache.close()
    lookups.poll()
    assert lookups.ask(b"other", "two") is False
    assert lookups.ask(b"another", "two") is None
    lookups.send()
    assert lookups.ask(b"another", "two") is False


def test_a_cluster_that_does_not_answer() -> None:
    """Jobs end within the timeout, and as nothing that could be taken for a page."""
    with (
        LocalCluster(storage=1, replicas=1, targets=1) as cluster,
        fs3.BlockingKVCache(cluster.url, namespace="n", page_bytes=PAGE, timeout=1) as cache,
    ):
        cache.put_from([b"k"], [page_of(b"k")])
        queue, lookups = TransferQueue(cache), BatchedLookups(cache)
        cluster.kill()
        for _ in range(2):
            lookups.ask(b"k", "one")
            lookups.send()
            answers_of(lookups, cache)
            assert lookups.ask(b"k", "one") is False
            lookups.forget("one")
            queue.read(1, [b"k"], [bytearray(PAGE)])
            queue.store(2, [b"j"], [page_of(b"j")])
            queue.drain()
            ended = {transfer.number: transfer.statuses for transfer in queue.poll()}
            assert set(ended) == {1, 2}
            assert not any(status.ok for statuses in ended.values() for status in statuses)
