"""Closing in good order: a grace for what is under way."""

import asyncio
import time

from fs3.base.units import MILLISECOND, SECOND
from fs3.drivers.rpc.drain import Drain


class Owner:
    """A listener with calls under way."""

    def __init__(self, calls: int) -> None:
        self.calls = calls
        self.drain = Drain(self)

    @property
    def is_idle(self) -> bool:
        return not self.calls

    def end_call(self) -> None:
        self.calls -= 1
        self.drain.on_progress()


async def test_it_ends_with_the_last_call() -> None:
    owner = Owner(2)
    waiting = asyncio.ensure_future(owner.drain.wait(60 * SECOND))
    await asyncio.sleep(0)
    owner.end_call()
    await asyncio.sleep(0.01)
    assert not waiting.done()
    owner.end_call()
    await asyncio.wait_for(waiting, 10)


async def test_a_call_that_does_not_end_takes_the_grace_and_no_more() -> None:
    began = time.monotonic_ns()
    await Owner(1).drain.wait(30 * MILLISECOND)
    assert time.monotonic_ns() - began >= 29 * MILLISECOND


async def test_without_a_grace_or_a_call_there_is_nothing_to_wait_for() -> None:
    for owner, grace_ns in ((Owner(1), 0), (Owner(0), 60 * SECOND)):
        waiting = owner.drain.wait(grace_ns)
        try:
            waiting.send(None)  # to its end in one step, without the loop
        except StopIteration:
            continue
        raise AssertionError("it has waited")


async def test_lingering_is_part_of_the_grace() -> None:
    began = time.monotonic_ns()
    await Owner(0).drain.wait(60 * SECOND, linger_ns=20 * MILLISECOND)
    assert time.monotonic_ns() - began >= 19 * MILLISECOND
    await asyncio.wait_for(Owner(0).drain.wait(20 * MILLISECOND, linger_ns=60 * SECOND), 10)


async def test_two_who_close_both_wait() -> None:
    owner = Owner(1)
    short = asyncio.ensure_future(owner.drain.wait(10 * MILLISECOND))
    long = asyncio.ensure_future(owner.drain.wait(60 * SECOND))
    await asyncio.wait_for(short, 10)
    assert not long.done()
    owner.end_call()
    await asyncio.wait_for(long, 10)
