"""Units, identifiers, the generator, back-off."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs3.base.backoff import Backoff
from fs3.base.ids import NAMESPACE_IDS_END, InodeId, chunk_file, file_chunk, page_chunk, page_namespace, page_range
from fs3.base.prng import Prng
from fs3.base.units import DAY, HOUR, MIB, SECOND, format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("4096", 4096), ("4MiB", 4 * MIB), ("4 m", 4 * MIB), ("1.5k", 1536), ("2GB", 2_000_000_000)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "4 bananas", "-1", "4 MiB extra"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


def test_durations() -> None:
    assert parse_duration("3s") == 3 * SECOND
    assert parse_duration("0.5ms") == 500_000
    assert (parse_duration("1.5h"), parse_duration("7d")) == (90 * 60 * SECOND, 7 * DAY)
    with pytest.raises(ValueError, match="'3 parsecs'"):
        parse_duration("3 parsecs")


@pytest.mark.parametrize(
    ("duration", "text"),
    [(0, "0ns"), (500_000, "500000ns"), (SECOND, "1s"), (90 * SECOND, "1.5m"), (36 * HOUR, "1.5d"), (400 * DAY, "400d")],
)
def test_format_duration(duration: int, text: str) -> None:
    assert format_duration(duration) == text
    assert parse_duration(text) == duration


def test_format_size() -> None:
    assert format_size(0) == "0 B"
    assert format_size(4_497_408) == "4.3 MiB"
    assert format_size(3 << 40) == "3.0 TiB"


@given(st.integers(0, 2**56 - 1), st.integers(0, 2**32))
def test_file_chunks_sort_by_file_then_index(inode: int, index: int) -> None:
    chunk = file_chunk(InodeId(inode), index)
    assert chunk_file(chunk) == (inode, index)
    assert chunk < file_chunk(InodeId(inode), index + 1) < file_chunk(InodeId(inode + 1), 0)


@given(st.integers(0, NAMESPACE_IDS_END - 1), st.binary(min_size=16, max_size=32))
def test_page_chunks_are_never_file_chunks_and_lie_in_the_range_of_their_namespace(namespace: int, digest: bytes) -> None:
    chunk = page_chunk(namespace, digest)
    assert len(chunk) == 16
    assert chunk_file(chunk) is None
    assert page_namespace(chunk) == namespace
    after, until = page_range(namespace)
    assert after < chunk
    assert until is None or chunk < until
    assert (until is None) == (namespace == NAMESPACE_IDS_END - 1)
    if namespace:
        before = page_range(namespace - 1)[1]
        assert before is not None
        assert after < before <= chunk


def test_prng_golden_vectors() -> None:
    # The sequence is part of the format: these numbers never change.
    numbers = Prng(1234567)
    assert [numbers.next() for _ in range(3)] == [6457827717110365317, 3203168211198807973, 9817491932198370423]
    items = list(range(8))
    Prng(42).shuffle(items)
    assert items == GOLDEN_SHUFFLE
    assert sorted(items) == list(range(8))


GOLDEN_SHUFFLE = [3, 1, 6, 2, 4, 0, 7, 5]


@given(st.integers(0, 2**64 - 1), st.integers(1, 1000))
def test_prng_below(seed: int, bound: int) -> None:
    numbers = Prng(seed)
    assert all(0 <= numbers.below(bound) < bound for _ in range(20))


def test_backoff() -> None:
    waits = Backoff(1, 5)
    assert [waits.next_ns() for _ in range(5)] == [1, 2, 4, 5, 5]
    waits.reset()
    assert waits.next_ns() == 1
