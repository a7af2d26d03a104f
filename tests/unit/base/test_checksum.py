"""CRC32C pieces, and their combination."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs3.base.checksum import (
    BLOCK_BYTES,
    checksums,
    checksums_in_slices,
    coarsen,
    combine,
    crc32c,
    cut,
    digest_of,
    piece_count,
)


def test_known_value() -> None:
    # RFC 3720 B.4: 32 bytes of zeros, of ones, ascending; and the usual check string.
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"123456789") == 0xE3069283


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_combine_equals_the_sum_of_both(first: bytes, second: bytes) -> None:
    assert combine(crc32c(first), crc32c(second), len(second)) == crc32c(first + second)


@pytest.mark.parametrize("length", [1, 2, 3, 4096, BLOCK_BYTES - 1, BLOCK_BYTES, 1_000_003])
def test_combine_of_long_tails(length: int) -> None:
    first, second = b"head", bytes(length)
    assert combine(crc32c(first), crc32c(second), length) == crc32c(first + second)


@given(st.integers(0, 500), st.integers(0, 500), st.integers(1, 64))
def test_cut_covers_the_range_at_the_boundaries(offset: int, length: int, piece: int) -> None:
    pieces = list(cut(offset, length, piece))
    assert sum(size for _, size in pieces) == length
    assert len(pieces) == piece_count(offset, length, piece)
    position = offset
    for at, size in pieces:
        assert at == position
        assert 0 < size <= piece
        assert at // piece == (at + size - 1) // piece
        position += size


@given(st.binary(max_size=400), st.integers(0, 100), st.integers(1, 64))
def test_checksums_follow_the_cut(data: bytes, offset: int, piece: int) -> None:
    expected = [crc32c(data[at - offset : at - offset + size]) for at, size in cut(offset, len(data), piece)]
    assert checksums(memoryview(data), offset, piece) == expected


@given(
    st.lists(st.binary(max_size=70), max_size=5),
    st.integers(0, 100),
    st.sampled_from([4, 8, 32]),
    st.sampled_from([1, 8, 20, 64, 1000]),
)
def test_checksums_by_slices_are_the_same(parts: list[bytes], offset: int, piece: int, slice_bytes: int) -> None:
    views = [memoryview(part) for part in parts if part]
    slices = list(checksums_in_slices(views, offset, piece, slice_bytes))
    assert [value for sums in slices for value in sums] == checksums(memoryview(b"".join(parts)), offset, piece)
    most = max(slice_bytes // piece, 1)
    assert all(0 < len(sums) <= most for sums in slices)


def test_digest_tells_order() -> None:
    assert digest_of([1, 2]) != digest_of([2, 1])
    assert digest_of([]) == 0


@given(st.binary(max_size=300), st.integers(0, 200), st.sampled_from((8, 16)))
def test_fine_sums_become_coarse_ones(data: bytes, offset: int, piece: int) -> None:
    fine = checksums(memoryview(data), offset, piece)
    assert coarsen(fine, offset, len(data), piece, 64) == checksums(memoryview(data), offset, 64)
    assert coarsen(fine, offset, len(data), piece, piece) == fine
