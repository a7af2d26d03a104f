"""Slots: bounded, used again, known to few."""

from __future__ import annotations

from typing import Any

from fs3.base.units import KIB, MIB
from fs3.drivers.rdma.pool import RegisteredPool, registrations_per_slot_max


class _Registration:
    def __init__(self) -> None:
        self.is_open = True

    def close(self) -> None:
        self.is_open = False


class _Pair:
    def __init__(self) -> None:
        self.registered: list[_Registration] = []

    def register(self, memory: memoryview, *, is_remote: bool) -> Any:
        self.registered.append(_Registration())
        return self.registered[-1]


def test_slots_are_used_again() -> None:
    pool = RegisteredPool(4 * MIB)
    slot = pool.acquire(100_000)
    assert slot is not None
    assert len(slot.view) == 100_000
    assert pool.held_bytes == slot.size == 128 * KIB
    slot.release()
    assert pool.acquire(120_000) is slot
    assert len(slot.view) == 120_000


def test_idle_slots_make_room_for_others() -> None:
    pool = RegisteredPool(1 * MIB)
    small = [pool.acquire(1) for _ in range(16)]
    assert pool.acquire(1) is None
    for slot in small[:4]:
        assert slot is not None
        slot.release()
    assert pool.acquire(300 * KIB) is None
    assert pool.acquire(256 * KIB) is not None
    assert pool.bytes <= 1 * MIB


def test_a_slot_is_known_to_few_and_forgotten_before_it_goes() -> None:
    pool = RegisteredPool(1 * MIB)
    slot = pool.acquire(1 * MIB)
    assert slot is not None
    pairs: list[Any] = [_Pair() for _ in range(registrations_per_slot_max + 1)]
    for pair in pairs:
        slot.register_destination(pair)
        slot.register_destination(pair)
    assert [len(pair.registered) for pair in pairs] == [1] * len(pairs)
    assert [pair.registered[0].is_open for pair in pairs] == [False] + [True] * registrations_per_slot_max
    pool.forget(pairs[1])
    assert not pairs[1].registered[0].is_open
    slot.release()
    assert pool.acquire(1) is not None  # in its place
    assert not any(pair.registered[0].is_open for pair in pairs)
