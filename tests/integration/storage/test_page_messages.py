"""Messages about pages to real services: what others of the chain have read, usage and events, and nonsense instead."""

from __future__ import annotations

import asyncio

import pytest

from fs3.base.errors import FS3Error
from fs3.base.ids import ChainId, TargetId, page_chunk
from fs3.base.limits import keys_per_find_max, page_event_wait_ms_max, touched_pages_max
from fs3.base.status import Code
from fs3.core.kvcache.events import Cursor
from fs3.services.storage.cache import event_feed
from fs3.wire import storage_pages as wire
from fs3.wire.storage_cache import SharedTouches, share_touches_request_to_pb
from fs3.wire.storage_presence import ContainsColumns

CHAIN = ChainId(1)
HEAD, BODY = 1, 2
"""Nodes of the chain's first two targets."""
PAGES = [page_chunk(1, bytes([number]) * 12) for number in range(3)]


@pytest.fixture
async def made(cluster):
    return await cluster(memory=True, chains=1)


@pytest.fixture
def ask(made, help):
    """Call a node as anybody may."""

    async def ask(node, name, request):
        method = getattr(help.STORAGE, name)
        return (await made.network.connect(f"fake://{node}").call(method, request)).message

    return ask


@pytest.fixture
def keeper(made):
    """The head's, which knows three pages, the first of them the oldest."""
    keeper = made.shell(1, HEAD).cache
    for chunk in PAGES:
        keeper.cache.on_commit(chunk, 100, keeper.shell._clock.now())
    return keeper


def oldest(keeper):
    return keeper.cache.namespaces[1].recency.victim(keeper.shell._clock.now(), lambda chunk: False)


def events_question(*, wait_ms=0, epoch=b"", seq=0, chain=CHAIN):
    return wire.events_request_to_pb(wire.EventsQuestion(1, {chain: Cursor(epoch, seq)}, wait_ms))


async def test_what_a_replica_has_read_counts_at_the_head(made, ask, keeper):
    touches = SharedTouches(CHAIN, made.shell(1, BODY).target, PAGES[:2], 1 << 40)
    await ask(HEAD, "ShareTouches", share_touches_request_to_pb(touches))
    assert oldest(keeper) == PAGES[2]


@pytest.mark.parametrize(("chain", "target"), [(1, 999), (1, 0), (77, 102), (0, 0)])
async def test_what_a_stranger_has_read_counts_nowhere(ask, keeper, chain, target):
    touches = SharedTouches(ChainId(chain), TargetId(target), PAGES[:2], 0)
    await ask(HEAD, "ShareTouches", share_touches_request_to_pb(touches))
    assert keeper._space._peer_free == {}
    assert oldest(keeper) == PAGES[0]


async def test_touches_of_what_is_no_page_here_are_passed_over(made, ask, keeper, help):
    chunks = [help.chunk(5), page_chunk(99, bytes(12)), PAGES[0]]
    touches = SharedTouches(CHAIN, made.shell(1, BODY).target, chunks, 1 << 40)
    await ask(HEAD, "ShareTouches", share_touches_request_to_pb(touches))
    assert set(keeper.cache.namespaces) == {1}
    assert oldest(keeper) == PAGES[1]


