"""Request buffers: bounded, used again, handed out in turn."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from fs3.base.limits import receive_step_bytes
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
    assert pool.clients.charge(900 * KIB)
    assert not pool.clients.charge(200 * KIB)
    assert pool.acquire(200 * KIB) is None
    served: list[memoryview] = []
    pool.claim(200 * KIB, Waiter(served.append))
    pool.clients.discharge(900 * KIB)
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


class Stepper:
    """A request that is received in steps, as fast as there is room."""

    def __init__(self, pool: ReceivePool, length: int) -> None:
        self.reception = pool.begin(length, pool.clients)
        self.is_waiting = False

    @property
    def is_complete(self) -> bool:
        return self.reception.arrived == self.reception.length

    def on_room_granted(self) -> None:
        self.is_waiting = False

    def receive(self) -> bool:
        """One arrival; False when nothing could be taken."""
        if self.is_waiting or self.is_complete:
            return False
        room = self.reception.room()
        if not room:
            self.is_waiting = True
            self.reception.wait(self)
            return not self.is_waiting
        self.reception.arrived += min(room, self.reception.length - self.reception.arrived)
        return True


def stands_still(pool: ReceivePool, lengths: list[int], turns: list[int]) -> bool:
    """Receive all of these at once; true when each waits for the others."""
    steppers = [Stepper(pool, length) for length in lengths]
    while steppers:
        moved = False
        for at in [turn % len(steppers) for turn in turns] + list(range(len(steppers))):
            moved = steppers[at].receive() or moved
            assert pool.held_bytes <= pool.clients.bytes_max
            assert pool.clients.unfinished_bytes <= pool.clients.unfinished_bytes_max
        for stepper in [one for one in steppers if one.is_complete]:
            stepper.reception.release()
            steppers.remove(stepper)
            moved = True
        if not moved:
            return True
    assert pool.held_bytes == pool.clients.unfinished_bytes == pool.waiting_count == 0
    assert 0 <= pool.idle_bytes <= 2 * MIB
    return False


@given(st.lists(st.integers(1, 6 * MIB), max_size=12), st.lists(st.integers(0, 100), max_size=20))
def test_requests_that_arrive_together_never_wait_for_each_other(lengths: list[int], turns: list[int]) -> None:
    assert not stands_still(ReceivePool(8 * MIB, 2 * MIB), lengths, turns)


def test_without_the_bound_for_unfinished_ones_they_would() -> None:
    pool = ReceivePool(8 * MIB, 2 * MIB)
    pool.clients.unfinished_bytes_max = 8 * MIB
    assert stands_still(pool, [6 * MIB] * 3, [])


def test_memory_is_given_in_steps() -> None:
    pool = ReceivePool()
    reception = pool.begin(64 * MIB, pool.clients)
    assert pool.held_bytes == 0
    assert reception.room() == pool.held_bytes == receive_step_bytes
    assert len(reception.view) == 64 * MIB
    reception.arrived += receive_step_bytes
    assert reception.room() == receive_step_bytes
    assert pool.held_bytes == 2 * receive_step_bytes
    reception.release()
    assert pool.held_bytes == 0


def test_a_small_request_passes_large_ones_that_wait_for_each_other() -> None:
    pool = ReceivePool(8 * MIB, 0)
    large = [Stepper(pool, 6 * MIB) for _ in range(4)]
    for stepper in large:
        while stepper.receive() and stepper.reception.arrived < 2 * MIB:
            pass
    assert pool.waiting_count
    small = Stepper(pool, 100 * KIB)
    assert small.receive()
    assert small.is_complete
