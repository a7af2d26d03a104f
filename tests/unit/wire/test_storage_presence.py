"""Questions for presence: every count of bits, and nonsense from either side."""

from __future__ import annotations

import pytest

from fs3.base.errors import FS3Error, InvalidArgument
from fs3.base.limits import keys_per_find_max
from fs3.base.status import Code
from fs3.wire.pb import storage_pb2 as pb
from fs3.wire.storage_presence import (
    ContainsColumns,
    Presence,
    contains_reply_from_pb,
    contains_reply_to_pb,
    contains_request_from_pb,
    contains_request_to_pb,
)

CHUNKS = [bytes([0x80, *[number] * 15]) for number in range(3)]
QUESTION = ContainsColumns(CHUNKS, [0, 1, 0], [11, 12], [3, 4])


def test_a_question_goes_there_and_back():
    found = contains_request_from_pb(contains_request_to_pb(QUESTION))
    assert found._replace(chunks=list(found.chunks), places=list(found.places)) == QUESTION
    assert contains_request_to_pb(QUESTION).places == bytes([0, 0, 1, 0, 0, 0])
    assert contains_request_from_pb(pb.ContainsRequest()).chunks == ()


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("chunks", {"chunks": b"".join(CHUNKS)[:-1]}),
        ("chunks", {"chunks": b"".join(CHUNKS[:2])}),
        ("places", {"places": bytes(5)}),
        ("places", {"places": bytes([2, 0]) * 3}),
        ("places", {"places": bytes(2 * (keys_per_find_max + 1))}),
        ("chains", {"chains": [1] * (keys_per_find_max + 1)}),
        ("chain_versions", {"chain_versions": [3]}),
    ],
)
def test_a_question_that_contradicts_itself_is_refused(column, change):
    message = contains_request_to_pb(QUESTION)
    for name, value in change.items():
        message.ClearField(name)
        message.MergeFrom(pb.ContainsRequest(**{name: value}))
    with pytest.raises(InvalidArgument, match=f"^{column}: "):
        contains_request_from_pb(message)


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 64, 1000])
def test_an_answer_goes_there_and_back(count):
    alike = [[4160] * count, [0] * count, [4160 if index % 3 == 0 else 0 for index in range(count)]]
    for lengths in (*alike, [index % 5 for index in range(count)]):
        message = contains_reply_to_pb(Presence(lengths, []), routing_version=5)
        assert len(message.present) == (count + 7) // 8
        assert message.routing_version == 5
        if lengths in alike:
            assert len(message.lengths) == any(lengths), "lengths that are alike are told once"
        assert contains_reply_from_pb(message, count) == Presence(lengths, [])


def test_the_first_chunk_has_the_lowest_bit():
    assert contains_reply_to_pb(Presence([9, 0, 0], [(2, Code.DIRTY)]), routing_version=1).present == b"\x01"


def test_refusals_name_their_chunks():
    message = contains_reply_to_pb(Presence([9, 0], [(1, int(Code.DIRTY))]), routing_version=1)
    assert contains_reply_from_pb(message, 2).refused == [(1, Code.DIRTY)]


@pytest.mark.parametrize(
    "message",
    [
        pb.ContainsReply(),
        pb.ContainsReply(present=b"\1\0"),
        pb.ContainsReply(present=b"\4"),
        pb.ContainsReply(present=b"\1", refused=[1]),
        pb.ContainsReply(present=b"\1", refused=[2], codes=[int(Code.DIRTY)]),
        pb.ContainsReply(present=b"\1", refused=[1], codes=[0]),
        pb.ContainsReply(present=b"\1"),
        pb.ContainsReply(present=b"\0", lengths=[1]),
        pb.ContainsReply(present=b"\1", lengths=[1, 2]),
        pb.ContainsReply(present=b"\1", lengths=[0]),
        pb.ContainsReply(present=b"\3", lengths=[1, 2, 3]),
    ],
)
def test_an_answer_about_something_else_is_nonsense(message):
    with pytest.raises(FS3Error) as caught:
        contains_reply_from_pb(message, 2)
    assert caught.value.code is Code.PROTOCOL
