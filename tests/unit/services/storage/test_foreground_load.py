"""Whether clients wait for the node, on a clock that only moves when somebody sleeps."""

from fs3.base.limits import background_wait_ns_max
from fs3.services.storage.foreground_load import ForegroundLoad, foreground_recent_ns


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
