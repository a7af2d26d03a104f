"""Messages about targets: what is sent arrives, and what cannot be is refused by name."""

import pytest

from fs3.base.errors import FS3Error
from fs3.base.ids import ChainId, ChunkId, TargetId
from fs3.base.limits import ios_per_read_max, list_entries_max
from fs3.base.status import Code
from fs3.model.upkeep import ChunkPage, ChunkRow, ScrubStatus, TargetSpace
from fs3.wire import storage_upkeep as upkeep
from fs3.wire.pb import storage_pb2 as pb


def key(number):
    return ChunkId(number.to_bytes(16, "big"))


def over_the_wire(message):
    return type(message).FromString(message.SerializeToString())


@pytest.mark.parametrize(
    ("after", "until", "limit"),
    [
        (None, None, 3),
        (key(1), None, 1),
        (None, key(7), 2),
        (key(3), key(9), 5),
    ],
)
def test_a_request_for_a_page_arrives_as_it_was_sent(after, until, limit):
    request = over_the_wire(upkeep.list_request_to_pb(TargetId(4), after, until, limit))
    assert upkeep.list_request_from_pb(request) == (after, until, limit)
    assert request.target_id == 4


def test_a_request_for_a_page_has_limits():
    assert upkeep.list_request_from_pb(pb.ListChunksRequest()).limit == list_entries_max
    assert upkeep.list_request_from_pb(pb.ListChunksRequest(limit=list_entries_max + 1)).limit == list_entries_max
    for name in ("after", "until"):
        with pytest.raises(FS3Error, match=f"^{name}: ") as caught:
            upkeep.list_request_from_pb(pb.ListChunksRequest(**{name: b"short"}))
        assert caught.value.code is Code.INVALID


def test_a_page_arrives_as_it_was_sent():
    rows = [ChunkRow(key(1), 3, 4, 9, 100, 77, False), ChunkRow(key(2), 0, 1, 9, 0, 0, True)]
    assert upkeep.chunk_page_from_pb(over_the_wire(upkeep.chunk_page_to_pb(rows, more=True))) == ChunkPage(rows, True)


def test_space_arrives_as_it_was_sent():
    spaces = [TargetSpace(TargetId(1), 10, 20, 3, 4), TargetSpace(TargetId(2), 0, 1 << 40)]
    reply = over_the_wire(upkeep.space_reply_to_pb(spaces, 5, 6))
    assert upkeep.space_reply_from_pb(reply) == spaces
    assert (reply.resident_bytes, reply.buffer_bytes) == (5, 6)


def test_scrubs_arrive_as_they_were_sent():
    scrubs = [
        ScrubStatus(TargetId(1), True, 5, 9, 1 << 40, 2, 3, (key(1), key(2)), 7),
        ScrubStatus(TargetId(2), False, 0, 0, 0, 0, 0, (), 0),
    ]
    assert upkeep.scrub_reply_from_pb(over_the_wire(upkeep.scrub_reply_to_pb(scrubs))) == scrubs


def test_reports_of_bad_chunks_arrive_as_they_were_sent():
    reports = [(key(1), ChainId(1)), (key(9), ChainId(7))]
    assert upkeep.report_bad_request_from_pb(over_the_wire(upkeep.report_bad_request_to_pb(reports))) == reports
    assert upkeep.report_bad_request_from_pb(pb.ReportBadRequest()) == []


@pytest.mark.parametrize("request_", [pb.ReportBadRequest(chains=[1], chunks=b"short"), pb.ReportBadRequest(chunks=key(1))])
def test_reports_that_make_no_sense_are_refused_by_name(request_):
    with pytest.raises(FS3Error, match=r"^chunks: ") as caught:
        upkeep.report_bad_request_from_pb(request_)
    assert caught.value.code is Code.INVALID


def test_reports_have_a_limit():
    count = ios_per_read_max + 1
    with pytest.raises(FS3Error, match=r"^chunks: "):
        upkeep.report_bad_request_from_pb(pb.ReportBadRequest(chains=[1] * count, chunks=bytes(16 * count)))
