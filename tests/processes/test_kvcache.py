"""KVCache against a real cluster: one status per key, never shifted, never a wrong byte."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest

import fs3
from fs3.api.kvcache import KVCache, Status
from fs3.base.errors import FS3Error, InvalidArgument
from fs3.base.ids import ChunkId
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.cli.local import LocalCluster
from fs3.core.files.write_plan import WriteIO
from fs3.core.kvcache.pages import front, page_keys
from fs3.model.chunk import UpdateKind

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

PAGE = 100_003
"""Not a multiple of anything."""
WAIT_NS = 10 * SECOND
UNKNOWN = {Status.TIMEOUT, Status.ERROR}


def page_of(key: bytes) -> bytes:
    return hashlib.shake_128(key).digest(PAGE)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster() as local:
        yield local


@pytest.fixture
async def cache(cluster: LocalCluster, request: pytest.FixtureRequest) -> AsyncIterator[KVCache]:
    """A namespace of this test's own."""
    async with await KVCache.open(cluster.url, namespace=request.node.name, page_bytes=PAGE, replicas=2) as opened:
        yield opened


async def test_put_lookup_get_remove(cache: KVCache) -> None:
    keys = [b"key-%d" % index for index in range(40)]
    assert await cache.put_from(keys[:30], [page_of(key) for key in keys[:30]]) == [Status.OK] * 30
    found = await cache.lookup(keys)
    assert found.hits == 30
    assert found.bitmap == [True] * 30 + [False] * 10
    assert found.lengths == [PAGE] * 30 + [0] * 10
    buffers = [bytearray(PAGE) for _ in keys]
    assert await cache.get_into(keys, buffers) == [Status.OK] * 30 + [Status.MISS] * 10
    assert all(bytes(buffer) == page_of(key) for key, buffer in zip(keys[:30], buffers, strict=False))
    assert await cache.remove([keys[3], b"never"]) == [Status.OK, Status.OK]
    found = await cache.lookup(keys[:6])
    assert found[:2] == (3, [True, True, True, False, True, True])
    assert found.statuses[2:4] == [Status.OK, Status.MISS]


async def test_a_page_is_written_once(cache: KVCache) -> None:
    assert await cache.put_from([b"k"], [page_of(b"k")]) == [Status.OK]
    # A second put with the same key changes nothing, whatever it brings; nor does a repetition inside one call.
    assert await cache.put_from([b"k"], [bytes(PAGE)]) == [Status.EXISTS]
    statuses = await cache.put_from([b"twice", b"twice"], [page_of(b"twice"), bytes(PAGE)])
    assert sorted(status.value for status in statuses) == ["exists", "ok"]
    buffer = bytearray(PAGE)
    assert await cache.get_into([b"k"], [buffer]) == [Status.OK]
    assert bytes(buffer) == page_of(b"k")


async def test_statuses_are_never_shifted(cache: KVCache) -> None:
    keys = [b"%d" % index for index in range(60)]
    there = [key for index, key in enumerate(keys) if index % 3]
    await cache.put_from(there, [page_of(key) for key in there])
    buffers = [bytearray(PAGE) for _ in keys]
    statuses = await cache.get_into(keys, buffers)
    for index, (key, status, buffer) in enumerate(zip(keys, statuses, buffers, strict=True)):
        assert status is (Status.OK if index % 3 else Status.MISS)
        if status.ok:
            assert bytes(buffer) == page_of(key)


