"""Leases keep pages, end by themselves, and are bounded."""

from __future__ import annotations

import pytest

from fs3.base.ids import ChunkId, page_chunk
from fs3.base.limits import page_lease_ms_max
from fs3.base.units import MILLISECOND, SECOND
from fs3.core.kvcache.leases import Leases, LeaseUse, not_entered_pages_max


def page(number: int, namespace: int = 1) -> ChunkId:
    return page_chunk(namespace, number.to_bytes(16, "little"))


A, B, C = page(1), page(2), page(3)


def test_a_lease_holds_until_its_end() -> None:
    leases = Leases()
    assert leases.grant(1, [A, B], 2 * SECOND, now=10)
    assert leases.is_held(A, 10)
    assert leases.is_held(B, 10 + 2 * SECOND - 1)
    assert not leases.is_held(C, 10)
    assert not leases.is_held(A, 10 + 2 * SECOND)
    assert (leases.count, leases.pages) == (0, 0)


def test_the_leases_of_a_worker_that_died_end_by_themselves() -> None:
    leases = Leases()
    longest = page_lease_ms_max * MILLISECOND
    for number in range(100):
        leases.grant(number, [page(number)], longest, now=number)
    leases.expire(99 + longest)
    assert (leases.count, leases.pages) == (0, 0)


def test_the_end_of_one_lease_leaves_the_others() -> None:
    leases = Leases()
    leases.grant(1, [A, B], SECOND, now=0)
    leases.grant(2, [B], 3 * SECOND, now=0)
    assert leases.release(1)
    assert not leases.release(1)
    assert not leases.is_held(A, 0)
    assert leases.is_held(B, 2 * SECOND)
    leases.grant(3, [B, B], SECOND, now=0)
    leases.release(2)
    assert leases.is_held(B, 0)
    leases.release(3)
    assert not leases.is_held(B, 0)


def test_a_request_that_is_sent_again_has_the_effect_of_one() -> None:
    leases = Leases()
    leases.grant(1, [A, B], SECOND, now=0)
    leases.grant(1, [A], 2 * SECOND, now=SECOND // 2)
    assert (leases.count, leases.pages) == (1, 1)
    assert not leases.is_held(B, SECOND // 2)
    assert leases.is_held(A, 2 * SECOND)
    assert leases.release(1)
    assert not leases.is_held(A, SECOND)


def test_a_shorter_lease_of_the_same_id_ends_at_its_own_end() -> None:
    leases = Leases()
    leases.grant(1, [A], 10 * SECOND, now=0)
    leases.grant(1, [A], SECOND, now=0)
    assert not leases.is_held(A, SECOND)
    leases.grant(1, [A], 5 * SECOND, now=6 * SECOND)
    assert leases.is_held(A, 10 * SECOND)


def test_a_full_table_is_an_answer() -> None:
    leases = Leases(leases_max=2, pages_max=4)
    assert leases.grant(1, [A, B, C], SECOND, now=0)
    assert not leases.grant(2, [A, B], SECOND, now=0)
    assert not leases.is_held(page(9), 0)
    assert leases.grant(2, [A], SECOND, now=0)
    assert not leases.grant(3, [], SECOND, now=0)
    assert (leases.count, leases.pages) == (2, 4)
    assert leases.grant(3, [A, B], SECOND, now=SECOND)


@pytest.mark.parametrize("duration", [0, -1, page_lease_ms_max * MILLISECOND + 1])
def test_no_lease_is_longer_than_the_maximum(duration: int) -> None:
    with pytest.raises(ValueError, match="lease"):
        Leases().grant(1, [A], duration, now=0)


def test_what_is_released_takes_no_memory() -> None:
    leases = Leases()
    for number in range(20_000):
        leases.grant(number, [A], 60 * SECOND, now=number)
        leases.release(number)
    assert (leases.count, leases.pages) == (0, 0)
    assert len(leases._ends) < 2048
    assert not leases._holders


def test_leases_hold_alike_whether_or_not_somebody_asked_in_between() -> None:
    for asked in (False, True):
        leases = Leases()
        for number in range(4):
            leases.grant(number, [A, B] if number % 2 else [B, C], (1 + number) * SECOND, now=0)
            if asked:
                assert leases.is_held(B, 0)
        leases.release(1)
        leases.grant(3, [C], SECOND, now=0)
        assert [leases.is_held(page, 0) for page in (A, B, C)] == [False, True, True]
        leases.release(0)
        assert [leases.is_held(page, SECOND) for page in (A, B, C)] == [False, True, True]
        assert not any(leases.is_held(page, 3 * SECOND) for page in (A, B, C))
        assert (leases.count, leases.pages, len(leases._holders), leases._not_entered_pages) == (0, 0, 0, 0)


def test_whoever_asks_first_does_not_pay_for_all() -> None:
    leases = Leases()
    many = [page(number) for number in range(not_entered_pages_max // 4)]
    for number in range(6):
        leases.grant(number, many, SECOND, now=0)
        assert leases._not_entered_pages <= not_entered_pages_max
    assert leases.is_held(many[-1], 0)
    for number in range(6):
        leases.release(number)
    assert (leases.pages, len(leases._holders), leases._not_entered_pages) == (0, 0, 0)


def test_use_is_of_one_namespace() -> None:
    leases = Leases()
    leases.grant(1, [A, B], SECOND, now=0)
    leases.grant(2, [page(1, namespace=2)], 2 * SECOND, now=0)
    assert leases.use(1, 0) == LeaseUse(1, 2)
    assert leases.use(2, 0) == LeaseUse(1, 1)
    assert leases.use(1, SECOND) == LeaseUse(0, 0)
