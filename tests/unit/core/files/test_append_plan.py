"""Bytes behind the end of a file: which pieces, and under which names their updates travel."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs3.base.ids import ChainId, InodeId, SessionId, TableId
from fs3.base.limits import client_write_call_bytes
from fs3.core.files.append_plan import AppendPlan, append_lanes
from fs3.core.files.write_plan import WriteIO
from fs3.model.inode import AppendTurn, Inode, InodeType, Layout

KIB = 1 << 10


def file(length: int, chunk: int = 64 * KIB, stripe: int = 2, serial: int = 1, inode: int = 7) -> Inode:
    chains = tuple(ChainId(number + 1) for number in range(stripe))
    layout = Layout(TableId(1), chunk, stripe, chains)
    made = Inode(InodeId(inode), InodeType.FILE, 0, 0, 0, 1, length, 0, 0, 0, 0, 0, InodeId(0), layout)
    return msgspec.structs.replace(made, append=AppendTurn(serial, SessionId(3)))


def updates(inode: Inode, data: bytes) -> list[list[WriteIO]]:
    plan = AppendPlan(inode, len(data))
    return [plan.plan(number, at, memoryview(data)[at : at + size]) for number, at, size in plan.pieces()]


@given(st.integers(0, 300 * KIB), st.integers(1, 3000 * KIB), st.sampled_from([64 * KIB, 1024 * KIB]), st.integers(1, 3))
def test_the_pieces_are_all_of_it_in_order(start: int, length: int, chunk: int, stripe: int) -> None:
    plan = AppendPlan(file(start, chunk, stripe), length)
    end = 0
    for expected, (number, at, size) in enumerate(plan.pieces(), 1):
        assert (number, at) == (expected, end)
        assert 0 < size <= max(chunk, client_write_call_bytes)
        end = at + size
        assert end == length or (start + end) % chunk == 0
    assert end == length


def test_a_channel_has_one_update_of_a_piece_and_its_numbers_rise() -> None:
    chunks = 3 * 2 * append_lanes + 1
    last: dict[tuple[int, bytes, int], int] = {}
    pieces = updates(file(100), bytes(chunks * 64 * KIB))
    assert len(pieces) == 4
    for piece in pieces:
        channels = {(write.chain, write.tag.client, write.tag.channel): write.tag.seq for write in piece if write.tag}
        assert len(channels) == len(piece) == len({write.tag for write in piece})
        for channel, seq in channels.items():
            assert seq > last.get(channel, 0)
            last[channel] = seq
    for chain in (1, 2):
        assert len({channel for on, _, channel in last if on == chain}) == append_lanes


@pytest.mark.parametrize(("earlier", "later"), [(1, 2), (9, 10), ((1 << 38) - 2, (1 << 38) - 1)])
def test_a_later_turn_is_behind_an_earlier_one_wherever_both_write(earlier: int, later: int) -> None:
    before = {write.chunk: write.tag for piece in updates(file(100, serial=earlier), bytes(2000 * KIB)) for write in piece}
    for piece in updates(file(100, serial=later), bytes(900 * KIB)):
        for write in piece:
            old = before[write.chunk]
            assert write.tag is not None
            assert old is not None
            assert (write.tag.client, write.tag.channel) == (old.client, old.channel)
            assert write.tag.seq > old.seq


def test_other_files_have_other_names() -> None:
    names = {updates(file(0, inode=inode), b"x")[0][0].tag for inode in (7, 8, (1 << 56) - 1)}
    assert len(names) == 3
    many_turns = updates(file(0, serial=(1 << 38) + 1), b"x")[0][0].tag
    assert many_turns is not None
    assert many_turns not in names
