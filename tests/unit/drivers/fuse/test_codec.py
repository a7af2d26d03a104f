"""Requests as the kernel sends them, and what is answered, byte for byte."""

import errno
import stat
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs3.drivers.fuse import codec, protocol
from fs3.drivers.fuse.dispatch import REQUEST_KINDS
from fs3.drivers.fuse.protocol import Opcode
from fs3.drivers.fuse.records import (
    TIME_IS_NOW,
    AttributesReply,
    DirectoryEntry,
    KernelAttributes,
    KernelRequest,
    LookupReply,
    Opened,
)

LOOKUP = bytes.fromhex(
    "2d00000001000000" "0400000000000000" "0100000000000000" "e8030000e9030000" "d204000000000000" "6e616d6500"
)  # fmt: skip
"""LOOKUP of "name" in the root by user 1000, group 1001, process 1234."""


def test_header_and_name() -> None:
    data = memoryview(LOOKUP)
    request = codec.parse_header(data)
    assert request == KernelRequest(Opcode.LOOKUP, 4, 1, 1000, 1001, 1234)
    assert REQUEST_KINDS[request.opcode].parse(data[protocol.IN_HEADER.size :]) == (b"name",)


def test_times_before_the_epoch_and_now() -> None:
    body = bytearray(protocol.SETATTR_IN.size)
    how = protocol.SetAttr
    valid = how.MODE | how.ATIME | how.ATIME_NOW | how.MTIME
    minus_two = (1 << 64) - 2
    protocol.SETATTR_IN.pack_into(body, 0, valid, 0, 0, 0, 0, 7, minus_two, 0, 5, 500_000_000, 0, 0o100644, 0, 0, 0, 0)
    (changes,) = codec.parse_setattr(memoryview(body))
    assert changes.mode == 0o644
    assert changes.atime_ns == TIME_IS_NOW
    assert changes.mtime_ns == -1_500_000_000
    assert changes.uid is None
    assert changes.size is None
    assert changes.handle is None
    assert not changes.drops_set_ids


def test_attributes_of_before_the_epoch() -> None:
    found = KernelAttributes(5, stat.S_IFREG | 0o600, 1, 2, 3, 4096, 8, -1, 1_500_000_000, 0)
    data = codec.encode_attributes_reply(AttributesReply(found, 1_500_000_000))
    assert protocol.ATTR_OUT.unpack_from(data)[:2] == (1, 500_000_000)
    values = protocol.ATTR.unpack_from(data, protocol.ATTR_OUT.size)
    assert values[:9] == (5, 4096, 8, (1 << 64) - 1, 1, 0, 999_999_999, 500_000_000, 0)
    assert len(data) == 104
    assert len(codec.encode_statx(AttributesReply(found))) == 288
    assert len(codec.encode_entry(LookupReply(5, found))) == 128


def test_directories_are_filled_to_what_fits_and_padded() -> None:
    entries = [DirectoryEntry(b"a", 2, stat.S_IFDIR, 1), DirectoryEntry(b"eight888", 3, stat.S_IFREG, 2)]
    data = codec.encode_directory(entries, 1000, plus=False)
    assert len(data) == 32 + 32
    assert data[24:32] == b"a" + bytes(7)
    assert data[56:64] == b"eight888"
    assert codec.encode_directory(entries, 63, plus=False) == data[:32]
    assert len(codec.encode_directory(entries, 1000, plus=True)) == 2 * (128 + 32)
    assert codec.encode_directory(entries, 10, plus=True) == b""


def test_structures_have_the_sizes_of_the_kernel() -> None:
    sizes = {
        protocol.IN_HEADER: 40,
        protocol.OUT_HEADER: 16,
        protocol.INIT_OUT: 64,
        protocol.ATTR: 88,
        protocol.SETATTR_IN: 88,
        protocol.READ_IN: 40,
        protocol.WRITE_IN: 40,
        protocol.OPEN_OUT: 16,
        protocol.STATFS_OUT: 80,
        protocol.LK_IN: 48,
        protocol.FALLOCATE_IN: 32,
        protocol.COPY_FILE_RANGE_IN: 56,
        protocol.STATX: 256,
        protocol.STATX_OUT: 32,
    }
    assert {structure.format: structure.size for structure in sizes} == {one.format: size for one, size in sizes.items()}
    assert len(codec.encode_opened(Opened(1, 2))) == 16


@pytest.mark.parametrize("cut", [0, 1, 39])
def test_short_headers_are_refused(cut: int) -> None:
    with pytest.raises(OSError, match="malformed") as caught:
        codec.parse_header(memoryview(LOOKUP)[:cut])
    assert caught.value.errno == errno.EINVAL


def test_wrong_lengths_are_refused() -> None:
    with pytest.raises(OSError, match="says 45 bytes and has 44"):
        codec.parse_header(memoryview(LOOKUP)[:-1])
    body = protocol.WRITE_IN.pack(1, 0, 5, 0, 0, 0, 0) + b"four"
    with pytest.raises(OSError, match="says 5 bytes and has 4"):
        codec.parse_write(memoryview(body))
    with pytest.raises(OSError, match="malformed"):
        codec.parse_batch_forget(memoryview(protocol.BATCH_FORGET_IN.pack(1 << 31, 0) + bytes(16)))


@given(st.sampled_from(sorted(REQUEST_KINDS)), st.binary(max_size=200))
def test_any_bytes_are_arguments_or_refused(opcode: int, body: bytes) -> None:
    with suppress(OSError):  # and no other failure
        assert isinstance(REQUEST_KINDS[opcode].parse(memoryview(body)), tuple)
