"""An alarm fires once for a deadline that is far off, however coarsely the loop counts, and at once for one that is near."""

from __future__ import annotations

import asyncio

import pytest

from fs3.base.units import MICROSECOND, MILLISECOND, SECOND
from fs3.runtime.alarm import NEVER, Alarm


class TruncatingLoop(asyncio.SelectorEventLoop):
    """Counts whole milliseconds and may fire up to one early, as uvloop does; `asked` are the delays, in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[float] = []

    def call_later(self, delay, callback, *args, context=None):  # type: ignore[no-untyped-def]
        self.asked.append(delay)
        return super().call_later(delay, callback, *args, context=context)


async def fires_of(due_ns: int) -> list[float]:
    """The delays an alarm asks its loop for."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, TruncatingLoop)
    loop.asked.clear()
    alarm = Alarm(lambda: None)
    alarm.reset(due_ns, 0)
    assert alarm.due_ns == due_ns
    alarm.cancel()
    assert alarm.due_ns == NEVER
    return loop.asked


@pytest.mark.parametrize(
    ("due_ns", "asked_ns"),
    [
        (-1, 0),
        (200 * MICROSECOND, 200 * MICROSECOND),
        (20 * MILLISECOND, 20 * MILLISECOND),
        (300 * MILLISECOND, 301 * MILLISECOND),
        (2 * SECOND, 2 * SECOND + MILLISECOND),
    ],
)
def test_only_what_is_far_off_is_waited_for_a_little_longer(due_ns: int, asked_ns: int) -> None:
    with asyncio.Runner(loop_factory=TruncatingLoop) as runner:
        assert runner.run(fires_of(due_ns)) == [asked_ns / SECOND]
