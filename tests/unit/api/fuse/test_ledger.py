"""What one process of a mount writes down, as the next one reads it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest

from fs3.api.fuse.ledger import HandleRecord, MountLedger, OpenFlags, OpenRecord, requests_remembered_max
from fs3.api.locks import LockPlace
from fs3.base.ids import ClientId, InodeId, SessionId
from fs3.drivers.fuse import lasting_memory
from fs3.drivers.fuse.lasting_memory import LastingMemory, cell_bytes, create_memory
from fs3.drivers.fuse.protocol import UNIQUE_RESEND
from fs3.drivers.fuse.records import Negotiated
from fs3.model.lock import HeldLock, LockKind, LockOwner
from fs3.model.namespace import PathRef
from fs3.model.requests import Append, AppendStep, SetAttributes

NODE = InodeId(77)
OPEN = OpenRecord(NODE, InodeId(78), SessionId(5), 1000, 2, OpenFlags.MODIFIED, SessionId(6))


@pytest.fixture
def fd() -> Iterator[int]:
    fd = create_memory()
    yield fd
    os.close(fd)


def ledger(fd: int) -> MountLedger:
    return MountLedger(LastingMemory(fd))


def test_what_is_open_is_inherited(fd: int) -> None:
    first = ledger(fd)
    first.note_open(OPEN._replace(acknowledged=5))
    first.note_open(OPEN)
    first.note_open(OPEN._replace(node=InodeId(99)))
    first.remove_open(InodeId(99))
    first.note_handle(8, NODE, 4, writes=True)
    first.note_handle(9, NODE, 6, writes=False)
    first.remove_handle(9)
    left = ledger(fd).inheritance
    assert left.opens == {NODE: OPEN}
    assert left.handles == [HandleRecord(8, NODE, True, False, 4)]


def test_processes_are_one_client_and_use_no_number_twice(fd: int) -> None:
    used: set[int] = set()
    first = ledger(fd)
    name = first.client_id()
    for process in (first, ledger(fd), ledger(fd)):
        assert process.client_id() == name
        drawn = set(itertools.islice(process.seqs(), 70_000))
        assert len(drawn) == 70_000
        assert not drawn & used
        assert min(drawn) > max(used, default=0), "the services forget them in their order"
        used |= drawn
    assert first.handles_begin < ledger(fd).handles_begin


def test_a_request_that_is_sent_again_has_the_number_it_had(fd: int) -> None:
    first = ledger(fd)
    seqs = first.seqs()
    known = {unique: first.begin_request(unique, seqs)[0] for unique in range(2, 2 * requests_remembered_max, 2)}
    for unique in list(known)[:-1]:
        first.end_request(unique)
    second = ledger(fd)
    again = second.seqs()
    for unique, seq in known.items():
        assert second.begin_request(unique | UNIQUE_RESEND, again) == (seq, True)
    assert second.begin_request(1 << 40, again)[1] is False
    assert second.begin_request(1 << 41, again, 1)[0] > max(known.values())


def test_numbers_of_requests_under_way_are_never_forgotten(fd: int) -> None:
    first = ledger(fd)
    seqs = first.seqs()
    waiting = first.begin_request(2, seqs)[0]
    for unique in range(4, 4 * requests_remembered_max, 2):
        first.begin_request(unique, seqs)
        first.end_request(unique)
    second = ledger(fd)
    assert second.begin_request(2 | UNIQUE_RESEND, second.seqs()) == (waiting, True)


def test_the_end_of_an_append_is_inherited(fd: int) -> None:
    first = ledger(fd)
    step = Append(InodeId(78), SessionId(6), AppendStep.PUBLISH, 3, length=1010)
    first.begin_request(2, first.seqs())
    first.note_append(2, step, 1000, 55)
    second = ledger(fd)
    assert second.inherited_append(2) is None, "it is another request with this number"
    found = second.inherited_append(2 | UNIQUE_RESEND)
    assert found is not None
    assert (found.request, found.start, found.seq) == (step, 1000, 55)


def test_locks_are_inherited(fd: int) -> None:
    places = LockPlace(NODE, 1 << 63, False), LockPlace(NODE, 8, True)
    owners = [LockOwner(ClientId(b""), place.number, place.by_handle) for place in places]
    held = HeldLock(LockKind.RANGE, owners[0], 0, 1 << 63, True, 4), HeldLock(LockKind.FLOCK, owners[1], 0, 1 << 63, False, 4)
    first = ledger(fd)
    first.set_locks(places[0], (held[0], held[0]))
    first.set_locks(places[0], (held[0],))
    first.set_locks(places[1], (held[1],))
    second = ledger(fd)
    assert second.inheritance.locks == {places[0]: [held[0]], places[1]: [held[1]]}
    second.set_locks(places[0], ())
    assert list(ledger(fd).inheritance.locks) == [places[1]]


def test_bytes_are_inherited_in_the_order_they_were_written(fd: int) -> None:
    first = ledger(fd)
    blocks = [first.keep_block(NODE, offset) for offset in (0, 1000, 50)]
    for number, block in enumerate(blocks):
        assert block is not None
        block.write(0, memoryview(bytes([number]) * (cell_bytes + 100)))
        block.write(cell_bytes + 100, memoryview(b"end"))
    assert blocks[1] is not None
    blocks[1].free()
    second = ledger(fd)
    left = second.inheritance
    data = bytearray(3 * cell_bytes)
    for offset, piece in left.blocks[NODE]:
        data[offset : offset + len(piece)] = piece
    expected = bytearray(3 * cell_bytes)
    for offset, number in ((0, 0), (50, 2)):
        expected[offset : offset + cell_bytes + 103] = bytes([number]) * (cell_bytes + 100) + b"end"
    assert data == expected
    newer = second.keep_block(NODE, 0)
    assert newer is not None
    newer.write(0, memoryview(b"new"))
    assert ledger(fd).inheritance.blocks[NODE][-1] == (0, b"new")
    second.give_cells(left.cells)
    assert ledger(fd).inheritance.blocks[NODE] == [(0, b"new")]


def test_attributes_that_wait_are_inherited(fd: int) -> None:
    first = ledger(fd)
    last = SetAttributes(PathRef(NODE, ""), follow=False, mode=0, gid=(1 << 32) - 1, mtime_ns=-5)
    assert first.note_attributes(InodeId(99), SetAttributes(PathRef(InodeId(99), ""), follow=False, uid=7))
    assert first.note_attributes(NODE, SetAttributes(PathRef(NODE, ""), follow=False, mode=0o600))
    assert first.note_attributes(NODE, last)
    first.note_attributes(InodeId(99), None)
    second = ledger(fd)
    assert second.inheritance.attributes == {NODE: last}
    second.note_attributes(NODE, None)
    assert not ledger(fd).inheritance.attributes


def test_attributes_that_there_is_no_room_for_do_not_wait(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lasting_memory, "records_max", 1)
    first = ledger(fd)
    wanted = SetAttributes(PathRef(NODE, ""), follow=False, mode=0o600)
    assert first.note_attributes(NODE, wanted)
    assert not first.note_attributes(InodeId(99), wanted)
    assert first.note_attributes(NODE, wanted)


def test_what_there_is_no_room_for_is_noted(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lasting_memory, "cells_max", 1)
    first = ledger(fd)
    first.note_open(OPEN)
    for _ in range(2):
        block = first.keep_block(NODE, 0)
        assert block is not None
        block.write(0, memoryview(b"x"))
    block.free()
    assert ledger(fd).inheritance.opens[NODE].flags & OpenFlags.NOT_KEPT
    first.note_open(OPEN)
    assert ledger(fd).inheritance.opens[NODE].flags & OpenFlags.NOT_KEPT


def test_what_was_agreed_on_is_inherited(fd: int) -> None:
    first = ledger(fd)
    assert first.agreed.major == 0
    agreed = Negotiated(7, 38, 1 << 39 | 5, 1 << 20)
    first.note_agreed(agreed)
    assert ledger(fd).agreed == agreed


def test_a_mount_that_is_not_replaced_keeps_nothing() -> None:
    none = MountLedger()
    none.note_open(OPEN)
    none.note_handle(1, NODE, 2, writes=True)
    none.set_locks(LockPlace(NODE, 1, True), ())
    assert none.begin_request(2, iter([1])) == (0, False)
    assert none.keep_block(NODE, 0) is none.keep_whole(NODE) is None
    assert none.generation == 1