def malformed_messages(pb):
    page = PAGES[0]
    columns = {"chunks": page, "places": bytes(2), "chains": [1], "chain_versions": [1]}
    return [
        ("ShareTouches", "chunks", pb.ShareTouchesRequest(chain=1, from_target=102, chunks=b"short")),
        ("ShareTouches", "chunks", pb.ShareTouchesRequest(chain=1, from_target=102, chunks=page * (touched_pages_max + 1))),
        ("TouchPages", "chunks", pb.TouchPagesRequest(pages=pb.ContainsRequest(**{**columns, "chunks": page[:-1]}))),
        ("TouchPages", "places", pb.TouchPagesRequest(pages=pb.ContainsRequest(**{**columns, "places": b"\7\0"}))),
        ("Pin", "kind", pb.PinRequest(pages=pb.ContainsRequest(**columns), kind=9, pin_ms=5)),
        ("Lease", "lease_ms", pb.LeaseRequest(pages=pb.ContainsRequest(**columns))),
        ("Release", "lease_ids", pb.ReleaseRequest(lease_ids=[1] * (keys_per_find_max + 1))),
        ("ReportLookups", "namespace_id", pb.ReportLookupsRequest()),
        ("ReportLookups", "prefix_keys", pb.ReportLookupsRequest(namespace_id=1, lookups=pb.LookupCounters(prefix_keys=1))),
        ("CacheEvents", "namespace_id", pb.CacheEventsRequest()),
        ("CacheEvents", "epochs", pb.CacheEventsRequest(namespace_id=1, chains=[1], seqs=[0])),
    ]


async def test_malformed_messages_are_refused_by_name(made, ask, help):
    for name, field, request in malformed_messages(help.pb):
        with pytest.raises(FS3Error, match=f"{field}: ") as wrong:
            await ask(HEAD, name, request)
        assert wrong.value.code is Code.INVALID, name
    made.assert_clean()


async def test_only_the_head_of_a_chain_tells_events_and_usage(ask, keeper):
    answers = wire.events_reply_from_pb(await ask(BODY, "CacheEvents", events_question(wait_ms=1000)), 1)
    assert answers[0].code is Code.NOT_HEAD
    answers = wire.events_reply_from_pb(await ask(HEAD, "CacheEvents", events_question(chain=ChainId(77), wait_ms=1000)), 1)
    assert answers[0].code is Code.NO_SUCH_TARGET
    rows = {
        node: wire.usage_reply_from_pb(await ask(node, "CacheUsage", wire.usage_request_to_pb(1, 0))) for node in (HEAD, BODY)
    }
    assert (rows[HEAD].heads, rows[BODY].heads) == ([CHAIN], [])
    assert (rows[HEAD].namespaces[0].pages, rows[BODY].namespaces[0].pages) == (3, 0)


async def test_pages_are_touched_at_the_head_alone(made, ask, keeper):
    columns = ContainsColumns([PAGES[0]], [0], [1], [made.manager.routing.chains[CHAIN].version])
    for node, code in ((BODY, Code.NOT_HEAD), (HEAD, Code.NOT_FOUND)):
        reply = await ask(node, "TouchPages", wire.touch_request_to_pb(columns))
        assert list(wire.codes_from_pb(reply, 1)) == [code]


async def test_a_listener_that_waits_is_answered_when_the_feed_ends(made, ask):
    first = wire.events_reply_from_pb(await ask(HEAD, "CacheEvents", events_question()), 1)[0].batch.next
    feed = made.services[HEAD]._event_feed
    waiting = asyncio.ensure_future(
        ask(HEAD, "CacheEvents", events_question(wait_ms=page_event_wait_ms_max, epoch=first.epoch, seq=first.seq))
    )
    await made.until(lambda: feed.waiting == 1)
    feed.stop()
    (answer,) = wire.events_reply_from_pb(await waiting, 1)
    assert (answer.code, answer.batch.events, feed.waiting) == (Code.OK, [], 0)


async def test_a_listener_beyond_those_that_may_wait_is_answered_at_once(made, ask, monkeypatch):
    monkeypatch.setattr(event_feed, "page_event_waiters_max", 0)
    first = wire.events_reply_from_pb(await ask(HEAD, "CacheEvents", events_question()), 1)[0].batch.next
    question = events_question(wait_ms=page_event_wait_ms_max, epoch=first.epoch, seq=first.seq)
    (answer,) = wire.events_reply_from_pb(await ask(HEAD, "CacheEvents", question), 1)
    assert (answer.code, answer.batch.events) == (Code.OK, [])
    assert made.services[HEAD]._event_feed.waiting == 0
