"""The order survives as bytes; damage costs the pages of one part their place, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from fs3.base.ids import ChunkId, page_chunk
from fs3.base.units import SECOND
from fs3.core.kvcache.recency.recency import Recency
from fs3.core.kvcache.recency.sample import PART_PAGES, restore_part, sample_parts


def page(namespace_id: int, index: int) -> ChunkId:
    return page_chunk(namespace_id, (index * 0x9E3779B97F4A7C15_F39CC0605CEDC835 % (1 << 128)).to_bytes(16, "little"))


def filled(namespace_id: int, indexes: Iterable[int], now: int = 0) -> Recency:
    recency = Recency(namespace_id, now)
    for index in indexes:
        recency.insert(page(namespace_id, index), 10, now + index)
    return recency


def order(recency: Recency) -> list[ChunkId]:
    chunks = []
    row = recency.table.oldest
    while row:
        chunks.append(recency.table.chunk(row))
        row = recency.table.newer[row]
    return chunks


def restore(data: bytes, *recencies: Recency, now: int = 0, away_ns: int = 0) -> None:
    at = 0
    while at < len(data):
        following = restore_part(data, at, {each.namespace_id: each for each in recencies}, now, away_ns)
        assert at < following <= len(data)
        at = following


def test_the_order_of_every_namespace_comes_back() -> None:
    left, right = filled(1, range(3000)), filled(2, reversed(range(50)))
    left.touch(page(1, 7), 10 * SECOND)
    parts = list(sample_parts([left, right], 10 * SECOND))
    assert all(len(part) <= 64 * 1024 for part in parts)
    new_left, new_right = filled(1, reversed(range(3000)), 99), filled(2, range(50), 99)
    restore(b"".join(parts), new_left, new_right, now=99)
    assert order(new_left) == order(left)
    assert order(new_right) == order(right)


def test_uses_and_times_come_back() -> None:
    recency = filled(1, range(3))
    for index in range(9):
        recency.touch(page(1, index % 3), (100 + 4 * index) * SECOND)
    recency.insert(page(1, 3), 10, 150 * SECOND)
    data = b"".join(sample_parts([recency], 160 * SECOND))
    began = 10**15
    again = filled(1, range(4), began)
    restore(data, again, now=began, away_ns=40 * SECOND)
    born = [again.born(page(1, index)) for index in (0, 3)]
    expected = [began - 200 * SECOND, began - 50 * SECOND]
    assert all(abs((moment or 0) - when) < SECOND // 10 for moment, when in zip(born, expected, strict=True))
    # Those used three times have a second chance, the new one has not.
    assert again.victim(began, lambda chunk: False) == page(1, 3)


def test_only_those_used_last_are_sampled_when_there_are_too_many() -> None:
    large, small = filled(1, range(4000)), filled(2, range(400))
    data = b"".join(sample_parts([large, small], SECOND, pages_max=440))
    assert len(data) < 440 * 20 * 1.1
    again = filled(1, range(4000))
    again_small = filled(2, range(400))
    for index in reversed(range(4000)):
        again.touch(page(1, index), 0)
    restore(data, again, again_small)
    assert order(again)[-400:] == [page(1, index) for index in range(3600, 4000)]


def test_pages_come_go_and_are_used_while_a_sample_is_made() -> None:
    recency = filled(1, range(5 * PART_PAGES))
    parts = []
    for number, part in enumerate(sample_parts([recency], 0)):
        parts.append(part)
        recency.touch(page(1, number), SECOND)  # written already
        recency.touch(page(1, 5 * PART_PAGES - 1 - number), SECOND)  # not yet
        recency.remove(page(1, 2 * PART_PAGES + number))
        recency.insert(page(1, 100_000 + number), 10, SECOND)
    assert 5 <= len(parts) <= 7
    again = Recency(1, 0)
    for chunk in sorted(order(recency)):
        again.insert(chunk, 10, 0)
    restore(b"".join(parts), again)
    # Those that were used before the last part was made are among the newest.
    used = {page(1, number) for number in range(len(parts) - 1)}
    used |= {page(1, 5 * PART_PAGES - 1 - number) for number in range(len(parts) - 1)}
    assert used <= set(order(again)[-4 * len(parts) :])


def test_pages_that_are_gone_and_namespaces_that_are_gone_are_left_out() -> None:
    data = b"".join(sample_parts([filled(1, range(10)), filled(2, range(10))], 0))
    again = filled(1, range(5, 15))
    restore(data, again)
    assert len(again) == 10
    assert order(again) == [page(1, index) for index in (*range(10, 15), *range(5, 10))]


@pytest.mark.parametrize("damage", [0, 9, 12, 16, 25, 2000])
def test_a_damaged_part_is_skipped(damage: int) -> None:
    parts = list(sample_parts([filled(1, range(3 * PART_PAGES))], 0))
    parts[1] = parts[1][:damage] + bytes([parts[1][damage] ^ 0x40]) + parts[1][damage + 1 :]
    again = filled(1, range(3 * PART_PAGES))
    for index in reversed(range(3 * PART_PAGES)):
        again.touch(page(1, index), 0)
    restore(b"".join(parts), again)
    restored = [*range(PART_PAGES), *range(2 * PART_PAGES, 3 * PART_PAGES)]
    assert order(again)[PART_PAGES:] == [page(1, index) for index in restored]


def test_no_bytes_whatever_they_are_raise() -> None:
    whole = b"".join(sample_parts([filled(1, range(30))], 0))
    for data in (b"", b"fs3recn1", b"fs3recn1" * 50, bytes(1000), whole[:-1], whole[5:], b"\xff" * 64, whole[:20]):
        again = filled(1, range(30))
        before = order(again)
        restore(data, again)
        assert order(again) == before
    again = filled(1, reversed(range(30)))
    restore(b"rubbish in front" + whole, again)
    assert order(again) == [page(1, index) for index in range(30)]
