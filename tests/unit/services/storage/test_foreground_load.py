"""How fast work may go on that nobody waits for, on a clock that only moves when somebody sleeps."""

import asyncio

import pytest

from fs3.base.errors import FS3Error
from fs3.base.limits import background_wait_ns_max, throttle_burst_ns
from fs3.base.status import Code
from fs3.base.units import MIB, SECOND
from fs3.services.storage import StorageConfig
from fs3.services.storage.foreground_load import ForegroundLoad, Throttle, foreground_recent_ns


class StillClock:
    """Moves by what is slept."""

    def __init__(self):
        self.time = 1000 * SECOND

    def now(self):
        return self.time


@pytest.fixture
def clock(monkeypatch):
    still = StillClock()
    sleep = asyncio.sleep

    async def pass_time(seconds):
        still.time += round(seconds * SECOND)
        await sleep(0)

    monkeypatch.setattr("fs3.services.storage.foreground_load.asyncio.sleep", pass_time)
    return still


async def test_a_rate_is_kept(clock):
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


async def test_the_foreground_goes_first(clock):
    foreground = ForegroundLoad(clock)
    assert not foreground.is_busy
    begun = clock.time
    await foreground.wait_idle()
    assert clock.time == begun
    foreground.touch()
    assert foreground.is_busy
    await foreground.wait_idle()
    assert begun + foreground_recent_ns <= clock.time < begun + background_wait_ns_max
    assert not foreground.is_busy


async def test_the_background_gets_its_turn_in_the_end(clock):
    foreground = ForegroundLoad(clock)
    begun = clock.time
    foreground.touch()

    class AlwaysBusy(ForegroundLoad):
        @property
        def is_busy(self):
            return True

    await AlwaysBusy(clock).wait_idle()
    assert clock.time - begun >= background_wait_ns_max


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"stop_grace_ms": -1}, "stop_grace_ms"),
        ({"resync_fills_max": 0}, "resync_fills_max"),
        ({"resync_fills_max": 10_000}, "resync_fills_max"),
        ({"resync_bytes_per_second": 5}, "resync_bytes_per_second"),
        ({"scrub_bytes_per_second": -1}, "scrub_bytes_per_second"),
        ({"scrub_interval_s": 1 << 40}, "scrub_interval_s"),
    ],
)
def test_settings_that_make_no_sense_are_named(options, said):
    with pytest.raises(FS3Error, match=said) as caught:
        StorageConfig(**options)
    assert caught.value.code is Code.CONFIG


def test_zero_means_no_limit_and_no_scrub():
    config = StorageConfig(resync_bytes_per_second=0, scrub_bytes_per_second=0, scrub_interval_s=0)
    assert config.enforce_lease
