"""What replicas tell each other of pages, on the wire: as sent, or refused with the name of what is wrong."""

from __future__ import annotations

import pytest

from fs3.base.errors import InvalidArgument
from fs3.base.ids import CHUNK_ID_BYTES, ChainId, TargetId, page_chunk
from fs3.base.limits import touched_pages_max
from fs3.base.status import Code
from fs3.wire.pb import storage_pb2 as pb
from fs3.wire.storage_cache import (
    SharedTouches,
    share_touches_reply_to_pb,
    share_touches_request_from_pb,
    share_touches_request_to_pb,
)

CHUNKS = [page_chunk(1, bytes([number]) * 12) for number in range(3)]


def parsed(message):
    """As it arrives."""
    return type(message).FromString(message.SerializeToString())


@pytest.mark.parametrize("chunks", [[], CHUNKS[:1], CHUNKS])
@pytest.mark.parametrize("free_bytes", [0, 1, (1 << 63) - 1])
def test_touches_go_there_and_back(chunks, free_bytes):
    touches = SharedTouches(ChainId(7), TargetId(701), chunks, free_bytes)
    assert share_touches_request_from_pb(parsed(share_touches_request_to_pb(touches))) == touches


def test_more_free_bytes_than_a_field_holds_are_very_many():
    request = parsed(share_touches_request_to_pb(SharedTouches(ChainId(7), TargetId(701), [], 1 << 70)))
    assert share_touches_request_from_pb(request).free_bytes == (1 << 63) - 1


@pytest.mark.parametrize("length", [1, CHUNK_ID_BYTES - 1, CHUNK_ID_BYTES + 1, 3 * CHUNK_ID_BYTES - 1])
def test_bytes_that_are_no_whole_pages(length):
    with pytest.raises(InvalidArgument, match=f"chunks: {length} bytes") as wrong:
        share_touches_request_from_pb(pb.ShareTouchesRequest(chain=7, from_target=701, chunks=bytes(length)))
    assert wrong.value.code is Code.INVALID


def test_as_many_pages_as_may_be_and_one_more():
    most = pb.ShareTouchesRequest(chain=7, from_target=701, chunks=CHUNKS[0] * touched_pages_max)
    assert len(share_touches_request_from_pb(most).chunks) == touched_pages_max
    more = pb.ShareTouchesRequest(chain=7, from_target=701, chunks=CHUNKS[0] * (touched_pages_max + 1))
    with pytest.raises(InvalidArgument, match=f"chunks: {touched_pages_max + 1} pages, at most {touched_pages_max}"):
        share_touches_request_from_pb(more)


def test_an_empty_message_touches_nothing():
    assert share_touches_request_from_pb(pb.ShareTouchesRequest()) == SharedTouches(ChainId(0), TargetId(0), [], 0)
    assert parsed(share_touches_reply_to_pb()) == pb.ShareTouchesReply()
