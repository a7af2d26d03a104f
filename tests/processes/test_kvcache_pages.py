"""Pages of every length, against a real cluster: from one byte to the largest there is, in pieces and in parts, alone and by the
thousand; and their keys listed."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest

import fs3
from fs3.api.kvcache import KVCache, ListedPage, Status
from fs3.base.errors import InvalidArgument
from fs3.base.limits import page_bytes_max, page_key_bytes_max
from fs3.cli.local import LocalCluster

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

LARGEST = 300_000
LENGTHS = (1, 63, 64, 4000, 4096, 65_367, 65_472, 65_536, 131_072, 131_073, LARGEST)
"""Among them what makes a chunk of one block, of a block and a byte, and pages that end with a block."""

_AGES = ((b"old", 180), (b"recent", 20), (b"new", 45))
"""There is room for some 215. The last two kinds are fewer than a chain has room for, so none of `recent` need go."""


def page_of(key: bytes, length: int) -> bytes:
    return hashlib.shake_128(key).digest(length)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster() as local:
        yield local


@pytest.fixture(params=["auto", "grpc"])
async def cache(cluster: LocalCluster, request: pytest.FixtureRequest) -> AsyncIterator[KVCache]:
    """A namespace of this test's own."""
    async with await KVCache.open(
        cluster.url, namespace=request.node.name, page_bytes=LARGEST, replicas=2, transport=request.param, timeout=60
    ) as opened:
        yield opened


async def test_each_page_has_its_own_length(cache: KVCache) -> None:
    keys = [b"%d" % length * (1 + length % 3) for length in LENGTHS]
    pages = [page_of(key, length) for key, length in zip(keys, LENGTHS, strict=True)]
    assert await cache.put_from(keys, pages) == [Status.OK] * len(keys)
    assert await cache.put_from(keys[:2] + keys[-2:], [b"another length"] * 4) == [Status.EXISTS] * 4
    found = await cache.lookup([*keys, b"absent"])
    assert found.lengths == [*LENGTHS, 0]
    assert found.hits == len(keys)

    exact = [bytearray(length) for length in LENGTHS]
    assert await cache.get_into(keys, exact) == [Status.OK] * len(keys)
    assert list(map(bytes, exact)) == pages
    for lengths in ([-1] * len(keys), array("q", [-1] * len(keys)), np.full(len(keys), -1)):
        rooms = [bytearray(LARGEST + 5) for _ in keys]
        assert await cache.get_into(keys, rooms, lengths) == [Status.OK] * len(keys)
        assert list(lengths) == list(LENGTHS)
        assert [bytes(room[:length]) for room, length in zip(rooms, LENGTHS, strict=True)] == pages
        assert all(room[LARGEST:] == bytes(5) for room in rooms)


async def test_a_page_of_another_length_than_the_buffer_is_told(cache: KVCache) -> None:
    keys = [b"small", b"large"]
    sizes = [5000, 200_000]
    await cache.put_from(keys, [page_of(key, size) for key, size in zip(keys, sizes, strict=True)])
    for change in (-1, 1):
        rooms = [bytearray(size + change) for size in sizes]
        assert await cache.get_into(keys, rooms) == [Status.OTHER_LENGTH] * 2
    lengths = [0, 0, 0]
    rooms = [bytearray(size - 1) for size in sizes]
    statuses = await cache.get_into([*keys, b"absent"], [*rooms, bytearray(9)], lengths)
    assert statuses == [Status.OTHER_LENGTH, Status.OTHER_LENGTH, Status.MISS]
    assert lengths == [*sizes, 0]
    for bad in ((0, 0), 7, b"\0\0", [0]):
        with pytest.raises((TypeError, InvalidArgument), match="lengths"):
            await cache.get_into(keys, rooms, bad)  # type: ignore[arg-type]


