"""Where blocks are, on the wire: as sent, or refused with the name of what is wrong."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fs3.base.checksum import PIECE_BYTES
from fs3.base.errors import FS3Error, InvalidArgument
from fs3.base.ids import ChainId, ChunkId
from fs3.base.limits import block_bytes_max, blocks_per_locate_max
from fs3.base.status import Code
from fs3.core.craq.change_board import BOARD_WORDS, TARGETS_MAX, OwnerMark, ToldEpoch, is_row, is_slot
from fs3.wire import storage_locate
from fs3.wire.pb import storage_pb2 as pb
from fs3.wire.storage_locate import (
    LocateColumns,
    Located,
    LocatedBlock,
    LocatedTarget,
    locate_reply_from_pb,
    locate_reply_to_pb,
    locate_request_from_pb,
    locate_request_to_pb,
)

ASKED = [(ChunkId(bytes([number]) * 16), ChainId(number), number + 10) for number in range(1, 4)]
FIRST_SLOT = 8 + 2 * TARGETS_MAX
TARGET = LocatedTarget(ToldEpoch(8, (1 << 64) - 1), OwnerMark("/data/1/owner", b"12 abc\n"))
SUMS = array("q", [1, (1 << 32) - 1, -1])
BLOCK = LocatedBlock(0, FIRST_SLOT, 7, "/data/1/blocks", (1 << 63) - 1, 2 * PIECE_BYTES + 1, 3, SUMS)
LOCATED = Located("/proc/12/fd/7", (1 << 64) - 1, 4026531834, [TARGET], [BLOCK, Code.DIRTY, Code.NOT_FOUND])


def parsed(message: Any) -> Any:
    """As it arrives."""
    return type(message).FromString(message.SerializeToString())


def test_a_request_goes_there_and_back() -> None:
    found = locate_request_from_pb(parsed(locate_request_to_pb(ASKED)))
    assert isinstance(found, LocateColumns)
    assert [tuple(row) for row in zip(*found, strict=True)] == [(bytes(chunk), chain, version) for chunk, chain, version in ASKED]
    most = [(ChunkId(number.to_bytes(16, "big")), ChainId(1), 1) for number in range(blocks_per_locate_max)]
    assert len(locate_request_from_pb(parsed(locate_request_to_pb(most))).chunks) == blocks_per_locate_max


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda request: request.chains.append(3), "chain_versions: 3 elements beside 4 chains"),
        (lambda request: request.chain_versions.append(3), "chain_versions: 4 elements beside 3 chains"),
        (lambda request: setattr(request, "chunks", b"x" * 47), "chunks: "),
        (lambda request: request.ClearField("chunks"), "chunks: "),
        (lambda request: request.chains.extend([1] * 30), "chains: 33 elements, at most 32 are allowed"),
    ],
)
def test_a_request_that_contradicts_itself_is_refused_by_name(change: Callable[[Any], None], said: str) -> None:
    request = locate_request_to_pb(ASKED)
    change(request)
    with pytest.raises(InvalidArgument, match=said):
        locate_request_from_pb(parsed(request))


def test_an_answer_goes_there_and_back() -> None:
    message = parsed(locate_reply_to_pb(LOCATED, routing_version=9))
    assert message.routing_version == 9
    assert locate_reply_from_pb(message, 3) == LOCATED


def test_an_answer_may_tell_of_nothing() -> None:
    nothing = Located("", 0, 0, [], [Code.BUSY])
    assert locate_reply_from_pb(parsed(locate_reply_to_pb(nothing, routing_version=0)), 1) == nothing


def test_sums_are_little_endian_on_the_wire(monkeypatch: pytest.MonkeyPatch) -> None:
    (message, *_) = locate_reply_to_pb(LOCATED, routing_version=0).blocks
    assert message.sums == b"\1\0\0\0" + b"\xff" * 4 + bytes(4)
    assert list(message.unknown) == [2]
    monkeypatch.setattr(storage_locate.sys, "byteorder", "big")
    swapped = BLOCK._replace(sums=array("q", [1 << 24, (1 << 32) - 1, 0]))
    reply = locate_reply_to_pb(LOCATED._replace(blocks=[swapped]), routing_version=0)
    assert reply.blocks[0].sums == message.sums
    assert locate_reply_from_pb(reply, 1).blocks == [swapped]
    assert swapped.sums[0] == 1 << 24, "what was given is as it was"


def test_a_code_of_a_later_release_is_a_refusal() -> None:
    reply = pb.LocateBlocksReply(blocks=[pb.LocatedBlock(code=60_000)])
    assert locate_reply_from_pb(reply, 1).blocks == [Code.INTERNAL]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda reply: reply.blocks.pop(), "3 blocks were asked for, 2 of 1 targets"),
        (lambda reply: reply.blocks.add(), "3 blocks were asked for, 4 of 1 targets"),
        (lambda reply: [reply.targets.add() for _ in range(3)], "3 of 4 targets"),
        (lambda reply: setattr(reply, "board", "proc/12/fd/7"), "'proc/12/fd/7' is no absolute path"),
        (lambda reply: setattr(reply, "board", ""), "'' is no absolute path"),
        (lambda reply: setattr(reply, "board", "/a\0b"), "no absolute path"),
        (lambda reply: setattr(reply, "board", "/" * 4097), "no absolute path"),
        (lambda reply: setattr(reply.targets[0], "row", 7), "word 7 of a board"),
        (lambda reply: setattr(reply.targets[0], "row", 9), "word 9 of a board"),
        (lambda reply: setattr(reply.targets[0], "row", FIRST_SLOT), f"word {FIRST_SLOT} of a board"),
        (lambda reply: setattr(reply.targets[0], "mark", b""), "a mark of 0 bytes"),
        (lambda reply: setattr(reply.targets[0], "mark", b"x" * 65), "a mark of 65 bytes"),
        (lambda reply: setattr(reply.targets[0], "mark_path", "owner"), "'owner' is no absolute path"),
        (lambda reply: setattr(reply.blocks[0], "target", 1), "of target 1"),
        (lambda reply: setattr(reply.blocks[0], "slot", FIRST_SLOT - 1), f"slot {FIRST_SLOT - 1}"),
        (lambda reply: setattr(reply.blocks[0], "slot", BOARD_WORDS), f"slot {BOARD_WORDS}"),
        (lambda reply: setattr(reply.blocks[0], "length", 0), "a block of 0 bytes"),
        (lambda reply: setattr(reply.blocks[0], "length", block_bytes_max + 1), f"a block of {block_bytes_max + 1} bytes"),
        (lambda reply: setattr(reply.blocks[0], "length", 2 * PIECE_BYTES), "12 bytes of sums for a block of 8192"),
        (lambda reply: setattr(reply.blocks[0], "offset", 1 << 63), f"at {1 << 63}"),
        (lambda reply: setattr(reply.blocks[0], "sums", b"x" * 11), "11 bytes of sums"),
        (lambda reply: reply.blocks[0].unknown.append(3), "piece 3 of a block of 8193 bytes"),
        (lambda reply: setattr(reply.blocks[0], "path", "blocks"), "'blocks' is no absolute path"),
        (lambda reply: reply.ClearField("targets"), "of target 0"),
    ],
)
def test_an_answer_that_makes_no_sense_is_refused_by_name(change: Callable[[Any], None], said: str) -> None:
    reply = locate_reply_to_pb(LOCATED, routing_version=9)
    change(reply)
    with pytest.raises(FS3Error, match=said) as refused:
        locate_reply_from_pb(parsed(reply), 3)
    assert refused.value.code is Code.PROTOCOL


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_whatever_an_answer_says_nothing_is_looked_for_beside_the_board(data: st.DataObject) -> None:
    """Fields of an answer are replaced at random: it is refused, or everything in it can be looked at."""
    reply = locate_reply_to_pb(LOCATED, routing_version=9)
    for message in (reply, reply.targets[0], reply.blocks[0]):
        for field in message.DESCRIPTOR.fields:
            if field.message_type is not None or field.name == "unknown" or data.draw(st.integers(0, 3)):
                continue
            numbers = {field.TYPE_UINT32: 32, field.TYPE_UINT64: 64, field.TYPE_FIXED64: 64}
            if field.type in numbers:
                value: object = data.draw(st.integers(0, (1 << numbers[field.type]) - 1) | st.integers(0, 3000))
            else:
                value = data.draw(st.text(max_size=5) if field.type == field.TYPE_STRING else st.binary(max_size=80))
            setattr(message, field.name, value)
    reply.blocks[0].unknown.extend(data.draw(st.lists(st.integers(0, 4), max_size=2)))
    found = None
    with suppress(FS3Error):
        found = locate_reply_from_pb(parsed(reply), 3)
    if found is None:
        return
    for target in found.targets:
        assert is_row(target.gate.row)
        assert target.mark.content
    for block in found.blocks:
        if isinstance(block, LocatedBlock):
            assert is_slot(block.slot)
            assert block.target < len(found.targets)
            assert len(block.sums) == -(-block.length // PIECE_BYTES) > 0
            assert block.offset < 1 << 63
