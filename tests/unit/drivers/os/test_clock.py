"""The real clocks."""

import time

from fs3.drivers.os.clock import OsClock


def test_clocks_are_the_systems() -> None:
    clock = OsClock()
    before, after = time.monotonic_ns(), clock.now()
    assert before <= after <= time.monotonic_ns()
    assert abs(clock.wall() - time.time_ns()) < 10**9
