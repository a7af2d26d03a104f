"""A clock that only moves when somebody sleeps."""

import asyncio

import pytest

from fs3.base.units import SECOND


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

    monkeypatch.setattr("asyncio.sleep", pass_time)
    return still
