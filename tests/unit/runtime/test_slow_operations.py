"""The slowest operations are kept, so many and for so long."""

from __future__ import annotations

from fs3.base.status import Code
from fs3.base.units import MILLISECOND
from fs3.drivers.os.clock import OsClock
from fs3.model.slow import SlowOperation
from fs3.runtime.slow_operations import (
    SlowOperations,
    slow_operation_ns_min,
    slow_operations_per_window_max,
    slow_windows_max,
)


def operation(ms: int) -> SlowOperation:
    return SlowOperation(0, ms * MILLISECOND, "Storage.Read", Code.OK, "tcp://h:1", ms, ())


def offer(slow: SlowOperations, ms: int) -> None:
    """As the server of calls does."""
    if ms * MILLISECOND >= slow.threshold_ns:
        slow.add(operation(ms))


def test_the_slowest_of_a_window_stay() -> None:
    slow = SlowOperations(OsClock())
    assert slow.threshold_ns == slow_operation_ns_min
    for ms in [5, *range(10, 200), 3]:
        offer(slow, ms)
    kept = [each.request_id for each in slow.read()]
    assert kept == list(range(199, 199 - slow_operations_per_window_max, -1))
    assert slow.threshold_ns == kept[-1] * MILLISECOND


def test_a_bad_minute_does_not_hide_the_next_ones() -> None:
    slow = SlowOperations(OsClock())
    for _ in range(2 * slow_operations_per_window_max):
        offer(slow, 10_000)
    offer(slow, 50)
    assert 50 not in [each.request_id for each in slow.read()]
    slow.begin_window()
    offer(slow, 50)
    assert slow.read()[-1].request_id == 50
    assert len(slow.read()) == slow_operations_per_window_max + 1


def test_what_is_older_than_an_hour_goes() -> None:
    slow = SlowOperations(OsClock())
    for window in range(3 * slow_windows_max):
        offer(slow, 100 + window)
        slow.begin_window()
    assert len(slow.read()) == slow_windows_max - 1
