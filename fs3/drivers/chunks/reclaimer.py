"""When may a block be used again?

Three things keep a block after its chunk has dropped it: the durable index, which still refers to it until the next barrier;
readers that have it pinned; and sockets, which may hold its page-cache pages for a while after `sendfile` said that it was
done (a reply waits there until its client reads it). Blocks pass these in this order, then they are free.

For the sockets there is a time, the *reuse delay*: a block is not written again before it has passed since the last `sendfile`
was done. Alone it does not keep a client from reading it later, one that was stopped for an hour for instance. So readers that
do not verify what they get have a lease of that length, and take no bytes that came later (`fs3.core.craq.block_lease`). A
process that ends takes its account of readers with it, but not what its sockets hold. So the next one acts as if every block had
been sent just before it opened them: before the delay has passed, what is free then is not used, what is retired is not freed,
and nothing is appended in place.

A *guard* is the same for the part of a block behind the committed length. Appends go there in place, unless a version that
was dropped, or a longer one that was cut, may still be found there by a reader or after a crash.
"""

from __future__ import annotations

from collections import deque

from fs3.drivers.chunks.allocator import BlockAllocator
from fs3.drivers.chunks.sizes import block_bytes

Retired = tuple[int, bool]
"""(place, only its guard) that was retired."""


class BlockReclaimer:
    """Pins, guards, and blocks on their way to being free. Times in nanoseconds of one monotonic clock."""

    def __init__(self, allocator: BlockAllocator, reuse_delay_ns: int, opened_at: int | None) -> None:
        """`opened_at`: since then no other process has the blocks; None: none ever had."""
        self._allocator = allocator
        self._reuse_delay_ns = reuse_delay_ns
        self._opened_at = -reuse_delay_ns if opened_at is None else opened_at
        self._is_resting = opened_at is not None
        """Sockets may still hold what the process before this one has sent."""
        self._pins: dict[int, int] = {}
        self._last_pin = 0
        self._readers: dict[int, int] = {}
        """Pins by place."""
        self._guards: dict[int, int] = {}
        """How many reasons there are to guard a place."""
        self._retired: list[Retired] = []
        """Since the last barrier began."""
        self._pinned: dict[int, list[Retired]] = {}
        """Durably retired, but pinned."""
        self._resting: deque[tuple[int, Retired]] = deque()
        """Free from a time on; in the order of time."""
        self._sent: dict[int, int] = {}
        """When the last reader of a place was done, while that is less than the delay ago; in the order of time."""
        self.retired_bytes = 0
        """Of blocks that no chunk refers to and that are not free."""

    # --- readers -----------------------------------------------------------------------------------------------------

    def pin(self, place: int) -> int:
        """A reader begins. Returns its handle."""
        self._last_pin += 1
        self._pins[self._last_pin] = place
        self._readers[place] = self._readers.get(place, 0) + 1
        return self._last_pin

    def unpin(self, pin: int, now: int, *, sent: bool = True) -> None:
        """A reader is done. `sent`: its bytes left by sendfile."""
        place = self._pins.pop(pin)
        left = self._readers[place] - 1
        if sent and self._reuse_delay_ns:
            self._sent.pop(place, None)
            self._sent[place] = now
            self._forget_sent(now)
        if left:
            self._readers[place] = left
            return
        del self._readers[place]
        for retired in self._pinned.pop(place, ()):
            self._delay_or_free(retired, now)

    def _forget_sent(self, now: int) -> None:
        while self._sent:
            place, when = next(iter(self._sent.items()))
            if now - when < self._reuse_delay_ns:
                return
            del self._sent[place]

    @property
    def pin_count(self) -> int:
        """Readers under way."""
        return len(self._pins)

    # --- guards ------------------------------------------------------------------------------------------------------

    def is_guarded(self, place: int) -> bool:
        """Nothing may be appended in place to this block."""
        return self._is_resting or place in self._guards

    def guard(self, place: int) -> None:
        """Keep the part behind the committed length as it is, until `unguard` or until what `retire_guard` waits for is over."""
        self._guards[place] = self._guards.get(place, 0) + 1

    def unguard(self, place: int) -> None:
        """There is one reason less: that part has become the chunk's own."""
        left = self._guards[place] - 1
        if left:
            self._guards[place] = left
        else:
            del self._guards[place]

    # --- retiring ----------------------------------------------------------------------------------------------------

    def retire_block(self, place: int) -> None:
        """No chunk refers to this block any more, but the durable index may until the next barrier."""
        if place >= 0:
            self.retired_bytes += block_bytes(place)
            self._retired.append((place, False))

    def retire_guard(self, place: int) -> None:
        """Only the durable index and readers under way need the guarded part any more."""
        self._retired.append((place, True))

    def take_retired(self) -> list[Retired]:
        """What was retired until now, and will be durably so after the barrier that begins."""
        taken, self._retired = self._retired, []
        return taken

    def put_back(self, retired: list[Retired]) -> None:
        """That barrier failed."""
        self._retired = retired + self._retired

    def reclaim(self, retired: list[Retired], now: int) -> None:
        """The durable index does not refer to these any more."""
        for item in retired:
            if item[0] in self._readers:
                self._pinned.setdefault(item[0], []).append(item)
            else:
                self._delay_or_free(item, now)

    def _delay_or_free(self, retired: Retired, now: int) -> None:
        place, only_guard = retired
        sent = self._sent.get(place, self._opened_at)
        if now - sent < self._reuse_delay_ns or (place in self._guards and not only_guard):
            # Counted from now, not from `sent`: that keeps the queue in order. A guard is retired before its block and leaves
            # before it, so a block that still has one queues up behind it.
            self._resting.append((now + self._reuse_delay_ns, retired))
        else:
            self._free(retired)

    @property
    def rests_until(self) -> int:
        """When what was free at opening may be used."""
        return self._opened_at + self._reuse_delay_ns

    def free_due(self, now: int) -> None:
        """Free what has rested long enough."""
        if self._is_resting and now >= self.rests_until:
            self._is_resting = False
            self._allocator.end_rest()
        while self._resting and self._resting[0][0] <= now:
            self._free(self._resting.popleft()[1])

    def _free(self, retired: Retired) -> None:
        place, only_guard = retired
        if only_guard:
            self.unguard(place)
        else:
            assert place not in self._guards, "a block is freed before its guard"
            self.retired_bytes -= block_bytes(place)
            self._allocator.free(place)
