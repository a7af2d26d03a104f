"""The memory of a mount as the next process finds it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from fs3.drivers.fuse.lasting_memory import LastingMemory, cell_bytes, cells_kept, create_memory


@pytest.fixture
def fd() -> Iterator[int]:
    fd = create_memory()
    yield fd
    os.close(fd)


def test_numbers_and_records_are_found_again(fd: int) -> None:
    first = LastingMemory(fd)
    first.set_number(5, 1 << 60)
    places = [first.add(1, number, 2**64 - 1) for number in range(10)]
    first.remove(places[3])
    first.put(places[4], 2, 44)
    first.close()
    second = LastingMemory(fd)
    assert second.number(5) == 1 << 60
    found = {place: (kind, values[0]) for place, kind, values in second.records()}
    assert found == {place: (2, 44) if place == places[4] else (1, place) for place in places if place != places[3]}
    assert second.add(1, 7) == places[3], "what is free is used again"
    assert second.add(1, 7) == 10
    assert second.read(places[4])[0] == 44


def test_a_record_that_was_being_written_does_not_count(fd: int) -> None:
    first = LastingMemory(fd)
    torn, whole = first.add(1, 11), first.add(1, 12)
    os.pwrite(fd, b"\xff", 4096 + torn * 128 + 9)
    second = LastingMemory(fd)
    assert [place for place, _, _ in second.records()] == [whole]
    assert second.add(1, 13) == torn


def test_cells_are_found_again_and_given_back(fd: int) -> None:
    first = LastingMemory(fd)
    cells = [first.take_cell() for _ in range(3)]
    for cell in cells:
        first.write_cell(cell, cell_bytes - 3, b"end")
        first.set_head(cell, 9, cell * 1000, 5, cell_bytes)
    unfinished = first.take_cell()
    first.give_cell(cells[1])
    second = LastingMemory(fd)
    assert list(second.cells()) == [(cell, 9, cell * 1000, 5, cell_bytes) for cell in (cells[0], cells[2])]
    assert second.read_cell(cells[2], cell_bytes - 4, 4) == b"\0end"
    assert {second.take_cell(), second.take_cell()} == {cells[1], unfinished}


def test_the_memory_of_many_cells_is_given_back(fd: int) -> None:
    memory = LastingMemory(fd)
    cells = [memory.take_cell() for _ in range(cells_kept + 20)]
    for cell in cells:
        memory.write_cell(cell, 0, b"x" * cell_bytes)
        memory.set_head(cell, 1, 0, 1, cell_bytes)
    blocks = os.fstat(fd).st_blocks
    for cell in cells:
        memory.give_cell(cell)
    assert blocks - os.fstat(fd).st_blocks >= 20 * cell_bytes // 512
    assert memory.take_cell() == 0


def test_what_is_no_such_memory_is_refused(tmp_path: os.PathLike[str]) -> None:
    fd = os.memfd_create("other")
    with pytest.raises(OSError, match="another size"):
        LastingMemory(fd)
    os.close(fd)
    fd = create_memory()
    os.pwrite(fd, b"otherkind", 0)
    with pytest.raises(OSError, match="other software"):
        LastingMemory(fd)
    os.close(fd)
