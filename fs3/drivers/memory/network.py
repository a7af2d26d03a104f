"""A network inside one process: pipes that carry frames between named hosts, in order, when its policy says so.

It behaves as TCP does as far as programs can tell: what one connection carries in one direction arrives complete and in order, or
the connection breaks. A simulator decides when, by a `LinkPolicy`. Nothing is delivered from within the call that sends it: what
was sent in one turn of the loop arrives together in a later one.

What arrives is handled in the context (`contextvars`) of the side it arrives at: that of the channel's or the listener's making.
Nothing of one side ever runs in the other's context, so a simulator can tell by the context which host a callback belongs to.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Final, Protocol

from fs3.base.units import NEVER, SECOND
from fs3.drivers.rpc.server_call import run_guarded
from fs3.ports.clock import Clock

HOLD: Final = -1
"""Verdict: it stays on the way until `MemoryNetwork.release` asks the policy again. A partition."""
CUT: Final = -2
"""Verdict: the connection breaks; both ends notice. For a connection that is being made: no host answers."""


class LinkPolicy(Protocol):
    """How a network treats what is sent."""

    def carry(self, source: str, target: str, size: int) -> int:
        """Nanoseconds until `size` bytes that host `source` sends to host `target` now have arrived, HOLD, or CUT.

        Asked once per frame, and with size 0 once per connection that is being made. Frames of one pipe never overtake.
        """
        ...


class ImmediateDelivery:
    """Everything arrives in the next turn of the loop."""

    def carry(self, source: str, target: str, size: int) -> int:
        """See `LinkPolicy.carry`."""
        return 0


class MemoryFrame:
    """Something on its way through a pipe. Exactly one of `deliver` and `drop` is called, once."""

    __slots__ = ("arrives_at", "size")

    def __init__(self, size: int) -> None:
        """`size`: bytes it would have on a wire."""
        self.size = size
        self.arrives_at = NEVER
        """`NEVER` while the policy holds it."""

    def deliver(self) -> None:
        """It arrives; runs in the context of the side it arrives at."""
        raise NotImplementedError

    def drop(self) -> None:
        """It is lost with its connection."""


class MemoryPipe:
    """One direction of one connection."""

    def __init__(self, network: MemoryNetwork, connection: NetworkConnection, source: str, target: str, context: Context) -> None:
        """From host `source` to host `target`; what arrives is delivered in `context`."""
        self.source = source
        self.target = target
        self.queued_bytes = 0
        self.is_closed = False
        self._network = network
        self._connection = connection
        self._context = context
        self._frames: deque[MemoryFrame] = deque()
        self._last_at = 0
        self._paused = False
        self._due: asyncio.Handle | None = None
        self._due_at = NEVER

    def push(self, frame: MemoryFrame) -> None:
        """Send a frame. It arrives in a later turn of the loop; a closed pipe drops it at once."""
        if self.is_closed:
            run_guarded(frame.drop)
            return
        self._frames.append(frame)
        self.queued_bytes += frame.size
        self._ask_policy(frame)

    def release(self) -> None:
        """Ask the policy again about what is held."""
        for frame in list(self._frames):
            if frame.arrives_at >= NEVER and not self.is_closed:
                self._ask_policy(frame)

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
        frames, self._frames = self._frames, deque()
        for frame in frames:
            run_guarded(frame.drop)

    def _ask_policy(self, frame: MemoryFrame) -> None:
        verdict = self._network.policy.carry(self.source, self.target, frame.size)
        if verdict == CUT:
            asyncio.get_running_loop().call_soon(self._connection.on_cut, context=self._network.context)
        elif verdict != HOLD:
            frame.arrives_at = self._last_at = max(self._network.clock.now() + verdict, self._last_at)
            self._schedule()

    def _schedule(self) -> None:
        """Arm for the oldest frame; what is behind it cannot overtake.

        Not an `Alarm`: what is due now leaves by `call_soon`, and the pipe's own context must be the one that delivers.
        """
        if self._paused or not self._frames:
            return
        at = self._frames[0].arrives_at
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
        for _ in range(len(self._frames)):  # what is sent meanwhile arrives in a later turn
            if self._paused or not self._frames or self._frames[0].arrives_at > now:
                break
            frame = self._frames.popleft()
            self.queued_bytes -= frame.size
            frame.deliver()
        self._schedule()


class NetworkConnection(Protocol):
    """A connection, as its network knows it."""

    pipes: tuple[MemoryPipe, MemoryPipe]

    def on_cut(self) -> None:
        """The policy breaks it: both ends notice."""
        ...

    def disconnect(self, reason: str) -> None:
        """End it for `reason`: both ends notice."""
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
            for pipe in connection.pipes:
                pipe.release()
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
        for name in [name for name, listener in self.listeners.items() if listener.host == host]:
            del self.listeners[name]
        for connection in list(self.connections):
            if host in (connection.pipes[0].source, connection.pipes[0].target):
                connection.on_host_crash(host)