async def test_parts_of_pages_of_every_length(cache: KVCache) -> None:
    keys = [b"part-%d" % length for length in LENGTHS]
    pages = [page_of(key, length) for key, length in zip(keys, LENGTHS, strict=True)]
    await cache.put_from(keys, pages)
    ranges, wanted, asked = [], [], []
    for key, page in zip(keys, pages, strict=True):
        for offset, length in ((0, 1), (len(page) - 1, 1), (len(page) // 3, max(1, len(page) // 2)), (0, len(page))):
            asked.append(key)
            ranges.append((offset, length))
            wanted.append(page[offset : offset + length])
    rooms = [bytearray(length) for _, length in ranges]
    assert await cache.get_ranges_into(asked, ranges, rooms) == [Status.OK] * len(asked)
    assert list(map(bytes, rooms)) == wanted
    behind = [(len(page), 1) for page in pages[:-1]]
    rooms = [bytearray(1) for _ in behind]
    assert await cache.get_ranges_into(keys[:-1], behind, rooms) == [Status.OTHER_LENGTH] * len(behind)
    assert await cache.get_ranges_into([b"absent"], [(0, 1)], [bytearray(1)]) == [Status.MISS]


async def test_pieces_make_one_page(cache: KVCache) -> None:
    keys = [b"k-and-v-%d" % index for index in range(3)]
    pieces = [[page_of(key + b"%d" % layer, 1000 + 4096 * layer) for layer in range(5)] for key in keys]
    assert await cache.put_from(keys, pieces) == [Status.OK] * 3
    rooms = [[bytearray(len(piece)) for piece in page] for page in pieces]
    assert await cache.get_into(keys, rooms) == [Status.OK] * 3
    assert [list(map(bytes, room)) for room in rooms] == pieces
    whole = sum(map(len, pieces[0]))
    lengths = [0] * 3
    rooms = [[bytearray(7), bytearray(whole)] for _ in keys]
    assert await cache.get_into(keys, rooms, lengths) == [Status.OK] * 3
    assert lengths == [whole] * 3
    assert [b"".join(room)[:whole] for room in rooms] == [b"".join(page) for page in pieces]
    assert await cache.get_into(keys[:1], [[bytearray(7), bytearray(9)]]) == [Status.OTHER_LENGTH]


async def test_ten_thousand_pages_some_of_them_twice(cluster: LocalCluster) -> None:
    async with await KVCache.open(cluster.url, namespace="many", page_bytes=16, replicas=1, timeout=100) as cache:
        keys = [b"%d" % (index % 9000) for index in range(10_000)]
        pages = [key[:1] * (1 + int(key) % 16) for key in keys]
        statuses = await cache.put_from(keys, pages)
        assert statuses.count(Status.OK) == 9000
        assert statuses.count(Status.EXISTS) == 1000
        found = await cache.lookup([*keys, b"absent"])
        assert (found.hits, found.lengths) == (10_000, [*map(len, pages), 0])
        rooms, lengths = [bytearray(16) for _ in keys], [0] * len(keys)
        assert await cache.get_into(keys, rooms, lengths) == [Status.OK] * len(keys)
        assert lengths == list(map(len, pages))
        assert all(room.startswith(page) for room, page in zip(rooms, pages, strict=True))

        listed: dict[bytes, int] = {}
        after = None
        while True:
            part = await cache.list(after=after, limit=700)
            assert len(part.pages) <= 700
            assert not listed.keys() & {page.key for page in part.pages}, "no page is told twice"
            listed.update(part.pages)
            after = part.after
            if after is None:
                break
        assert listed == {key: len(page) for key, page in zip(keys, pages, strict=True)}
        assert await cache.put_from([], []) == await cache.get_into([], [], []) == []


async def test_the_largest_page_with_the_longest_key(cluster: LocalCluster) -> None:
    key = b"k" * page_key_bytes_max
    page = np.frombuffer(hashlib.shake_128(key).digest(1 << 20) * 64, np.uint8)
    async with await KVCache.open(cluster.url, namespace="largest", page_bytes=page_bytes_max, replicas=1, timeout=200) as cache:
        assert await cache.put_from([key, b"s"], [page, b"s"]) == [Status.OK] * 2
        assert (await cache.lookup([key, b"s"])).lengths == [page_bytes_max, 1]
        room = np.zeros_like(page)
        assert await cache.get_into([key], [room]) == [Status.OK]
        assert (room == page).all()
        assert await cache.get_ranges_into([key], [(page_bytes_max - 3, 3)], [room[:3]]) == [Status.OK]
        assert room[:3].tobytes() == page[-3:].tobytes()
        assert sorted((await cache.list()).pages) == [(key, page_bytes_max), (b"s", 1)]
        assert await cache.remove([key]) == [Status.OK]


async def test_keys_are_listed_by_prefix(cache: KVCache) -> None:
    keys = [b"a" * (index + 1) + b"-%d" % index for index in range(300)] + [b"b" * 4000, "ü".encode()]
    await cache.put_from(keys, [key[:50] for key in keys])
    found = await cache.list(b"aaa")
    assert sorted(found.pages) == sorted(ListedPage(key, len(key[:50])) for key in keys if key.startswith(b"aaa"))
    assert (found.after, found.skipped) == (None, 0)
    assert (await cache.list("ü")).pages == [("ü".encode(), 2)]
    assert await cache.list("absent") == ([], None, 0)
    part = await cache.list(b"aaa", limit=1)
    assert len(part.pages) == 1
    rest = await cache.list(b"aaa", part.after, 8192)
    assert sorted(part.pages + rest.pages) == sorted(found.pages)
    await cache.remove([key for key in keys if key.startswith(b"aaa")])
    assert (await cache.list(b"aaa", part.after)).pages == []
    for bad in ({"limit": 0}, {"limit": 8193}, {"after": b"x"}, {"prefix": b"x" * 4097}):
        with pytest.raises(InvalidArgument, match=next(iter(bad))):
            await cache.list(**bad)  # type: ignore[arg-type]
    for wrong in ({"limit": "1"}, {"after": "x"}, {"prefix": 7}, {"prefix": None}):
        with pytest.raises(TypeError, match=next(iter(wrong))):
            await cache.list(**wrong)  # type: ignore[arg-type]


async def test_a_listing_is_no_use_of_pages(cluster: LocalCluster) -> None:
    """Those that were used longest ago go first, whatever was listed in between; and no get was counted."""
    size, old, recent, new = 1000, *([b"%s%d" % (name, i) for i in range(count)] for name, count in _AGES)
    async with await KVCache.open(
        cluster.url, namespace="listed", page_bytes=size, replicas=2, budget_bytes=210 * (size + 100)
    ) as cache:
        for keys in (old, recent):
            assert await cache.put_from(keys, [page_of(key, size) for key in keys]) == [Status.OK] * len(keys)
        assert len((await cache.list()).pages) > len(recent)
        assert await cache.put_from(new, [page_of(key, size) for key in new]) == [Status.OK] * len(new)
        assert (await cache.lookup(recent)).hits == len(recent)
        assert not all((await cache.lookup(old)).bitmap)
        assert (await cache.usage()).counters.gets == 0


def test_the_same_without_an_event_loop(cluster: LocalCluster) -> None:
    with fs3.BlockingKVCache(cluster.url, namespace="blocking pages", page_bytes=1000) as cache:
        keys = [b"one", b"two"]
        cache.wait([cache.submit_put(keys, [b"1", b"22"])])
        lengths = [0, 0]
        rooms = [bytearray(9), bytearray(9)]
        (got,) = cache.wait([cache.submit_get(keys, rooms, lengths=lengths)])
        assert (got.statuses, lengths) == ([Status.OK] * 2, [1, 2])
        assert cache.get_into(keys, rooms) == [Status.OTHER_LENGTH] * 2
        (looked,) = cache.wait([cache.submit_lookup(keys)])
        assert looked.found is not None
        assert looked.found.lengths == [1, 2]
        assert sorted(cache.list(limit=2).pages) == [(b"one", 1), (b"two", 2)]
