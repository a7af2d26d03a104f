"""Leases, pins, usage and events of a KVCache against a real cluster, for code with and without an event loop, and `fs3 kv`."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

import fs3
from fs3.api.kvcache import BlockingKVCache, BlockingLease, CacheChange, Status
from fs3.base.errors import InvalidArgument
from fs3.cli.local import LocalCluster
from fs3.cli.main import app

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

PAGE = 5000
ROOM = PAGE + 100
"""What a page takes, at the most."""
BUDGET_PAGES = 40
TOLD = [("removed", "one"), ("stored", "one")]


def page_of(key: str) -> bytes:
    return hashlib.shake_128(key.encode()).digest(PAGE)


def keys_of(name: str, count: int) -> list[str]:
    return [f"{name}-{number}" for number in range(count)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(storage=2, replicas=2, targets=1) as local:
        yield local


def open_cache(cluster: LocalCluster, name: str) -> BlockingKVCache:
    return fs3.BlockingKVCache(
        cluster.url, namespace=name, page_bytes=PAGE, budget_bytes=BUDGET_PAGES * ROOM, pin_bytes=10 * ROOM
    )


@pytest.fixture
def cache(cluster: LocalCluster, request: pytest.FixtureRequest) -> Iterator[BlockingKVCache]:
    with open_cache(cluster, request.node.name) as opened:
        yield opened


def put(cache: BlockingKVCache, keys: list[str]) -> None:
    """Store pages; the cluster may be busy evicting others."""
    for begin in range(0, len(keys), 8):
        some = keys[begin : begin + 8]
        statuses = cache.put_from(some, [page_of(key) for key in some])
        assert all(status.ok for status in statuses), statuses


def read(cache: BlockingKVCache, keys: list[str]) -> list[Status]:
    """Statuses of gets; no byte is wrong."""
    buffers = [bytearray(PAGE) for _ in keys]
    statuses = cache.get_into(keys, buffers)
    for key, buffer, status in zip(keys, buffers, statuses, strict=True):
        assert status is not Status.OK or buffer == page_of(key)
    return statuses


def churn_until_gone(cache: BlockingKVCache, keys: list[str], name: str) -> None:
    """Store others until none of these is there."""
    for number in range(40):
        if not any(cache.lookup(keys).bitmap):
            return
        put(cache, keys_of(f"{name}-{number}", BUDGET_PAGES))
    pytest.fail(f"{keys} stay")


def test_leased_pages_stay_while_others_come_and_go(cache: BlockingKVCache) -> None:
    keys = keys_of("prompt", 6)
    put(cache, keys)
    found = cache.lookup(keys, lease_ms=60_000)
    assert found.hits == 6
    assert isinstance(found.lease, BlockingLease)
    with found.lease as lease:
        assert (lease.pages, list(lease.unleased)) == (6, [])
        for number in range(4):
            put(cache, keys_of(f"other-{number}", BUDGET_PAGES))
            assert read(cache, keys) == [Status.OK] * 6
        usage = cache.usage()
        assert (usage.leases >= 1, usage.leased_pages) == (True, 6)
        assert usage.bytes <= BUDGET_PAGES * ROOM
        assert usage.counters.evicted > 0
    assert cache.usage().leases == 0
    churn_until_gone(cache, keys, "after")


def test_the_leases_of_a_worker_that_was_killed_end_by_themselves(cluster: LocalCluster, cache: BlockingKVCache) -> None:
    keys = keys_of("prompt", 6)
    put(cache, keys)
    script = (
        "import os, signal, sys, fs3\n"
        "cache = fs3.BlockingKVCache(sys.argv[1], namespace=sys.argv[2], page_bytes=int(sys.argv[3]))\n"
        "assert cache.lookup(sys.argv[4:], lease_ms=1500).lease.pages == 6\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    worker = [sys.executable, "-c", script, cluster.url, cache.name, str(PAGE), *keys]
    assert subprocess.run(worker, timeout=60, check=False).returncode == -9
    deadline = time.monotonic() + 60
    while cache.usage().leases:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    churn_until_gone(cache, keys, "after")


def test_a_job_can_lease(cache: BlockingKVCache) -> None:
    keys = keys_of("prompt", 3)
    put(cache, keys)
    (result,) = cache.wait([cache.submit_lookup(keys, lease_ms=30_000)], 30)
    assert result.found is not None
    assert isinstance(result.found.lease, BlockingLease)
    assert cache.usage().leased_pages == 3
    result.found.lease.release()
    result.found.lease.release()
    assert cache.usage().leased_pages == 0


@pytest.mark.parametrize(("lease_ms", "wrong"), [(60_001, InvalidArgument), (-1, InvalidArgument), (2.0, TypeError)])
def test_leases_that_cannot_be(cache: BlockingKVCache, lease_ms: int, wrong: type[Exception]) -> None:
    with pytest.raises(wrong, match="lease_ms"):
        cache.lookup(["key"], lease_ms=lease_ms)
    with pytest.raises(wrong, match="lease_ms"):
        cache.submit_lookup(["key"], lease_ms=lease_ms)
    assert cache.lookup(["key"]).hits == 0


def test_hard_pins_hold(cache: BlockingKVCache) -> None:
    keys = keys_of("system", 4)
    put(cache, keys)
    assert cache.pin(keys, hard=True) == [Status.OK] * 4
    for number in range(4):
        put(cache, keys_of(f"other-{number}", BUDGET_PAGES))
    assert read(cache, keys) == [Status.OK] * 4
    more = keys_of("more", 20)
    put(cache, more)
    statuses = cache.pin(more, hard=True)
    assert Status.NO_SPACE in statuses
    usage = cache.usage()
    assert usage.hard_pin_bytes <= usage.namespace.pin_bytes
    assert cache.unpin(keys) == [Status.OK] * 4
    churn_until_gone(cache, keys, "after")


def test_events_are_told_and_resumed(cluster: LocalCluster, cache: BlockingKVCache) -> None:
    events = cache.events()
    put(cache, ["one"])
    (stored,) = events.read(30)
    assert (stored.change, stored.key, stored.length) == (CacheChange.STORED, b"one", PAGE)
    token = events.token
    cache.remove(["one"])
    removed = next(events)
    assert (removed.change, removed.page_id, removed.key) == (CacheChange.REMOVED, stored.page_id, b"one")
    events.close()
    with open_cache(cluster, cache.name) as other:
        again = other.events(token)
        assert next(again).change is CacheChange.REMOVED
        assert again.read(0.1) == []
        other.clear()
        assert [next(again).change for _ in range(2)] == [CacheChange.CLEARED, CacheChange.MISSED]
        put(other, ["two"])
        assert next(again).key == b"two"
        again.close()


def test_the_commands(cluster: LocalCluster, cache: BlockingKVCache) -> None:
    put(cache, ["one", "two"])
    cache.lookup(["one", "two", "three", "four"])
    with open_cache(cluster, cache.name) as other:
        other.lookup(["two", "three"], lease_ms=1000)
    cache.usage()  # a handle that asks has told what it found

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["kv", *arguments, "--cluster", cluster.url])
        return result.exit_code, result.stdout

    code, text = run("stat", cache.name, "one", "--json")
    found = json.loads(text)
    assert (code, found["stored"], found["bytes"], len(found["copies"])) == (0, True, PAGE, 2)
    assert {copy["page"] for copy in found["copies"]} == {"stored"}
    assert run("stat", cache.name, b"one".hex(), "--hex")[1].startswith(f"stored: {PAGE} bytes")
    code, text = run("stat", cache.name, "three")
    assert (code, text.startswith("not there")) == (1, True)
    assert run("stat", cache.name, "xyz", "--hex")[0] == 2
    code, text = run("stat", cache.name, "--json")
    found = json.loads(text)["lookups"]
    assert (code, found["lookups"], found["keys_asked"], found["prefix_keys"], found["hit_rate"]) == (0, 2, 6, 3, 0.5)
    code, text = run("stat", cache.name)
    assert (code, "50.0%" in text, "1.5 of 3.0 keys of a lookup" in text) == (0, True, True)
    assert run("stat", "there is none")[0] != 0
    code, text = run("top", cache.name, "--json")
    (usage,) = json.loads(text)
    assert (code, usage["pages"], usage["counters"]["keys_asked"] >= 3) == (0, 2, True)
    events = cache.events()
    cache.remove(["one"])
    put(cache, ["one"])
    token = events.token
    events.close()
    code, text = run("events", cache.name, "--since", token, "--count", "2", "--json")
    assert (code, [(told["change"], told["key"]) for told in map(json.loads, text.splitlines())]) == (0, TOLD)
    token = json.loads(text.splitlines()[0])["token"]
    assert run("events", cache.name, "--since", token, "--count", "1") == (0, "stored   one\n")
    assert run("events", cache.name, "--since", "x")[0] != 0
    code, text = run("top")
    assert code == 0
    assert cache.name in text
    assert cache.statistics.prefix_keys == 2
