"""Page ids, trailers and placement are part of the format: a page is found by them."""

from __future__ import annotations

from collections import Counter

import pytest

from fs3.base.ids import ChainId, chunk_file
from fs3.core.kvcache.pages import is_trailer_of, page_keys, trailer
from fs3.core.kvcache.placement import Placement

CHAINS = [ChainId(number) for number in range(1, 6)]


def test_golden_vectors() -> None:
    keys = page_keys(7, [b"block-%d" % index for index in range(6)])
    assert keys[0].chunk.hex() == "80000007e8e4819b01b6570e26938173"
    assert keys[0].check.hex() == "211663b704a58e1de33a1d5fdfc5b5b23ea509ecfd2161ab0d52b190ce9903ad"
    placement = Placement(CHAINS)
    assert [placement.chain(key.chunk) for key in keys] == [5, 4, 3, 1, 4, 2]


def test_pages_are_not_chunks_of_files_and_namespaces_share_none() -> None:
    (left,), (right,) = page_keys(1, [b"k"]), page_keys(2, [b"k"])
    assert chunk_file(left.chunk) is None
    assert left.chunk != right.chunk
    assert left.check != right.check


def test_a_trailer_is_of_one_key_and_one_size() -> None:
    left, right = page_keys(1, [b"left", b"right"])
    data = trailer(left.check, 4096)
    assert len(data) == 64
    assert is_trailer_of(data, left.check, 4096)
    assert not is_trailer_of(data, right.check, 4096)
    assert not is_trailer_of(data, left.check, 4097)
    assert not is_trailer_of(bytes(64), left.check, 4096)


def test_placement_is_even_and_a_new_chain_takes_only_its_share() -> None:
    keys = page_keys(1, [b"%d" % index for index in range(5000)])
    before = [Placement(CHAINS[:4]).chain(key.chunk) for key in keys]
    after = [Placement(CHAINS).chain(key.chunk) for key in keys]
    assert all(900 < count < 1600 for count in Counter(before).values())
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) == {5}
    assert 800 < len(moved) < 1200


def test_a_table_without_chains() -> None:
    with pytest.raises(ValueError, match="without chains"):
        Placement([])
