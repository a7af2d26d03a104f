"""Pushed bytes, and the updates that name them, on the wire: as sent, or refused with the name of what is wrong."""

from __future__ import annotations

import msgspec
import pytest

from fs3.base.checksum import checksums
from fs3.base.errors import InvalidArgument
from fs3.base.ids import ChainId, ChunkId, ClientId, TargetId
from fs3.base.limits import block_bytes_max
from fs3.model.chunk import Tag, Update, UpdateKind
from fs3.wire.storage import update_request_from_pb, update_request_to_pb
from fs3.wire.storage_push import Push, push_reply_to_pb, push_request_from_pb, push_request_to_pb

DATA = memoryview(bytes(100_000))
SUMS = tuple(checksums(DATA))
PUSH = Push(ChainId(7), 3, TargetId(701), 1 << 41, list(SUMS), 1 << 20)
UPDATE = Update(
    ChunkId(b"c" * 16), UpdateKind.WRITE, ChainId(7), 3, 9, 0, len(DATA), Tag(ClientId(b"k" * 16), 1, 2), SUMS,
    from_target=TargetId(701), serial=5, floor=4, push=1 << 41,
)  # fmt: skip


def parsed(message):
    """As it arrives."""
    return type(message).FromString(message.SerializeToString())


def test_a_push_goes_there_and_back():
    assert push_request_from_pb(parsed(push_request_to_pb(PUSH)), DATA) == PUSH
    assert not parsed(push_reply_to_pb()).ListFields()


@pytest.mark.parametrize(
    ("fields", "data", "said"),
    [
        ({}, None, "payload: 0 bytes"),
        ({"number": 0}, DATA, "number: 0 from target 701"),
        ({"from_target": 0}, DATA, "from target 0"),
        ({"checksums": [1]}, DATA, "checksums: 1 for 100000 bytes"),
        ({"reserve": block_bytes_max + 1}, DATA, "reserve: "),
    ],
)
def test_a_push_that_contradicts_itself_is_refused_by_name(fields, data, said):
    with pytest.raises(InvalidArgument, match=said):
        push_request_from_pb(parsed(push_request_to_pb(PUSH._replace(**fields))), data)


def test_an_update_names_its_push_and_brings_no_bytes():
    (found,) = update_request_from_pb(parsed(update_request_to_pb([UPDATE], 701)), None)
    assert found == UPDATE


def test_updates_that_were_pushed_and_others_share_a_request():
    other = msgspec.structs.replace(UPDATE, chunk=ChunkId(b"d" * 16), push=0, data=DATA, serial=6)
    found = update_request_from_pb(parsed(update_request_to_pb([UPDATE, other, UPDATE], 701)), DATA)
    assert found == [UPDATE, other, UPDATE]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda request: request.pushed.append(3), "pushed: 2 elements beside 1 chains"),
        (lambda request: request.ClearField("from_target"), "pushed: a client"),
        (lambda request: request.offsets.__setitem__(0, 1), "pushed: 100000 bytes at 1 were pushed"),
        (lambda request: request.kinds.__setitem__(0, UpdateKind.REMOVE), "pushed: the data of a REMOVE"),
    ],
)
def test_an_update_that_says_wrongly_that_it_was_pushed_is_refused_by_name(change, said):
    request = update_request_to_pb([UPDATE], 701)
    change(request)
    with pytest.raises(InvalidArgument, match=said):
        update_request_from_pb(parsed(request), None)
