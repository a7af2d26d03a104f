"""Leases, pins, usage and events on the wire: as sent, or refused with the name of what is wrong."""

from __future__ import annotations

import pytest

from fs3.base.errors import FS3Error, InvalidArgument
from fs3.base.ids import ChainId, ChunkId, page_chunk
from fs3.base.limits import keys_per_find_max, page_event_wait_ms_max, page_lease_ms_max, pin_ms_max, reported_lookups_max
from fs3.base.status import Code
from fs3.core.kvcache.events import Cursor, EventBatch, PageChange, PageEvent
from fs3.model.page_usage import CacheCounters, LookupCounters, NamespaceUsage, PinKind, UsagePage
from fs3.wire import storage_pages as wire
from fs3.wire.pb import storage_pb2 as pb
from fs3.wire.storage_presence import ContainsColumns, Presence


def page(number: int) -> ChunkId:
    return page_chunk(1, number.to_bytes(16, "little"))


COLUMNS = ContainsColumns([page(1), page(2), page(3)], [0, 1, 0], [7, 9], [1, 2])


def parsed(message):
    """As it arrives."""
    return type(message).FromString(message.SerializeToString())


def test_a_lookup_with_a_lease() -> None:
    request = parsed(wire.lease_request_to_pb(COLUMNS, 1 << 63, 2000))
    columns = wire.lease_request_from_pb(request)
    assert (request.lease_id, request.lease_ms) == (1 << 63, 2000)
    assert [list(columns.chunks), list(columns.places), list(columns.chains)] == [COLUMNS.chunks, [0, 1, 0], [7, 9]]
    answer = wire.LeaseAnswer(Presence([100, 0, 50], [(1, int(Code.NOT_HEAD))]), leased=True)
    got = wire.lease_reply_from_pb(parsed(wire.lease_reply_to_pb(answer, routing_version=3)), 3)
    assert (list(got.presence.lengths), list(got.presence.refused), got.leased) == ([100, 0, 50], [(1, Code.NOT_HEAD)], True)


@pytest.mark.parametrize("lease_ms", [0, page_lease_ms_max + 1, 0xFFFF_FFFF])
def test_a_lease_of_a_length_that_cannot_be(lease_ms: int) -> None:
    with pytest.raises(InvalidArgument, match="lease_ms"):
        wire.lease_request_from_pb(wire.lease_request_to_pb(COLUMNS, 1, lease_ms))


def test_too_many_releases() -> None:
    ids = list(range(keys_per_find_max))
    assert list(wire.release_request_from_pb(parsed(wire.release_request_to_pb(ids)))) == ids
    with pytest.raises(InvalidArgument, match="lease_ids"):
        wire.release_request_from_pb(wire.release_request_to_pb([*ids, 1]))


def test_pins() -> None:
    request = parsed(wire.pin_request_to_pb(COLUMNS, PinKind.HARD, 0))
    columns, kind = wire.pin_request_from_pb(request)
    assert (kind, len(columns.chunks)) == (PinKind.HARD, 3)
    reply = parsed(wire.pin_reply_to_pb([0, int(Code.NO_SPACE), 0], routing_version=1))
    assert list(wire.codes_from_pb(reply, 3)) == [0, Code.NO_SPACE, 0]
    with pytest.raises(FS3Error) as wrong:
        wire.codes_from_pb(reply, 2)
    assert wrong.value.code is Code.PROTOCOL


@pytest.mark.parametrize(
    ("kind", "pin_ms", "named"), [(PinKind.SOFT, 0, "pin_ms"), (PinKind.HARD, pin_ms_max + 1, "pin_ms"), (7, 1000, "kind")]
)
def test_pins_that_cannot_be(kind: PinKind, pin_ms: int, named: str) -> None:
    with pytest.raises(InvalidArgument, match=named):
        wire.pin_request_from_pb(wire.pin_request_to_pb(COLUMNS, kind, pin_ms))


def test_touches() -> None:
    assert list(wire.touch_request_from_pb(parsed(wire.touch_request_to_pb(COLUMNS))).chunks) == COLUMNS.chunks


