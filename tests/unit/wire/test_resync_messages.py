"""Messages of a resync: what is sent arrives, and what cannot be is refused by name."""

import pytest

from fs3.base.errors import FS3Error
from fs3.base.ids import ChainId, ChunkId, ClientId, TargetId
from fs3.base.limits import channel_rows_per_merge_max, list_entries_max, resync_range_chunks, resync_ranges_per_request_max
from fs3.base.status import Code
from fs3.core.craq.resync.rows import RangeDigest, RangeState, RemoteRow
from fs3.core.craq.resync.steps import ResyncPeer
from fs3.model.chunk import ChannelRow, UpdateResult
from fs3.wire.pb import storage_pb2 as pb
from fs3.wire.resync import (
    answer_from_pb,
    answer_to_pb,
    compare_reply_from_pb,
    compare_reply_to_pb,
    compare_request_from_pb,
    compare_request_to_pb,
    fence_from_pb,
    fence_to_pb,
    finish_reply_to_pb,
    finish_request_to_pb,
    list_reply_from_pb,
    list_reply_to_pb,
    list_request_from_pb,
    list_request_to_pb,
    merge_reply_to_pb,
    merge_request_from_pb,
    merge_request_to_pb,
)

PEER = ResyncPeer(ChainId(3), 7, TargetId(11), TargetId(12), 1 << 45)


def key(number):
    return ChunkId(number.to_bytes(16, "big"))


def over_the_wire(message):
    return type(message).FromString(message.SerializeToString())


def test_a_fence_names_everything():
    fence = fence_from_pb(over_the_wire(fence_to_pb(PEER)))
    assert fence == (3, 7, 11, 1 << 45)


@pytest.mark.parametrize("missing", ["chain", "chain_version", "from_target"])
def test_a_fence_without_one_of_them_is_refused(missing):
    message = fence_to_pb(PEER)
    message.ClearField(missing)
    with pytest.raises(FS3Error, match="fence") as caught:
        fence_from_pb(message)
    assert caught.value.code is Code.INVALID


def test_an_answer_names_the_replica():
    assert answer_from_pb(over_the_wire(answer_to_pb(Code.WRONG_CHAIN_VERSION, 1 << 44))) == (Code.WRONG_CHAIN_VERSION, 1 << 44)


@pytest.mark.parametrize("last_end", [b"", key(1 << 100)])
def test_ranges_arrive_as_they_were_sent(last_end):
    ranges = [
        RangeDigest(b"", key(5), 4, (1 << 64) - 1),
        RangeDigest(key(5), key(900), 0, 0),
        RangeDigest(key(900), last_end, 128, 9),
    ]
    parsed = compare_request_from_pb(over_the_wire(compare_request_to_pb(PEER, ranges)))
    assert parsed == [RangeDigest(bytes(16), key(5), 4, (1 << 64) - 1), *ranges[1:]]


def test_no_ranges_are_no_ranges():
    assert compare_request_from_pb(over_the_wire(compare_request_to_pb(PEER, []))) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"counts": [1]}, "sums"),
        ({"counts": [1] * (resync_ranges_per_request_max + 1)}, "counts"),
        ({"counts": [resync_range_chunks + 1], "sums": [1], "begins": key(1), "ends": key(2)}, "counts"),
        ({"counts": [1], "sums": [1], "begins": b"short", "ends": key(2)}, "begins"),
        ({"counts": [1, 1], "sums": [1, 1], "begins": key(1) + key(2), "ends": b""}, "ends"),
        ({"counts": [1], "sums": [1], "begins": key(2), "ends": key(2)}, "ends"),
    ],
)
def test_ranges_that_make_no_sense_are_refused_by_name(change, said):
    with pytest.raises(FS3Error, match=f"^{said}: ") as caught:
        compare_request_from_pb(pb.CompareRangesRequest(fence=fence_to_pb(PEER), **change))
    assert caught.value.code is Code.INVALID


def test_the_states_of_ranges():
    reply = pb.CompareRangesReply(states=[0, 1, 2])
    assert compare_reply_from_pb(over_the_wire(reply), 3) == (RangeState.EQUAL, RangeState.DIFFERS, RangeState.EMPTY)
    for states in ([0, 1], [0, 1, 9]):
        with pytest.raises(FS3Error) as caught:
            compare_reply_from_pb(pb.CompareRangesReply(states=states), 3)
        assert caught.value.code is Code.PROTOCOL


