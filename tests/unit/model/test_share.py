"""What the connections of one principal hold together."""

from __future__ import annotations

import random

import pytest

from fs3.model.share import ByteShare, Limit


class Holder:
    """A connection that holds what it may, and waits for the rest in order."""

    def __init__(self, share: ByteShare, order: list[Holder]) -> None:
        self.share = share
        self.order = order
        self.wanted: int | None = None
        self.held: list[int] = []

    def ask(self, length: int) -> None:
        assert self.wanted is None
        self.wanted = length
        self.on_share_room()

    def on_share_room(self) -> None:
        """See `ShareWaiter.on_share_room`."""
        assert self.wanted is not None
        if self.share.has_room(self.wanted):
            self.share.change(self.wanted)
            self.held.append(self.wanted)
            self.wanted = None
            self.order.append(self)
        else:
            self.share.wait(self.wanted, self)

    def release(self) -> None:
        self.share.change(-self.held.pop())


@pytest.mark.parametrize("seed", range(20))
def test_what_is_held_is_bounded_and_every_one_that_waits_is_served(seed: int) -> None:
    chance = random.Random(seed)
    limited: list[Limit] = []
    share = ByteShare(Limit.REQUEST_BYTES, 100, limited.append)
    order: list[Holder] = []
    holders = [Holder(share, order) for _ in range(10)]
    for _ in range(2000):
        holder = chance.choice(holders)
        match chance.randrange(5):
            case 0 | 1 if holder.wanted is None:
                holder.ask(chance.choice((1, 10, 60, 100, 150)))
            case 2 if holder.wanted is not None:
                share.cancel(holder)
                holder.wanted = None
            case _ if holder.held:
                holder.release()
        held = sum(sum(each.held) for each in holders)
        assert share.held_bytes == held
        assert held <= 100 or sum(len(each.held) for each in holders) == 1, "one that is larger is alone"
        assert share.waiting_count == sum(each.wanted is not None for each in holders)
    while any(each.held for each in holders):
        next(each for each in holders if each.held).release()
    assert not any(each.wanted for each in holders)
    assert (share.held_bytes, share.waiting_count) == (0, 0)
    assert set(limited) == {Limit.REQUEST_BYTES}


def test_the_first_that_waits_is_the_first_that_is_served() -> None:
    share = ByteShare(Limit.REPLY_BYTES, 10)
    order: list[Holder] = []
    first, second, third, fourth = (Holder(share, order) for _ in range(4))
    first.ask(10)
    second.ask(8)
    third.ask(1)
    fourth.ask(2)
    assert order == [first], "a small one does not go before a large one that came earlier"
    first.release()
    assert order == [first, second, third]
    second.release()
    assert order == [first, second, third, fourth]
