"""A path that dies and comes back, for minutes of virtual time: the product's two ends of one (`fs3.drivers.rdma.path`), over
devices that are none and a stream between them.

Both ends send payloads all the while, each by the path if there is one. Links go down, devices stop answering, ports lose their
state, for a moment or for most of a minute; in the end all is well. What must hold:

1. every payload arrives once, with its bytes, within `late_ns`, whatever becomes of the path meanwhile;
2. no more paths are asked for than one in `PathSettings.retry_ns`;
3. once all is well there is a path again, `back_ns` later at the latest, and payloads travel by it;
4. in the end nothing is lent, and no memory is held.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from fs3.base.prng import Prng
from fs3.base.units import KIB, MILLISECOND, SECOND
from fs3.drivers.framed.bulk_path import FetchedBytes
from fs3.drivers.rdma.path import RdmaPath
from fs3.drivers.rdma.settings import PathSettings, RdmaHost
from fs3.sim.fabric import FakeFabric, FakePort, FakeVerbs, write_sysfs
from fs3.sim.one_sided import Violation
from fs3.sim.ring2.clock import SimClock
from fs3.sim.ring2.loop import SimLoop
from fs3.sim.ring2.story import Story
from fs3.wire.paths import unpack_offer

late_ns = 1 * SECOND
"""A payload arrives sooner, also when the path dies under it."""
stream_ns_max = 5 * MILLISECOND
"""A message on the stream takes so long at most."""
trouble_ns = 150 * SECOND
"""Until then there may be trouble."""
payload_every_ns = 800 * MILLISECOND
"""The mean, of one end."""

_SETTINGS = PathSettings()
back_ns = _SETTINGS.retry_ns + 5 * SECOND
"""It may have been asked for just before all was well; then a payload has to come, and the path to be proved."""


class _PathEnd:
    """One end: its host, its path, and what it sends."""

    def __init__(self, world: RecoveryWorld, number: int, directory: Path) -> None:
        port = FakePort(f"rxe{number}", f"0000:0000:0000:0000:0000:ffff:0a00:{number:04x}", netdev=f"eth{number}")
        world.fabric.add(port)
        self._world = world
        self._is_client = number == 1
        self.sysfs = write_sysfs(directory / str(number), [port])
        self.state = self.sysfs / port.device / "ports" / "1" / "state"
        self.host = RdmaHost(SimClock(world.loop), _SETTINGS, lambda: FakeVerbs(world.fabric), sysfs=self.sysfs)
        self.path = RdmaPath(self.host, f"end {3 - number}", self._send_message, is_client=self._is_client)
        self.other: _PathEnd
        self.asked_at: list[int] = []
        self._stream_at = 0
        self._number = 0
        self._open: dict[int, tuple[bytes, int]] = {}
        """What was sent and has not arrived: its bytes, and when."""

    def send(self, what: Callable[[], None]) -> None:
        """On the stream, which keeps its order."""
        world = self._world
        self._stream_at = max(self._stream_at, world.loop.now + 1 + world.prng.below(stream_ns_max))
        world.loop.call_later((self._stream_at - world.loop.now) / SECOND, what)

    def _send_message(self, step: int, header: bytes) -> None:
        self.send(lambda: self.other.path.on_message(step, header))

    def send_payload(self) -> None:
        """One more."""
        self._number += 1
        number = self._number
        data = bytes((number * 37 + index * 11) % 251 for index in range(1 + self._world.prng.below(4 * KIB)))
        self._open[number] = (data, self._world.loop.now)
        if self._is_client and self.path.should_ask():
            self.asked_at.append(self._world.loop.now)
            self._world.story.say("client", "asks for a path")
            self.send(self.other.path.on_asked)
        offer = self.path.lend(number, (data,), len(data))
        if offer is None:
            self.send(lambda: self.arrive(number, data, by_path=False))
        else:
            self.send(lambda: self.other.on_offer(number, offer))

    def on_offer(self, number: int, offer: bytes) -> None:
        """The other end lends a payload."""
        regions, _ = unpack_offer(offer)

        def fetched(arrived: FetchedBytes | None) -> None:
            if arrived is None:
                self.send(lambda: self.other.on_refused(number))
                return
            data = bytes(arrived.view)
            arrived.release()
            self.other.arrive(number, data, by_path=True)
            self.send(lambda: self.other.path.on_taken(number))

        self.path.fetch(regions, fetched)

    def on_refused(self, number: int) -> None:
        """What was lent has to be sent."""
        slot = self.path.on_refused(number)
        data = bytes(slot.view)
        slot.release()
        self.send(lambda: self.arrive(number, data, by_path=False))

    def arrive(self, number: int, data: bytes, *, by_path: bool) -> None:
        """A payload of this end is where it was sent to. Raises Violation."""
        world = self._world
        sent = self._open.pop(number, None)
        if sent is None:
            world.fail(f"payload {number} arrived twice")
        elif sent[0] != data:
            world.fail(f"payload {number} arrived with other bytes")
        else:
            world.arrived += 1
            if by_path:
                world.by_path_at.append(world.loop.now)

    def check(self) -> None:
        """Nothing is on its way for too long. Raises Violation."""
        now = self._world.loop.now
        for number, (_, sent_at) in self._open.items():
            if now - sent_at > late_ns:
                raise Violation(f"payload {number} has not arrived {late_ns / SECOND:g} s after it was sent")
            break  # the oldest


class RecoveryWorld:
    """Two ends and what is between them."""

    def __init__(self, loop: SimLoop, seed: int, directory: Path, story: Story) -> None:
        """`directory`: an empty one, for what the kernel would list of the devices."""
        self.loop = loop
        self.story = story
        self.prng = Prng(seed)
        self.fabric = FakeFabric(tells_events=False)
        self.arrived = 0
        """Payloads."""
        self.by_path_at: list[int] = []
        """When payloads arrived by a path."""
        self.deaths = 0
        """Paths that had carried payloads, and carry none any more."""
        self.healed_at = 0
        self._failures: list[str] = []
        self.ends = [_PathEnd(self, number, directory) for number in (1, 2)]
        self.ends[0].other, self.ends[1].other = self.ends[1], self.ends[0]

    def fail(self, what: str) -> None:
        """Something that must hold does not. Kept, since what calls may be the event loop."""
        self._failures.append(what)

    async def run(self) -> None:
        """From the first payload to the end. Raises Violation."""
        senders = [asyncio.ensure_future(self._send_from(end)) for end in self.ends]
        while self.loop.now < trouble_ns:
            await self._wait(self.prng.below(60 * SECOND))
            was_up = bool(self.ends[0].path.describe()[0])
            await self._make_trouble()
            self.deaths += was_up and not self.ends[0].path.describe()[0]
        self.healed_at = self.loop.now
        await self._wait(back_ns)
        if not self.ends[0].path.describe()[0]:
            raise Violation(f"there is no path {back_ns / SECOND:g} s after all was well: {self.ends[0].path.describe()[1]}")
        was = len(self.by_path_at)
        await self._wait(20 * payload_every_ns)
        if len(self.by_path_at) == was:
            raise Violation("there is a path, and no payload travels by it")
        for sender in senders:
            sender.cancel()
        await asyncio.gather(*senders, return_exceptions=True)
        await self._wait(late_ns)
        self._check_asked()
        for end in self.ends:
            end.path.close()
            if end.host.pool.held_bytes:
                raise Violation(f"{end.host.pool.held_bytes} bytes of memory are held in the end")

    async def _send_from(self, end: _PathEnd) -> None:
        while True:
            end.send_payload()
            await asyncio.sleep(self.prng.below(2 * payload_every_ns) / SECOND)

    async def _make_trouble(self) -> None:
        """Of one kind, for a while."""
        end = self.ends[self.prng.below(2)]
        port = self.fabric.ports[self.prng.below(2)]
        kind = self.prng.below(3)
        if kind == 0:
            port.is_connected = False
        elif kind == 1:
            self.fabric.is_unresponsive = True
        else:  # as a cable that is pulled out: the kernel says so, and what is under way fails
            port.is_connected = False
            end.state.write_text("1: DOWN\n")
        self.story.say("network", ("a link goes down", "no device answers", "a cable is pulled out")[kind])
        await self._wait(MILLISECOND + self.prng.below((1, 3, 40)[self.prng.below(3)] * SECOND))
        self.story.say("network", "all is well")
        port.is_connected = True
        self.fabric.is_unresponsive = False
        end.state.write_text("4: ACTIVE\n")

    async def _wait(self, how_long_ns: int) -> None:
        """So long, and everything is looked at meanwhile. Raises Violation."""
        until = self.loop.now + how_long_ns
        while self.loop.now < until:
            await asyncio.sleep(min(100 * MILLISECOND, until - self.loop.now) / SECOND)
            if self._failures:
                raise Violation(self._failures[0])
            for end in self.ends:
                end.check()

    def _check_asked(self) -> None:
        asked = self.ends[0].asked_at
        for before, after in pairwise(asked):
            if after - before < _SETTINGS.retry_ns:
                raise Violation(f"a path was asked for {(after - before) / SECOND:.3g} s after the last time")
