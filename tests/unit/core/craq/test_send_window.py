from __future__ import annotations

from fs3.base.ids import TargetId
from fs3.core.craq.send_window import SERIAL_BITS, DuplicateFilter, SendWindow
from fs3.sim.ring1.one_replica import write


def test_serials_rise_also_over_restarts() -> None:
    before = SendWindow(3)
    serials = [before.add(instead_of=0)[0] for _ in range(3)]
    assert serials == sorted(set(serials))
    assert SendWindow(4).add(instead_of=0)[0] > serials[-1]
    assert serials[0] >> SERIAL_BITS == 3


def test_the_floor_is_the_oldest_that_is_waited_for() -> None:
    sendings = SendWindow(1)
    one, floor = sendings.add(instead_of=0)
    assert floor == one
    two, floor = sendings.add(instead_of=0)
    assert floor == one
    three, floor = sendings.add(instead_of=one)
    assert floor == two
    sendings.release(two)
    sendings.release(three)
    four, floor = sendings.add(instead_of=0)
    assert floor == four
    assert len(sendings) == 1
    sendings.clear()
    assert len(sendings) == 0


def test_a_leap_goes_above_what_an_earlier_life_may_have_used() -> None:
    old, _ = SendWindow(2).add(instead_of=0)
    sendings = SendWindow(1)
    first, _ = sendings.add(instead_of=0)
    sendings.skip_ahead()
    second, _ = sendings.add(instead_of=first)
    assert first < old < second


def heard(*serials: tuple[int, int, int]) -> list[bool]:
    """Whether each (serial, floor, chunk) was late."""
    receiver = DuplicateFilter()
    receiver.set_sender(TargetId(1))
    return [receiver.is_late(write(1, number, serial=serial, floor=floor)) for serial, floor, number in serials]


def test_what_is_below_the_floor_is_late_for_any_chunk() -> None:
    assert heard((5, 4, 0), (3, 3, 1), (4, 3, 1)) == [False, True, False]


def test_what_is_older_than_the_last_for_its_chunk_is_late_above_the_floor_too() -> None:
    assert heard((5, 1, 0), (6, 1, 0), (5, 1, 0), (6, 1, 0), (4, 1, 1)) == [False, False, True, False, False]


def test_a_floor_once_heard_never_sinks() -> None:
    assert heard((9, 8, 0), (10, 2, 1), (7, 7, 2)) == [False, False, True]


def test_a_new_predecessor_counts_from_its_own_beginning() -> None:
    receiver = DuplicateFilter()
    receiver.set_sender(TargetId(1))
    assert not receiver.is_late(write(1, serial=100, floor=100))
    receiver.set_sender(TargetId(1))
    assert receiver.is_late(write(1, serial=99, floor=1))
    receiver.set_sender(TargetId(2))
    assert not receiver.is_late(write(1, serial=1, floor=1))


def test_memory_is_bounded_by_what_is_under_way() -> None:
    receiver = DuplicateFilter()
    for serial in range(1, 1000):
        assert not receiver.is_late(write(1, serial, serial=serial, floor=max(1, serial - 10)))
    assert len(receiver._latest) <= 11
    assert len(receiver._order) <= 11


def test_senders_that_number_nothing_are_never_late_and_cost_nothing() -> None:
    receiver = DuplicateFilter()
    for number in range(10):
        assert not receiver.is_late(write(1, number))
    assert not receiver._latest


def test_a_copy_of_what_was_refused_for_want_of_room_is_late() -> None:
    heard = DuplicateFilter()
    heard.set_sender(TargetId(1))
    refused = write(1, version=1, serial=5, floor=5)
    assert not heard.is_late(refused)
    heard.expire_latest(refused.chunk)
    assert heard.is_late(refused)
    assert not heard.is_late(write(2, version=1, serial=6, floor=6))
    assert heard.is_late(refused)
