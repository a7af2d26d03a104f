"""Puts and removals of KVCache pages whose answers are lost: each happens once, however often it is sent."""

import asyncio
from types import SimpleNamespace

import pytest

from fs3.api.kvcache import KVCache, Status
from fs3.base.ids import TableId
from fs3.model.cluster import CacheNamespace

PAGE = 1000
OLD, NEW = b"o" * PAGE, b"n" * PAGE


@pytest.fixture
async def made(cluster):
    made = await cluster(memory=True)
    made.manager.set_table()
    return made


@pytest.fixture
def open_cache(made):
    """A handle of a client of its own on the one namespace."""

    def open_cache():
        client = SimpleNamespace(storage=made.client(), manager=made.manager, closed=False)
        return KVCache(client, CacheNamespace(1, "pages", PAGE, 3, TableId(1)))

    return open_cache


async def get(cache):
    buffer = bytearray(PAGE)
    (status,) = await cache.get_into(["k"], [buffer])
    return bytes(buffer) if status is Status.OK else status


def from_client(request):
    return not request.from_target


async def held_retry(made, call, help):
    """Begin a call whose first answer is lost and whose retry waits; returns once it does."""
    made.network.hold("Update", from_client)
    made.network.once("break", "Update", from_client)
    begun = asyncio.ensure_future(call)
    await help.until(lambda: made.network.held)
    made.network.fault = lambda *_: None
    return begun


async def test_a_put_whose_answer_is_lost_is_not_stored_again(made, open_cache, help):
    one, other = open_cache(), open_cache()
    putting = await held_retry(made, one.put_from(["k"], [OLD]), help)
    assert await other.remove(["k"]) == [Status.OK]
    assert await get(other) is Status.MISS
    made.network.let_go()
    assert await putting == [Status.OK]
    assert await get(other) is Status.MISS


async def test_a_put_does_not_find_itself(made, open_cache):
    cache = open_cache()
    made.network.once("break", "Update", from_client)
    assert await cache.put_from(["k"], [OLD]) == [Status.OK]
    assert await cache.put_from(["k"], [NEW]) == [Status.EXISTS]


async def test_a_removal_whose_answer_is_lost_takes_nothing_more_away(made, open_cache, help):
    one, other = open_cache(), open_cache()
    assert await one.put_from(["k"], [OLD]) == [Status.OK]
    removing = await held_retry(made, one.remove(["k"]), help)
    assert await get(other) is Status.MISS
    assert await other.put_from(["k"], [NEW]) == [Status.OK]
    made.network.let_go()
    assert await removing == [Status.OK]
    assert await get(other) == NEW


async def test_a_put_that_arrives_after_its_retry_was_told_that_the_page_exists_is_dropped(made, open_cache, help):
    one, other = open_cache(), open_cache()
    assert await other.put_from(["k"], [OLD]) == [Status.OK]
    made.network.once("hold", "Update", from_client)
    putting = asyncio.ensure_future(one.put_from(["k"], [NEW]))
    await help.until(lambda: made.network.held)
    held = made.network.calls[-1]
    held.channel._expire_soon(held.future)
    assert await putting == [Status.EXISTS]
    assert await other.remove(["k"]) == [Status.OK]
    made.network.let_go()
    await help.until(lambda: held.ended)
    await made.idle()
    assert await get(other) is Status.MISS
    assert await one.put_from(["k"], [NEW]) == [Status.OK]


async def test_pages_changed_on_the_wire_are_read_again(made, open_cache):
    """Small pages are verified together, each with what is in front of it; which of them is bad is found out then."""
    cache = open_cache()
    keys = [f"k{index}" for index in range(9)]
    pages = [bytes([65 + index]) * (1 + 111 * index) for index in range(9)]
    assert await cache.put_from(keys, pages) == [Status.OK] * 9
    for rooms, lengths in (([bytearray(len(page)) for page in pages], None), ([bytearray(PAGE) for _ in pages], [0] * 9)):
        done = made.network.once("flip a bit", "Read")
        before = cache._client.storage.reads.checksum_mismatches
        assert await cache.get_into(keys, rooms, lengths) == [Status.OK] * 9
        assert done
        assert cache._client.storage.reads.checksum_mismatches == before + 1
        assert [bytes(room[: len(page)]) for room, page in zip(rooms, pages, strict=True)] == pages
