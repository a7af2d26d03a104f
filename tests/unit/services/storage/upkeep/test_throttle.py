"""How fast work may go on that nobody waits for, on a clock that only moves when somebody sleeps."""

from fs3.base.limits import throttle_burst_ns
from fs3.base.units import MIB, SECOND
from fs3.services.storage.upkeep.throttle import Throttle


async def test_a_rate_is_within_lease(clock):
    throttle = Throttle(clock)
    begun = clock.time
    for _ in range(100):
        await throttle.take(1 * MIB, 10 * MIB)
    assert clock.time - begun >= 10 * SECOND - throttle_burst_ns - SECOND // 10
    assert clock.time - begun <= 10 * SECOND


async def test_what_was_not_used_is_not_saved_up(clock):
    throttle = Throttle(clock)
    await throttle.take(1 * MIB, 10 * MIB)
    clock.time += 1000 * SECOND
    begun = clock.time
    for _ in range(11):
        await throttle.take(1 * MIB, 10 * MIB)
    assert clock.time - begun >= SECOND - throttle_burst_ns