def test_states_arrive_as_they_were_sent_with_who_says_so():
    reply = over_the_wire(compare_reply_to_pb((RangeState.DIFFERS, RangeState.EMPTY), Code.OK, 5))
    assert compare_reply_from_pb(reply, 2) == (RangeState.DIFFERS, RangeState.EMPTY)
    assert answer_from_pb(reply.answer) == (Code.OK, 5)


@pytest.mark.parametrize("begin", [b"", key(1), key(1 << 100)])
def test_a_request_for_rows_arrives_as_it_was_sent(begin):
    request = over_the_wire(list_request_to_pb(PEER, begin, key(1 << 101), 7))
    assert list_request_from_pb(request) == (begin, key(1 << 101), 7)
    assert fence_from_pb(request.fence) == (3, 7, 11, 1 << 45)


def test_a_request_for_rows_has_limits():
    assert list_request_from_pb(pb.ListChunksRequest()).limit == list_entries_max
    assert list_request_from_pb(pb.ListChunksRequest(limit=list_entries_max + 1)).limit == list_entries_max
    for name in ("after", "until"):
        with pytest.raises(FS3Error, match=f"^{name}: ") as caught:
            list_request_from_pb(pb.ListChunksRequest(**{name: b"short"}))
        assert caught.value.code is Code.INVALID


def test_rows_arrive_as_they_were_sent():
    rows = (RemoteRow(key(1), 3, 0, 10, 99), RemoteRow(key(4), 0, 1, 0, 0, True))
    reply = over_the_wire(list_reply_to_pb(rows, True, Code.OK, 9))
    assert list_reply_from_pb(reply) == rows
    assert reply.more
    assert answer_from_pb(reply.answer) == (Code.OK, 9)


@pytest.mark.parametrize("reply", [merge_reply_to_pb, finish_reply_to_pb])
def test_short_answers_name_the_replica_too(reply):
    assert answer_from_pb(over_the_wire(reply(Code.NOT_SERVING, 8)).answer) == (Code.NOT_SERVING, 8)


def test_the_end_is_said_under_the_fence():
    assert fence_from_pb(over_the_wire(finish_request_to_pb(PEER)).fence) == (3, 7, 11, 1 << 45)


def test_rows_arrive_in_order():
    infos = [
        pb.ChunkInfo(chunk=key(1), committed_version=3, length=10, checksum=99),
        pb.ChunkInfo(chunk=key(4), pending_version=1, bad=True),
    ]
    rows = list_reply_from_pb(over_the_wire(pb.ListChunksReply(chunks=infos)))
    assert rows == (RemoteRow(key(1), 3, 0, 10, 99), RemoteRow(key(4), 0, 1, 0, 0, True))
    for wrong in ([infos[1], infos[0]], [infos[0], infos[0]], [pb.ChunkInfo(chunk=b"short")]):
        with pytest.raises(FS3Error, match="list of chunks") as caught:
            list_reply_from_pb(pb.ListChunksReply(chunks=wrong))
        assert caught.value.code is Code.PROTOCOL


def test_channel_rows_arrive_as_they_were_sent():
    rows = [
        (
            (ClientId(bytes([number]) * 16), number),
            ChannelRow(number + 5, key(number), UpdateResult(Code.OK, number, 70, 1 << 31)),
        )
        for number in range(1, 4)
    ]
    assert merge_request_from_pb(over_the_wire(merge_request_to_pb(PEER, rows))) == rows
    assert merge_request_from_pb(over_the_wire(merge_request_to_pb(PEER, []))) == []


@pytest.mark.parametrize("column", ["client_ids", "seqs", "chunks", "codes", "versions", "lengths", "checksums"])
def test_channel_rows_with_a_short_column_are_refused_by_name(column):
    row = ((ClientId(b"c" * 16), 1), ChannelRow(2, key(3), UpdateResult(Code.OK, 1, 2, 3)))
    message = merge_request_to_pb(PEER, [row])
    message.ClearField(column)
    with pytest.raises(FS3Error, match=f"^{column}: ") as caught:
        merge_request_from_pb(message)
    assert caught.value.code is Code.INVALID


def test_too_many_channel_rows_are_refused():
    with pytest.raises(FS3Error, match=r"^channels: "):
        merge_request_from_pb(pb.MergeChannelsRequest(channels=[1] * (channel_rows_per_merge_max + 1)))
