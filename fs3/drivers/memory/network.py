"""A network inside one process: lanes that carry frames between named hosts, in order, when its policy says so.

It behaves as TCP does as far as programs can tell: what one connection carries in one direction arrives complete and in order, or
the connection breaks. A simulator decides when, by a `LinkPolicy`. Nothing is delivered from within the call that sends it: what
was sent in one turn of the loop arrives together in a later one.

What arrives is handled in the context (`contextvars`) of the side it arrives at: that of the channel's or the listener's making.
Nothing of one side ever runs on behalf of the other, so a simulator can tell by the context which host a callback belongs to.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Final, Protocol

from fs3.base.units import SECOND
from fs3.drivers.rpc.channel import NEVER
from fs3.drivers.rpc.server_call import run_guarded
from fs3.ports.clock import Clock

HOLD: Final = -1
"""Verdict: it stays on the way until `MemoryNetwork.release` asks the policy again. A partition."""
CUT: Final = -2
"""Verdict: the connection breaks; both ends notice. For a connection that is being made: nobody answers."""


class LinkPolicy(Protocol):
    """How a network treats what is sent."""

    def carry(self, source: str, target: str, size: int) -> int:
        """Nanoseconds until `size` bytes that host `source` sends to host `target` now have arrived, HOLD, or CUT.

        Asked once per frame, and with size 0 once per connection that is being made. Frames of one lane never overtake.
        """
        ...


class ImmediateDelivery:
    """Everything arrives in the next turn of the loop."""

    def carry(self, source: str, target: str, size: int) -> int:
        """See `LinkPolicy.carry`."""
        return 0


class _Delivery:
    __slots__ = ("at", "deliver", "on_dropped", "size")

    def __init__(self, size: int, deliver: Callable[[], None], on_dropped: Callable[[], None] | None) -> None:
        self.at = NEVER
        self.size = size
        self.deliver = deliver
        self.on_dropped = on_dropped


class MemoryPipe:
    """One direction of one connection."""

    def __init__(
        self, network: MemoryNetwork, source: str, target: str, on_broken: Callable[[], None], context: Context | None = None
    ) -> None:
        """`broke` is called when the policy cuts the connection; what arrives is delivered in `context`."""
        self.source = source
        self.target = target
        self.queued_bytes = 0
        self.is_closed = False
        self._network = network
        self._on_broken = on_broken
        self._context = context
        self._items: deque[_Delivery] = deque()
        self._last_at = 0
        self._paused = False
        self._due: asyncio.Handle | None = None
        self._due_at = NEVER

    def push(self, size: int, deliver: Callable[[], None], on_dropped: Callable[[], None] | None = None) -> None:
        """Send a frame of `size` bytes: either `deliver` or `dropped` will be called, later."""
        if self.is_closed:
            if on_dropped is not None:
                run_guarded(on_dropped)
            return
        item = _Delivery(size, deliver, on_dropped)
        self._items.append(item)
        self.queued_bytes += size
        self._ask_policy(item)

    def release(self) -> None:
        """Ask the policy again about what is held."""
        for item in list(self._items):
            if item.at >= NEVER and not self.is_closed:
                self._ask_policy(item)

    def pause(self) -> None:
        """Deliver nothing until `resume`."""
        self._paused = True

    def resume(self) -> None:
        """Go on delivering."""
        self._paused = False
        self._schedule()

    def close(self) -> None:
        """Drop what is on the way."""
        self.is_closed = True
        self.queued_bytes = 0
        items, self._items = self._items, deque()
        for item in items:
            if item.on_dropped is not None:
                run_guarded(item.on_dropped)

    def _ask_policy(self, item: _Delivery) -> None:
        verdict = self._network.policy.carry(self.source, self.target, item.size)
        if verdict == CUT:
            asyncio.get_running_loop().call_soon(self._on_broken, context=self._network.context)
        elif verdict != HOLD:
            item.at = self._last_at = max(self._network.clock.now() + verdict, self._last_at)
            self._schedule()

    def _schedule(self) -> None:
        """Arm for the oldest frame; what is behind it cannot overtake."""
        if self._paused or not self._items:
            return
        at = self._items[0].at
        if at >= self._due_at:
            return
        if self._due is not None:
            self._due.cancel()
        loop = asyncio.get_running_loop()
        wait = at - self._network.clock.now()
        self._due_at = at
        if wait > 0:
            self._due = loop.call_later(wait / SECOND, self._deliver, context=self._context)
        else:
            self._due = loop.call_soon(self._deliver, context=self._context)

    def _deliver(self) -> None:
        self._due = None
        self._due_at = NEVER
        now = self._network.clock.now()
        for _ in range(len(self._items)):
            if self._paused or not self._items or self._items[0].at > now:
                break
            item = self._items.popleft()
            self.queued_bytes -= item.size
            item.deliver()
        self._schedule()


class NetworkConnection(Protocol):
    """A connection, as its network knows it."""

    pipes: tuple[MemoryPipe, MemoryPipe]

    def disconnect(self, reason: str) -> None:
        """Both ends notice now."""
        ...

    def on_host_crash(self, host: str) -> None:
        """`host` is no more: its end falls silent, the other one notices."""
        ...


class NetworkListener(Protocol):
    """A listener, as its network knows it."""

    host: str


class MemoryNetwork:
    """Hosts, their listeners ("memory://name") and the connections between them."""

    def __init__(self, clock: Clock, policy: LinkPolicy | None = None) -> None:
        self.clock = clock
        self.context = copy_context()
        """Of what happens on the way, which belongs to no host."""
        self.policy: LinkPolicy = policy or ImmediateDelivery()
        self.listeners: dict[str, NetworkListener] = {}
        """By name."""
        self.connections: dict[NetworkConnection, None] = {}
        self.held_dials: dict[Callable[[], None], None] = {}
        """Connections that are being made and held by the policy."""

    def release(self) -> None:
        """The policy has changed its mind: ask it again about everything it held."""
        for connection in list(self.connections):
            for lane in connection.pipes:
                lane.release()
        dials, self.held_dials = list(self.held_dials), {}
        for dial in dials:
            dial()

    def cut(self, first: str, second: str) -> None:
        """Break every connection between two hosts, in either direction."""
        for connection in list(self.connections):
            if {connection.pipes[0].source, connection.pipes[0].target} == {first, second}:
                connection.disconnect(f"{first} and {second} were cut off from each other")

    def crash(self, host: str) -> None:
        """Power off: the host's listeners are gone and nothing is delivered to it; the others see their connections break."""
        for name in [name for name, door in self.listeners.items() if door.host == host]:
            del self.listeners[name]
        for connection in list(self.connections):
            if host in (connection.pipes[0].source, connection.pipes[0].target):
                connection.on_host_crash(host)