def test_usage() -> None:
    counters, lookups = CacheCounters(lookups=4, pins_refused=9), LookupCounters(1, 9, 8, 7, 1)
    rows = [NamespaceUsage(3, 10, 1000, 1, 5, 2, 3, 300, counters, lookups), NamespaceUsage(5)]
    got = wire.usage_reply_from_pb(parsed(wire.usage_reply_to_pb(UsagePage(rows, True, [ChainId(4)]), routing_version=1)))
    assert got == UsagePage(rows, True, [ChainId(4)])
    with pytest.raises(FS3Error, match="usage"):
        wire.usage_reply_from_pb(pb.CacheUsageReply(more=True))


def test_what_lookups_found() -> None:
    most = LookupCounters(reported_lookups_max, reported_lookups_max, reported_lookups_max - 1, 7, 1)
    for found in (LookupCounters(2, 9, 8, 7, 1), LookupCounters(), most):
        request = parsed(wire.report_lookups_request_to_pb(3, found))
        assert wire.report_lookups_request_from_pb(request) == (3, found)
    assert parsed(wire.report_lookups_reply_to_pb()) == pb.ReportLookupsReply()


@pytest.mark.parametrize(
    ("namespace_id", "found", "named"),
    [
        (0, LookupCounters(), "namespace_id"),
        (1 << 31, LookupCounters(), "namespace_id"),
        (1, LookupCounters(reported_lookups_max + 1), "lookups"),
        (1, LookupCounters(1, (1 << 64) - 1), "keys_asked"),
        (1, LookupCounters(1, 8, 9), "keys_found"),
        (1, LookupCounters(1, 8, 8, 8, 1), "keys_found"),
        (1, LookupCounters(1, 8, 6, 7), "prefix_keys"),
    ],
)
def test_what_lookups_cannot_have_found(namespace_id: int, found: LookupCounters, named: str) -> None:
    with pytest.raises(InvalidArgument, match=named):
        wire.report_lookups_request_from_pb(wire.report_lookups_request_to_pb(namespace_id, found))


def test_events() -> None:
    question = wire.EventsQuestion(3, {ChainId(1): Cursor(b"epoch", 9), ChainId(2): Cursor()}, 500)
    assert wire.events_request_from_pb(parsed(wire.events_request_to_pb(question))) == question
    events = [PageEvent(PageChange.STORED, page(1), 100, b"key"), PageEvent(PageChange.EVICTED, page(2), 0, b"")]
    answers = [
        wire.ChainAnswer(Code.OK, EventBatch(events, Cursor(b"epoch", 9), missed=False)),
        wire.ChainAnswer(Code.NOT_HEAD, EventBatch([], Cursor(), missed=False)),
        wire.ChainAnswer(Code.OK, EventBatch([], Cursor(b"new", 0), missed=True)),
    ]
    reply = parsed(wire.events_reply_to_pb(answers, routing_version=1))
    assert wire.events_reply_from_pb(reply, 3) == answers
    with pytest.raises(FS3Error, match="events"):
        wire.events_reply_from_pb(reply, 2)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"namespace_id": 0}, "namespace_id"),
        ({"namespace_id": 1 << 31}, "namespace_id"),
        ({"chains": [1, 1]}, "chains"),
        ({"epochs": []}, "epochs"),
        ({"epochs": [b"x" * 65, b""]}, "epochs"),
        ({"seqs": [1]}, "epochs"),
        ({"wait_ms": page_event_wait_ms_max + 1}, "wait_ms"),
    ],
)
def test_questions_for_events_that_cannot_be(fields: dict[str, object], named: str) -> None:
    good = {"namespace_id": 3, "chains": [1, 2], "epochs": [b"", b""], "seqs": [0, 0], "wait_ms": 0}
    wire.events_request_from_pb(pb.CacheEventsRequest(**good))
    with pytest.raises(InvalidArgument, match=named):
        wire.events_request_from_pb(pb.CacheEventsRequest(**{**good, **fields}))


@pytest.mark.parametrize("fields", [{"keys": []}, {"lengths": [1, 2]}, {"chunks": bytes(15)}, {"changes": [0]}, {"changes": [9]}])
def test_answers_about_events_that_cannot_be(fields: dict[str, object]) -> None:
    good = {"changes": [1], "chunks": bytes(16), "lengths": [1], "keys": [b"k"]}
    wire.events_reply_from_pb(pb.CacheEventsReply(chains=[pb.ChainEvents(**good)]), 1)
    with pytest.raises(FS3Error) as wrong:
        wire.events_reply_from_pb(pb.CacheEventsReply(chains=[pb.ChainEvents(**{**good, **fields})]), 1)
    assert wrong.value.code is Code.PROTOCOL