async def test_keys_are_bytes_or_text_and_buffers_are_buffers(cluster: LocalCluster, cache: KVCache) -> None:
    assert await cache.put_from(["text"], [memoryview(page_of(b"text"))]) == [Status.OK]
    larger = bytearray(PAGE + 10)
    assert await cache.get_into([b"text"], [larger]) == [Status.OK]
    assert bytes(larger[:PAGE]) == page_of(b"text")
    assert larger[PAGE:] == bytes(10)
    dates = np.frombuffer(os.urandom(PAGE // 8 * 8), "M8[ns]")
    async with await KVCache.open(cluster.url, namespace="arrays", page_bytes=dates.nbytes) as arrays:
        assert await arrays.put_from([bytearray(b"dates"), memoryview(b"again")], [dates, dates]) == [Status.OK] * 2
        found = np.zeros_like(dates)
        assert await arrays.get_into([b"dates"], [found]) == [Status.OK]
        assert (found == dates).all()
    assert await cache.put_from([], []) == []
    assert await cache.lookup([]) == (0, [], [], [], None)


@pytest.mark.parametrize(
    ("keys", "buffers", "writable", "named"),
    [
        ([b"a"], [b""], False, "buffer 0 has 0 bytes; pages here have 1 to 100003"),
        ([b"a"], [bytes(PAGE + 1)], False, "buffer 0 has 100004 bytes; pages here have 1 to 100003"),
        ([b"a", b"b"], [bytes(PAGE)], False, "2 keys and 1 buffers"),
        ([b""], [bytes(PAGE)], False, "key 0 has 0 bytes"),
        ([b"x" * 5000], [bytes(PAGE)], False, "key 0 has 5000 bytes"),
        ([b"a"], [memoryview(bytes(2 * PAGE))[::2]], False, "buffer 0 is not contiguous"),
        ([b"a"], ["text"], False, "buffer 0 is not bytes-like but str"),
        ([b"a"], [bytes(PAGE)], True, "buffer 0 is read-only"),
        ([b"a"], [bytearray()], True, "buffer 0 has 0 bytes; pages here have 1 to 100003"),
    ],
)
async def test_bad_arguments_name_what_is_wrong(
    cache: KVCache, keys: list[bytes], buffers: list[object], writable: bool, named: str
) -> None:
    call = cache.get_into if writable else cache.put_from
    with pytest.raises(InvalidArgument, match=named):
        await call(keys, buffers)


async def test_a_page_in_pieces(cache: KVCache) -> None:
    """K and V, or one buffer per layer: one key, one page."""
    page = page_of(b"pieces")
    pieces = [page[:1], page[1:60_000], b"", page[60_000:]]
    assert await cache.put_from(["pieces"], [pieces]) == [Status.OK]
    whole = bytearray(PAGE)
    apart = [bytearray(50_001), np.zeros(50_002, np.uint8)]
    assert await cache.get_into(["pieces", "pieces"], [whole, apart]) == [Status.OK] * 2
    assert bytes(whole) == b"".join(map(bytes, apart)) == page
    with pytest.raises(InvalidArgument, match="buffer 0 has 100004 bytes in 2 pieces; pages here have 1 to 100003"):
        await cache.put_from(["p"], [[bytes(100_003), bytes(1)]])
    with pytest.raises(InvalidArgument, match="buffer 0, piece 1, is read-only"):
        await cache.get_into(["p"], [[bytearray(PAGE - 1), bytes(1)]])
    with pytest.raises(InvalidArgument, match="buffer 0 has 513 pieces; at most 512"):
        await cache.put_from(["p"], [[bytes(1)] * 513])


async def test_parts_of_pages(cache: KVCache) -> None:
    keys = ["0", "1"]
    await cache.put_from(keys, [page_of(key.encode()) for key in keys])
    ranges = [(0, 1), (70_000, 30_003), (65_530, 20), (5, 5)]
    buffers: list[object] = [bytearray(1), [bytearray(3), bytearray(30_000)], bytearray(99), bytearray(5)]
    statuses = await cache.get_ranges_into(["0", "1", "0", "none"], ranges, buffers)
    assert statuses == [Status.OK, Status.OK, Status.OK, Status.MISS]
    found = [b"".join(map(bytes, each)) if isinstance(each, list) else bytes(each)[:20] for each in buffers]  # type: ignore[call-overload]
    for key, (offset, length), data in zip(b"010", ranges, found, strict=False):
        assert data == page_of(bytes([key]))[offset : offset + length]
    for bad, said in (
        ([(PAGE, 1)], "offset of range 0 100003: 0 to 100002"),
        ([(0, 0)], "length of range 0 0: 1 to"),
        ([(1, PAGE)], "length of range 0 100003: 1 to 100002"),
        ([(0, 7)], "buffer 0 has 5 bytes; its range has 7"),
    ):
        with pytest.raises(InvalidArgument, match=said):
            await cache.get_ranges_into(["0"], bad, [bytearray(5)])
    with pytest.raises(TypeError, match=r"range 0 is not \(offset, length\) but 7"):
        await cache.get_ranges_into(["0"], [7], [bytearray(5)])  # type: ignore[list-item]


async def test_a_page_that_is_there_costs_no_bytes(cache: KVCache) -> None:
    pages = [page_of(b"%d" % number) for number in range(10)]
    assert await cache.put_from([b"%d" % number for number in range(5)], pages[:5]) == [Status.OK] * 5
    sent = cache._client.storage.updates.updates
    keys = [b"%d" % number for number in range(10)]
    assert await cache.put_from(keys, pages) == [Status.EXISTS] * 5 + [Status.OK] * 5
    assert cache._client.storage.updates.updates == sent + 5


async def test_misuse_is_told(cluster: LocalCluster) -> None:
    cache = await KVCache.open(cluster.url, namespace="misuse", page_bytes=10)
    with pytest.raises(RuntimeError, match="'misuse' belongs to another event loop"):
        await asyncio.to_thread(lambda: asyncio.run(cache.lookup([b"k"])))
    await cache.close()
    for call in (cache.lookup([b"k"]), cache.put_from([b"k"], [bytes(10)]), cache.clear()):
        with pytest.raises(InvalidArgument, match="'misuse' is closed"):
            await call


async def test_a_namespace_has_one_page_size(cluster: LocalCluster) -> None:
    async with await KVCache.open(cluster.url, namespace="sized", page_bytes=4096) as first:
        assert first.replicas == 3
        with pytest.raises(FS3Error) as refused:
            await KVCache.open(cluster.url, namespace="sized", page_bytes=8192)
        assert refused.value.code is Code.NAMESPACE_DIFFERS
        assert "4096" in str(refused.value)
    with pytest.raises(InvalidArgument, match="page_bytes 0"):
        await KVCache.open(cluster.url, namespace="sized", page_bytes=0)
    with pytest.raises(InvalidArgument, match="namespace ''"):
        await KVCache.open(cluster.url, namespace="", page_bytes=1)


async def test_namespaces_do_not_share_keys(cluster: LocalCluster) -> None:
    async with (
        await KVCache.open(cluster.url, namespace="left", page_bytes=1000) as left,
        await KVCache.open(cluster.url, namespace="right", page_bytes=1000) as right,
    ):
        await left.put_from([b"k"], [b"l" * 1000])
        assert (await right.lookup([b"k"])).hits == 0


async def test_another_keys_page_is_a_miss(cache: KVCache) -> None:
    """Were two keys to share a chunk id, what is in front of the page would tell them apart."""
    client = cache._client
    mine, other, unlike, cut = page_keys(cache.namespace_id, cache.salt, [b"mine", b"other", b"unlike", b"cut"])
    page = page_of(b"other")
    # Under this key's chunk: the other key's page with all that belongs to it, something else, and a page that ends too early.
    planted = {mine: front(other, PAGE) + page, unlike: os.urandom(68) + page, cut: front(cut, PAGE) + page[:-1]}
    for key, stored in planted.items():
        chain = cache._get_placement().chain(ChunkId(key.chunk))
        await client.storage.update([WriteIO(key.chunk, chain, UpdateKind.PUT, 0, memoryview(stored))])
    lengths = [7] * 3
    keys, rooms = [key.key for key in planted], [bytearray(PAGE) for _ in planted]
    assert await cache.get_into(keys, rooms) == [Status.MISS] * 3
    assert await cache.get_into(keys, rooms, lengths) == [Status.MISS] * 3
    assert lengths == [0] * 3
    assert await cache.get_ranges_into(keys[:2], [(10, 10)] * 2, rooms[:2]) == [Status.MISS] * 2
    assert await cache.list() == ([], None, 3)


async def test_everything_survives_a_restart(cluster: LocalCluster, tmp_path: Path) -> None:
    async with await KVCache.open(cluster.url, namespace="restart", page_bytes=PAGE, replicas=2) as cache:
        assert await cache.put_from([b"k"], [page_of(b"k")]) == [Status.OK]
    await asyncio.to_thread(cluster.stop)
    await asyncio.to_thread(cluster.start)
    async with await fs3.connect(cluster.url) as client:
        cache = await KVCache.of(client, namespace="restart", page_bytes=PAGE, replicas=2)
        buffer = bytearray(PAGE)
        assert await cache.get_into([b"k"], [buffer]) == [Status.OK]
        assert bytes(buffer) == page_of(b"k")


async def test_nodes_that_do_not_answer_are_clean_misses(cluster: LocalCluster) -> None:
    """Storage gone: every call answers within its timeout, with a status for each key and no hit."""
    async with await KVCache.open(cluster.url, namespace="gone", page_bytes=1000, timeout=1.0) as cache:
        assert await cache.put_from([b"k"], [bytes(1000)]) == [Status.OK]
        await asyncio.to_thread(cluster.kill, "storage-1", "storage-2", "storage-3")
        try:
            found = await cache.lookup([b"k", b"l"])
            assert found.hits == 0
            assert set(found.statuses) <= UNKNOWN, "not known is not absent"
            # What asks for a whole chain is an error within the timeout, and not a gap.
            with pytest.raises(OSError, match="does not list its chunks"):
                await cache.list()
            # From now on a call costs nothing: what did not answer is left out.
            for _ in range(1000):
                assert await cache.get_into([b"k", b"l"], [bytearray(1000), bytearray(1000)]) == [Status.ERROR] * 2
                assert await cache.put_from([b"k"], [bytes(1000)]) == [Status.ERROR]
        finally:
            await asyncio.to_thread(cluster.start)
        async with asyncio.timeout(60):
            while (status := (await cache.get_into([b"k"], [bytearray(1000)]))[0]) in UNKNOWN:
                pass
        assert status is Status.OK


def test_a_cluster_that_is_all_gone_costs_no_call_more_than_its_timeout() -> None:
    """Of what the manager is asked, too; each call of its own, since the first one may wait."""

    async def use(doomed: LocalCluster) -> None:
        cache = await KVCache.open(doomed.url, namespace="gone", page_bytes=1000, timeout=1.0)
        await asyncio.to_thread(doomed.kill)
        async with asyncio.timeout(60):
            for call in (cache.usage, cache.clear, cache.list):
                with pytest.raises(FS3Error):
                    await call()
            found = await cache.lookup([b"k"], lease_ms=1000)
            assert (found.hits, set(found.statuses) <= UNKNOWN) == (0, True)
            for answer in (cache.touch([b"k"]), cache.pin([b"k"]), cache.remove([b"k"]), cache.put_from([b"k"], [b"p"])):
                assert set(await answer) <= UNKNOWN
            await cache.close()

    with LocalCluster(storage=1, replicas=1, targets=1) as doomed:
        asyncio.run(use(doomed))


WITHOUT_GRPC = """
import asyncio, sys
from fs3.api.kvcache import KVCache

async def main():
    async with await KVCache.open(sys.argv[1], namespace="bytes", page_bytes=100_000) as cache:
        room = bytearray(100_000)
        assert (await cache.put_from(["k"], [bytes(100_000)]))[0].ok
        assert (await cache.get_into(["k"], [room]))[0].ok
        assert (await cache.lookup(["k"])).hits == 1
    loaded = sorted(name for name in sys.modules if name.split(".")[0] == "grpc" or name.startswith("fs3.services."))
    assert not loaded, loaded

asyncio.run(main())
"""


def test_pages_do_not_go_over_grpc(cluster: LocalCluster) -> None:
    """Whose calls hold the interpreter while bytes are copied: a process that puts and gets pages does not even load it."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_GRPC, cluster.url], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


MANY_PAGES = """
import asyncio, os, sys
from fs3.api.kvcache.cache import KVCache

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

async def main():
    size = 1 << 20
    page, room = os.urandom(size), bytearray(size)
    async with await KVCache.open(sys.argv[1], namespace="many at once", page_bytes=size, replicas=1) as cache:
        batches = [[f"{batch}-{number}" for number in range(4)] for batch in range(24)]
        await cache.put_from(["first"], [page])
        before = resident()
        put = await asyncio.gather(*(cache.put_from(keys, [page] * 4) for keys in batches))
        got = await asyncio.gather(*(cache.get_into(keys, [room] * 4) for keys in batches))
        assert all(status.ok for answer in put + got for status in answer), (put, got)
        assert room == page
        print(resident() - before)
        await KVCache.delete_namespace(cache._client, "many at once")

asyncio.run(main())
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_many_pages_under_way_take_no_memory_beside_the_callers(cluster: LocalCluster) -> None:
    """96 MiB of pages each way, all at once, out of and into one buffer: they are sent from it, and received in it."""
    done = subprocess.run([sys.executable, "-c", MANY_PAGES, cluster.url], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 24 * 2**20
