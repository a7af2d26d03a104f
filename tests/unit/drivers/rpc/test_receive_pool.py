"""Request buffers: bounded, used again, handed out in turn."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from fs3.base.units import KIB, MIB
from fs3.drivers.rpc.receive_pool import ReceivePool


class Waiter:
    """Passes on what it is granted."""

    def __init__(self, take: Callable[[memoryview], object]) -> None:
        self.on_buffer_granted = take


def test_buffers_have_the_length_that_was_asked_for() -> None:
    pool = ReceivePool()
    for length in (1, 4096, 4097, 100_000, 4 * MIB, 4 * MIB + 64, 65 * MIB):
        view = pool.acquire(length)
        assert view is not None
        assert len(view) == length
        assert not view.readonly
        assert pool.held_bytes <= max(4096, length + length // 8)
        pool.release(view)
        assert pool.held_bytes == 0


def test_a_released_buffer_is_used_again() -> None:
    pool = ReceivePool()
    first = pool.acquire(MIB)
    assert first is not None
    pool.release(first)
    second = pool.acquire(MIB - 5)
    assert second is not None
    assert second.obj is first.obj
    assert pool.idle_bytes == 0


def test_idle_buffers_are_bounded_and_the_least_used_sizes_go_first() -> None:
    pool = ReceivePool(bytes_max=100 * MIB, idle_bytes_max=4 * MIB)
    views = [pool.acquire(size) for size in (MIB, MIB, 2 * MIB, MIB, 8 * MIB)]
    for view in views:
        assert view is not None
        pool.release(view)
    assert pool.idle_bytes <= 4 * MIB
    again = pool.acquire(MIB)
    assert again is not None
    assert again.obj is views[3].obj  # type: ignore[union-attr]


def test_whoever_waits_is_served_in_turn_however_small_the_others_are() -> None:
    pool = ReceivePool(bytes_max=MIB)
    held = [pool.acquire(256 * KIB) for _ in range(4)]
    served: list[tuple[str, memoryview]] = []
    assert pool.acquire(1) is None
    pool.claim(512 * KIB, Waiter(lambda view: served.append(("large", view))))
    pool.claim(1, Waiter(lambda view: served.append(("small", view))))
    assert pool.waiting_count == 2
    pool.release(held[0])  # type: ignore[arg-type]
    assert not served
    assert pool.acquire(1) is None
    pool.release(held[1])  # type: ignore[arg-type]
    assert [name for name, _ in served] == ["large"]
    assert len(served[0][1]) == 512 * KIB
    pool.release(held[2])  # type: ignore[arg-type]
    assert [name for name, _ in served] == ["large", "small"]


def test_a_place_that_is_given_up_lets_the_next_one_in() -> None:
    pool = ReceivePool(bytes_max=MIB)
    held = pool.acquire(512 * KIB)
    served: list[str] = []
    large = pool.claim(MIB, Waiter(lambda view: served.append("large")))
    pool.claim(KIB, Waiter(lambda view: served.append("small")))
    pool.cancel(large)
    assert served == ["small"]
    pool.cancel(large)
    assert held is not None


def test_a_request_larger_than_the_pool_is_served_alone() -> None:
    pool = ReceivePool(bytes_max=KIB)
    view = pool.acquire(MIB)
    assert view is not None
    assert pool.acquire(1) is None


def test_what_others_allocated_counts_too() -> None:
    pool = ReceivePool(bytes_max=MIB)
    assert pool.charge(900 * KIB)
    assert not pool.charge(200 * KIB)
    assert pool.acquire(200 * KIB) is None
    served: list[memoryview] = []
    pool.claim(200 * KIB, Waiter(served.append))
    pool.discharge(900 * KIB)
    assert len(served) == 1


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 300 * KIB)), max_size=60))
def test_the_bounds_always_hold(steps: list[tuple[bool, int]]) -> None:
    pool = ReceivePool(bytes_max=MIB, idle_bytes_max=512 * KIB)
    held: list[memoryview] = []
    claims = 0
    for take, size in steps:
        if take:
            view = pool.acquire(size)
            if view is not None:
                held.append(view)
            else:
                claims += 1
                pool.claim(size, Waiter(held.append))
        elif held:
            pool.release(held.pop(size % len(held)))
        assert pool.held_bytes <= MIB
        assert pool.idle_bytes <= 512 * KIB
        assert pool.held_bytes == sum(len(view.obj) for view in held)  # type: ignore[arg-type]
    while held:
        pool.release(held.pop())
    assert pool.waiting_count == 0
    assert pool.held_bytes == 0
