"""Page ids, what stands in front of a page, and placement are part of the format: a page is found by them."""

from __future__ import annotations

from collections import Counter

import pytest

from fs3.base.ids import ChainId, ChunkId, chunk_file
from fs3.base.limits import content_bytes_max, page_bytes_max, page_key_bytes_max
from fs3.core.kvcache.pages import (
    PageHeader,
    front,
    front_bytes,
    fronts,
    is_stored_as,
    page_chunks,
    page_keys,
    page_length,
    parse_header,
)
from fs3.core.kvcache.placement import SLOTS, Placement

CHAINS = [ChainId(number) for number in range(1, 6)]


def test_golden_vectors() -> None:
    keys = page_keys(7, b"", [b"block-%d" % index for index in range(6)])
    assert keys[0].chunk.hex() == "80000007e8e4819b01b6570e26938173"
    assert keys[0].check.hex() == "211663b704a58e1de33a1d5fdfc5b5b23ea509ecfd2161ab0d52b190ce9903ad"
    placement = Placement(CHAINS)
    assert [placement.chain(key.chunk) for key in keys] == [3, 1, 1, 2, 5, 2]


def test_pages_are_not_chunks_of_files_and_namespaces_share_none() -> None:
    (left,), (right,) = page_keys(1, b"", [b"k"]), page_keys(2, b"", [b"k"])
    assert chunk_file(left.chunk) is None
    assert left.chunk != right.chunk
    assert left.check != right.check


def test_an_id_with_another_salt_shares_no_pages() -> None:
    (left,), (right,) = page_keys(1, b"salt", [b"k"]), page_keys(1, b"other", [b"k"])
    assert left.chunk != right.chunk
    assert left.check != right.check
    header = parse_header(front(left, 10))
    assert header is not None
    assert is_stored_as(left.chunk, b"salt", b"k", header)
    assert not is_stored_as(left.chunk, b"other", b"k", header)


def test_what_is_in_front_of_a_page_is_of_one_key_and_one_length() -> None:
    left, right = page_keys(1, b"", [b"left", b"right"])
    data = front(left, 4096)
    assert data.hex() == (
        "667333706167653202000000040000000010000000000000" + left.check.hex() + "0000000000000000" + b"left".hex()
    )
    assert len(data) == front_bytes(b"left") == 68
    assert page_length(data, left) == 4096
    for other in (data[:-1], data + b"x", data[:60] + b"\1" + data[61:], data[:-1] + b"T", bytes(68), b""):
        assert page_length(other, left) == 0
    assert page_length(data, right) == 0
    assert fronts([left, right], [4096, 1]) == [front(left, 4096), front(right, 1)]


def test_headers_that_cannot_be() -> None:
    (page,) = page_keys(1, b"", [b"k" * page_key_bytes_max])
    longest = front(page, page_bytes_max)
    header = parse_header(longest)
    assert header == PageHeader(page_key_bytes_max, page_bytes_max, page.check)
    assert header.chunk_bytes == content_bytes_max
    assert is_stored_as(page.chunk, b"", page.key, header)
    assert not is_stored_as(page.chunk, b"", page.key[1:], header)
    assert not is_stored_as(page_keys(2, b"", [page.key])[0].chunk, b"", page.key, header)
    assert parse_header(longest[:63]) is None
    assert parse_header(b"fs3page1" + longest[8:]) is None
    assert parse_header(front(page, page_bytes_max + 1)) is None
    assert parse_header(front(page, 0)) is None
    assert parse_header(front(page._replace(key=b""), 1)) is None
    assert parse_header(front(page._replace(key=bytes(page_key_bytes_max + 1)), 1)) is None


def every_slot() -> list[ChunkId]:
    return [ChunkId(bytes(14) + slot.to_bytes(2, "little")) for slot in range(SLOTS)]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 16, 99, 255, 256, 257, 400])
def test_a_new_chain_takes_an_equal_share_and_nothing_else_moves(count: int) -> None:
    chunks = every_slot()
    chains = [ChainId(10 * number) for number in range(1, count + 2)]
    before, after = Placement(chains[:-1]), Placement(chains)
    moved = {new for old, new in zip(before.places(chunks), after.places(chunks), strict=True) if old != new}
    assert moved == {count}
    for placement in (before, after):
        sizes = Counter(placement.places(chunks)).values()
        assert len(sizes) == len(placement.chains)
        assert max(sizes) - min(sizes) <= 1


def test_the_shares_of_real_keys_are_even() -> None:
    chunks = page_chunks(1, b"", [b"%d" % index for index in range(5000)])
    assert all(900 < count < 1100 for count in Counter(Placement(CHAINS).places(chunks)).values())


def test_one_chunk_or_many() -> None:
    keys = [b"%d" % index for index in range(100)]
    chunks = page_chunks(7, b"", keys)
    assert chunks == [key.chunk for key in page_keys(7, b"", keys)]
    placement = Placement(CHAINS)
    assert [placement.chains[place] for place in placement.places(chunks)] == [placement.chain(chunk) for chunk in chunks]
    assert placement.places([]) == []


def test_tables_that_cannot_be_placed_on() -> None:
    with pytest.raises(ValueError, match="without chains"):
        Placement([])
    with pytest.raises(ValueError, match="65537 chains"):
        Placement([ChainId(1)] * (SLOTS + 1))
