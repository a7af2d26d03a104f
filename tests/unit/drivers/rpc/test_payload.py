"""Payloads: parts out, buffers in, and copies from one to the other."""

import os
import tempfile
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs3.base.errors import FS3Error, InvalidArgument
from fs3.base.status import Code
from fs3.drivers.rpc.payload import copy_parts, destinations, flat_view, join_parts, payload_length
from fs3.ports.rpc import FileRange, FlatBuffers, Part

FILE = bytes(range(256)) * 8


@given(st.data())
def test_a_copy_is_what_the_parts_say(data: st.DataObject) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(FILE)
        file.flush()
        parts: list[Part] = []
        whole = b""
        for kind in data.draw(st.lists(st.sampled_from("bamf"), max_size=6)):
            offset, length = data.draw(st.integers(0, 1000)), data.draw(st.integers(0, 1000))
            piece = FILE[offset : offset + length]
            parts.append(
                {"b": piece, "a": bytearray(piece), "m": memoryview(piece), "f": FileRange(file.fileno(), offset, length)}[kind]
            )
            whole += piece
        assert payload_length(parts) == len(whole)
        assert join_parts(parts) == whole
        cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=5)))
        buffers = [bytearray(stop - start) for start, stop in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
        targets = destinations(lambda _message, _length: [memoryview(buffer) for buffer in buffers], None, len(whole))
        copy_parts(parts, targets)
        assert b"".join(buffers) == whole


def test_a_file_that_ends_early_is_a_disk_error() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(FILE)
        file.flush()
        with pytest.raises(FS3Error, match="ended at byte 2048") as caught:
            join_parts([FileRange(file.fileno(), 2000, 100)])
        assert caught.value.code is Code.DISK


def test_a_closed_file_is_a_disk_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    with pytest.raises(FS3Error) as caught:
        join_parts([FileRange(reader, 0, 1)])
    assert caught.value.code is Code.DISK


def test_buffers_of_other_items_are_bytes_too() -> None:
    numbers = array("d", [1.0, 2.0])
    (view,) = destinations(lambda _message, _length: [memoryview(numbers)], None, 16)
    assert len(view) == 16
    copy_parts([array("d", [3.0, 4.0]).tobytes()], [view])
    assert list(numbers) == [3.0, 4.0]
    with pytest.raises(InvalidArgument, match="contiguous"):
        flat_view(memoryview(numbers)[::-1])


def test_buffers_that_are_known_to_be_flat_are_taken_as_they_are() -> None:
    given = FlatBuffers([memoryview(bytearray(3)), memoryview(bytearray(5))])
    assert destinations(lambda _message, _length: given, None, 8) is given
    with pytest.raises(InvalidArgument, match="hold 8 bytes, it has 9"):
        destinations(lambda _message, _length: given, None, 9)
