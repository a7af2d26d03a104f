"""Bringing the successor up to date: the shell of `fs3.core.craq.resync.machine`, one for each target."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Protocol

from fs3.base.errors import FS3Error
from fs3.base.ids import ChunkId, NodeId, TargetId
from fs3.base.limits import attempt_timeout_ns, background_wait_ns_max
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.core.craq.effects import FillDone
from fs3.core.craq.events import Tick
from fs3.core.craq.position import ChainPosition
from fs3.core.craq.resync.machine import Resync
from fs3.core.craq.resync.steps import (
    Fill,
    Pace,
    PositionChanged,
    Progress,
    ResyncEffect,
    ResyncEvent,
    ResyncPhase,
)
from fs3.model.chain import Chain
from fs3.ports.chunk_store import ChunkStore
from fs3.ports.rpc import Reply
from fs3.runtime.alarm import Alarm
from fs3.services.storage.node_context import NodeContext
from fs3.services.storage.resync.requests import SuccessorRequest, request_of
from fs3.services.storage.resync.scheduler import PAUSED, ResyncScheduler

log = logging.getLogger("fs3.storage")

_SHARE = 3
"""While clients wait for the node, some fills are followed by a rest of so many times their duration."""


class ResyncOwner(Protocol):
    """The target that brings its successor up to date."""

    def ask_fill(self, fill: Fill) -> None:
        """Ask the replica for one fill; its `FillDone` comes back by `ResyncSource.feed`."""
        ...

    def on_successor_request(self) -> None:
        """Something is asked of the successor now."""
        ...

    def fail(self, failure: Exception) -> None:
        """The machine of the resync cannot go on."""
        ...


class ResyncSource:
    """One target as the source of a resync. Idle unless it serves and its successor syncs."""

    def __init__(
        self,
        target: TargetId,
        store: ChunkStore,
        context: NodeContext,
        scheduler: ResyncScheduler,
        owner: ResyncOwner,
    ) -> None:
        self.target = target
        self._store = store
        self._context = context
        self._clock = context.clock
        self._scheduler = scheduler
        self._owner = owner
        self._machine = Resync(target, store)
        self._node = NodeId(0)
        """Where the successor is."""
        self._calls: dict[asyncio.Future[Reply], None] = {}
        """Requests under way, in the order they were sent."""
        self._pace = Pace(-1, -1)
        self._is_background = False
        self._rest: asyncio.TimerHandle | None = None
        """There while it rests between two fills."""
        self._fills: dict[ChunkId, int] = {}
        """Fills under way, and when they began."""
        self.last_progress = Progress()
        """The figures of the resync before."""
        self._alarm = Alarm(self._on_alarm)
        self._closed = False
        self._was = ResyncPhase.IDLE

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return self._machine.progress

    @property
    def phase(self) -> ResyncPhase:
        """What it is at."""
        return self._machine.phase

    def describe(self) -> str:
        """One line, for people."""
        return self._machine.describe()

    def on_position_changed(self, chain: Chain | None, position: ChainPosition) -> None:
        """The target has another place in its chain: what was under way belongs to the past."""
        calls, self._calls = self._calls, {}
        for call in calls:
            call.cancel()
        if self._machine.phase is not ResyncPhase.IDLE:
            self.last_progress = self._machine.progress
        successor = chain.successor(self.target) if chain is not None else None
        self._node = successor.node if successor is not None else NodeId(0)
        if position.serves and position.successor_syncs:
            self._scheduler.add(self)
        else:
            self._scheduler.remove(self)
        self.feed(PositionChanged(position, self._store.get_space().chunks))

    def set_pace(self, pace: Pace, *, background: bool = False) -> None:
        """See `ScheduledResync`."""
        self._is_background = background
        if not background and self._rest is not None:
            self._rest.cancel()
            self._rest = None
        if pace != self._pace:
            self._pace = pace
            if self._rest is None:
                self.feed(pace)

    def _rest_after(self, began: int) -> None:
        """Gently: let others have the machine for a while."""
        took = self._clock.now() - began
        if self._closed:
            return
        rest = min(_SHARE * took, background_wait_ns_max)
        if self._rest is None and self._pace.fills_max and rest > 0:
            self._rest = asyncio.get_running_loop().call_later(rest / SECOND, self._on_rest_over)
            self.feed(PAUSED)

    def _on_rest_over(self) -> None:
        self._rest = None
        self.feed(self._pace)

    def feed(self, event: ResyncEvent) -> None:
        """One step of the machine, and what it wants."""
        if self._closed:
            return
        now = self._clock.now()
        began = self._fills.pop(event.chunk, now) if isinstance(event, FillDone) else now
        if self._is_background and began < now:
            self._rest_after(began)
        try:
            for effect in self._machine.step(now, event):
                self._carry_out(effect)
        except Exception as failure:  # a mistake in the machine: its target can no longer be trusted
            self._closed = True
            self._scheduler.remove(self)
            self._owner.fail(failure)
            return
        phase = self._machine.phase
        if phase is not self._was:
            self._was = phase
            self._log_phase(phase)
            self._scheduler.reschedule()
        self._alarm.set(self._machine.next_deadline(), now)

    def close(self) -> None:
        """The target stops."""
        self._closed = True
        self._scheduler.remove(self)
        self._alarm.cancel()
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        for call in self._calls:
            call.cancel()

    def _log_phase(self, phase: ResyncPhase) -> None:
        progress = self._machine.progress
        if phase is ResyncPhase.CHUNKS:
            log.info("target %d brings target %d up to date", self.target, progress.target)
        elif phase is ResyncPhase.FINISHING:
            log.info(
                "target %d: target %d has everything now: %d chunks compared, %d filled, %d removed, %d bytes moved",
                self.target, progress.target, progress.chunks_done, progress.fills, progress.removals, progress.bytes_moved,
            )  # fmt: skip
            if progress.damaged:
                what = "chunks are damaged on every target that serves"
                log.warning("target %d: %d %s, and now on target %d", self.target, progress.damaged, what, progress.target)

    def _carry_out(self, effect: ResyncEffect) -> None:
        if isinstance(effect, Fill):
            self._fills[effect.chunk] = self._clock.now()
            self._owner.ask_fill(effect)
        else:
            self._send(request_of(effect))

    def _send(self, request: SuccessorRequest) -> None:
        """One request to the successor; it is answered with one event, whatever happens."""
        began = self._clock.now()
        self._owner.on_successor_request()
        try:
            channel = self._context.channel_to(self._node)
            call = channel.start(request.method, request.make_message(), (), None, attempt_timeout_ns)
        except FS3Error as problem:
            # Not at once: the machine is in the middle of a step.
            asyncio.get_running_loop().call_soon(self.feed, request.on_failure(problem.code))
            return
        self._calls[call] = None
        call.add_done_callback(partial(self._on_answer, request, began))

    def _on_answer(self, request: SuccessorRequest, began: int, call: asyncio.Future[Reply]) -> None:
        self._calls.pop(call, None)
        if self._is_background:
            self._rest_after(began)
        if call.cancelled():
            self.feed(request.on_failure(Code.CANCELLED))
            return
        try:
            event = request.on_reply(call.result().message)
        except FS3Error as problem:
            event = request.on_failure(problem.code)
        self.feed(event)

    def _on_alarm(self) -> None:
        self.feed(Tick())
