"""Pins: soft ones end, hard ones are within a budget."""

from __future__ import annotations

import pytest

from fs3.base.ids import ChunkId, page_chunk
from fs3.base.limits import pin_ms_max
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.core.kvcache.pins import Pins, PinUse


def page(number: int, namespace: int = 1) -> ChunkId:
    return page_chunk(namespace, number.to_bytes(16, "little"))


A, B, C = page(1), page(2), page(3)


def test_a_soft_pin_ends() -> None:
    pins = Pins()
    assert pins.pin(A, 100, 0, duration_ns=SECOND, hard=False) is Code.OK
    assert pins.is_preferred(A, SECOND - 1)
    assert not pins.is_held(A, 0)
    assert not pins.is_preferred(A, SECOND)
    assert pins.use(1, SECOND) == PinUse()


def test_a_pin_is_prolonged_by_pinning_again() -> None:
    pins = Pins()
    pins.pin(A, 100, 0, duration_ns=SECOND, hard=False)
    pins.pin(A, 100, SECOND // 2, duration_ns=SECOND, hard=False)
    assert pins.is_preferred(A, SECOND)
    assert pins.use(1, SECOND) == PinUse(1, 0, 0)
    assert pins.use(1, 2 * SECOND) == PinUse()


def test_hard_pins_stay_within_the_budget() -> None:
    pins = Pins()
    assert pins.pin(A, 60, 0, duration_ns=0, hard=True, budget_bytes=100) is Code.OK
    assert pins.pin(B, 60, 0, duration_ns=0, hard=True, budget_bytes=100) is Code.NO_SPACE
    assert pins.pin(A, 90, 0, duration_ns=0, hard=True, budget_bytes=100) is Code.OK
    assert pins.pin(A, 101, 0, duration_ns=0, hard=True, budget_bytes=100) is Code.NO_SPACE
    assert pins.pin(page(1, namespace=2), 100, 0, duration_ns=SECOND, hard=True, budget_bytes=100) is Code.OK
    assert pins.is_held(A, 1 << 60)
    assert not pins.is_held(B, 0)
    assert pins.use(1, 0) == PinUse(0, 1, 90)
    assert pins.use(2, 0) == PinUse(0, 1, 100)
    assert pins.use(2, SECOND) == PinUse()


def test_a_page_that_goes_takes_its_pin_along() -> None:
    pins = Pins()
    pins.pin(A, 60, 0, duration_ns=0, hard=True, budget_bytes=100)
    assert pins.unpin(A)
    assert not pins.unpin(A)
    assert pins.pin(B, 100, 0, duration_ns=0, hard=True, budget_bytes=100) is Code.OK


def test_a_hard_pin_can_become_a_soft_one() -> None:
    pins = Pins()
    pins.pin(A, 60, 0, duration_ns=0, hard=True, budget_bytes=100)
    pins.pin(A, 60, 0, duration_ns=SECOND, hard=False)
    assert pins.use(1, 0) == PinUse(1, 0, 0)
    assert pins.is_preferred(A, 0)


def test_a_full_table_is_an_answer() -> None:
    pins = Pins(pages_max=2)
    assert pins.pin(A, 1, 0, duration_ns=SECOND, hard=False) is Code.OK
    assert pins.pin(B, 1, 0, duration_ns=SECOND, hard=False) is Code.OK
    assert pins.pin(C, 1, 0, duration_ns=SECOND, hard=False) is Code.NO_SPACE
    assert pins.pin(A, 1, 0, duration_ns=2 * SECOND, hard=False) is Code.OK
    assert pins.pin(C, 1, SECOND, duration_ns=SECOND, hard=False) is Code.OK


@pytest.mark.parametrize("duration", [0, -1, pin_ms_max * MILLISECOND + 1])
def test_no_soft_pin_is_longer_than_the_maximum(duration: int) -> None:
    with pytest.raises(ValueError, match="pin"):
        Pins().pin(A, 1, 0, duration_ns=duration, hard=False)


def test_what_is_prolonged_takes_no_memory() -> None:
    pins = Pins()
    for now in range(20_000):
        pins.pin(A, 1, now, duration_ns=60 * SECOND, hard=False)
    assert pins.count == 1
    assert len(pins._ends) < 2048
    pins.clear()
    assert pins.use(1, 0) == PinUse()
