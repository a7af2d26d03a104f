"""Bringing the successor up to date: the shell of `fs3.core.craq.resync.machine`, one for each target, and what they share on a
node."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from fs3.base.errors import FS3Error
from fs3.base.ids import ChunkId, NodeId, TargetId
from fs3.base.limits import attempt_timeout_ns, background_wait_ns_max
from fs3.base.status import Code
from fs3.base.units import MIB, MILLISECOND, SECOND
from fs3.core.craq.effects import FillDone
from fs3.core.craq.events import Tick
from fs3.core.craq.position import ChainPosition
from fs3.core.craq.resync.machine import Resync
from fs3.core.craq.resync.rows import key_before
from fs3.core.craq.resync.steps import (
    Compare,
    CompareAnswer,
    Fill,
    Finish,
    FinishAnswer,
    ListRows,
    ListRowsAnswer,
    MergeAnswer,
    MergeChannels,
    Pace,
    PositionChanged,
    Progress,
    ResyncEffect,
    ResyncEvent,
    ResyncPhase,
)
from fs3.model.chain import Chain
from fs3.model.method import Method
from fs3.ports.chunk_store import ChunkStore
from fs3.ports.clock import Clock
from fs3.ports.rpc import Channel, Reply
from fs3.services.storage.config import StorageConfig
from fs3.services.storage.foreground_load import ForegroundLoad
from fs3.wire.methods import STORAGE
from fs3.wire.pb import storage_pb2 as pb
from fs3.wire.resync import (
    answer_from_pb,
    compare_reply_from_pb,
    compare_request_to_pb,
    fence_to_pb,
    list_reply_from_pb,
    merge_request_to_pb,
)

log = logging.getLogger("fs3.storage")

resync_rate_ns = 3 * SECOND
"""What the rate of a resync, as people see it, is measured over."""

resync_pace_ns = 100 * MILLISECOND
"""How often the pace of resyncs is set anew."""

resync_background_bytes_max = 4 * MIB
"""The same while the node is asked for other things: one chunk of the usual size at a time, or some small ones, which share the
successor's barrier. Then it rests."""

resync_background_fills_max = 16

resync_targets_max = 4
"""Targets of one process that bring their successors up to date at the same time; the others wait their turn."""

_PAUSED = Pace(0, 0)
_SHARE = 3
"""While somebody waits for the node, some fills are followed by a rest of so many times their duration."""


class ResyncSource:
    """One target as the source of a resync. Idle unless it serves and its successor syncs."""

    def __init__(
        self,
        target: TargetId,
        store: ChunkStore,
        clock: Clock,
        channel: Callable[[NodeId], Channel],
        fill: Callable[[Fill], None],
        on_failure: Callable[[Exception], None],
        scheduler: ResyncScheduler,
        on_request: Callable[[], None],
    ) -> None:
        """`channel` reaches a node or raises FS3Error; `fill` asks the replica of this target for one fill, whose `FillDone`
        comes back by `feed`; `failed` is told when the machine cannot go on; `asked` of every request to the successor."""
        self.target = target
        self._store = store
        self._clock = clock
        self._channel = channel
        self._fill = fill
        self._on_failure = on_failure
        self._scheduler = scheduler
        self._on_request = on_request
        self._machine = Resync(target, store)
        self._node = NodeId(0)
        """Where the successor is."""
        self._calls: set[asyncio.Future[Reply]] = set()
        self._pace = Pace(-1, -1)
        self._is_background = False
        self._rest: asyncio.TimerHandle | None = None
        """There while it rests between two fills."""
        self._fills: dict[ChunkId, int] = {}
        """Fills under way, and when they began."""
        self.last_progress = Progress()
        """The figures of the resync before."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0
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
        calls, self._calls = self._calls, set()
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
        """How much it may do from now on. `background`: after some fills and each answer it rests three times as long as that
        took, so that whoever is waited for has the machine most of the time, however fast the machine is."""
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
            self.feed(_PAUSED)

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
        except Exception as failure:
            self._closed = True
            self._scheduler.remove(self)
            self._on_failure(failure)
            return
        phase = self._machine.phase
        if phase is not self._was:
            self._was = phase
            self._log_phase(phase)
            self._scheduler.reschedule()
        self._arm(now)

    def close(self) -> None:
        """The target stops."""
        self._closed = True
        self._scheduler.remove(self)
        for timer in (self._timer, self._rest):
            if timer is not None:
                timer.cancel()
        self._timer = self._rest = None
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

    def _carry_out(self, effect: ResyncEffect) -> None:
        number = 0 if isinstance(effect, Fill) else effect.request
        match effect:
            case Fill():
                self._fills[effect.chunk] = self._clock.now()
                self._fill(effect)
            case Compare():
                count = len(effect.ranges)

                def compared(reply: pb.CompareRangesReply) -> CompareAnswer:
                    code, incarnation = answer_from_pb(reply.answer)
                    return CompareAnswer(number, code, incarnation, () if code else compare_reply_from_pb(reply, count))

                self._ask(
                    STORAGE.CompareRanges,
                    compare_request_to_pb(effect.peer, effect.ranges),
                    compared,
                    lambda code: CompareAnswer(number, code),
                )
            case ListRows():

                def listed(reply: pb.ListChunksReply) -> ListRowsAnswer:
                    code, incarnation = answer_from_pb(reply.answer)
                    return ListRowsAnswer(number, code, incarnation, () if code else list_reply_from_pb(reply), reply.more)

                request = pb.ListChunksRequest(
                    target_id=effect.peer.target,
                    after=key_before(effect.begin) or b"",
                    until=effect.end,
                    limit=effect.limit,
                    fence=fence_to_pb(effect.peer),
                )
                self._ask(STORAGE.ListChunks, request, listed, lambda code: ListRowsAnswer(number, code))
            case MergeChannels():
                self._ask(
                    STORAGE.MergeChannels,
                    merge_request_to_pb(effect.peer, effect.rows),
                    lambda reply: MergeAnswer(number, *answer_from_pb(reply.answer)),
                    lambda code: MergeAnswer(number, code),
                )
            case Finish():
                self._ask(
                    STORAGE.FinishResync,
                    pb.FinishResyncRequest(fence=fence_to_pb(effect.peer)),
                    lambda reply: FinishAnswer(number, *answer_from_pb(reply.answer)),
                    lambda code: FinishAnswer(number, code),
                )

    def _ask(
        self,
        method: Method,
        request: Any,
        parse: Callable[[Any], ResyncEvent],
        failure: Callable[[Code], ResyncEvent],
    ) -> None:
        """One request to the successor; it is answered with one event, whatever happens."""
        began = self._clock.now()

        def answered(future: asyncio.Future[Reply]) -> None:
            self._calls.discard(future)
            if self._is_background:
                self._rest_after(began)
            if future.cancelled():
                self.feed(failure(Code.CANCELLED))
                return
            try:
                event = parse(future.result().message)
            except FS3Error as problem:
                event = failure(problem.code)
            self.feed(event)

        self._on_request()
        try:
            call = self._channel(self._node).start(method, request, (), None, attempt_timeout_ns)
        except FS3Error as problem:
            asyncio.get_running_loop().call_soon(self.feed, failure(problem.code))
            return
        self._calls.add(call)
        call.add_done_callback(answered)

    def _arm(self, now: int) -> None:
        due = self._machine.next_deadline()
        if due is None or (self._timer is not None and self._timer_at <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = asyncio.get_running_loop().call_later(max(0, due - now) / SECOND, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.feed(Tick())


class ResyncScheduler:
    """Which targets of a node may bring their successors up to date now, and how fast: a few at a time, in the order they began,
    and slowly while somebody waits for the node. One timer, only while there is a resync."""

    def __init__(self, clock: Clock, foreground: ForegroundLoad, config: Callable[[], StorageConfig]) -> None:
        self._clock = clock
        self._foreground = foreground
        self._config = config
        self._sources: dict[ResyncSource, deque[tuple[int, int]]] = {}
        """Those that have somebody to bring up to date, oldest first, with (when, bytes moved so far) of the last moments."""
        self._timer: asyncio.TimerHandle | None = None
        self._is_rescheduling = False

    def add(self, source: ResyncSource) -> None:
        """The successor of this target syncs."""
        self._sources.setdefault(source, deque())
        self.reschedule()

    def remove(self, source: ResyncSource) -> None:
        """It does not any more."""
        if self._sources.pop(source, None) is not None:
            self.reschedule()

    def measure_rate(self, source: ResyncSource) -> int:
        """Bytes per second of the last moments."""
        samples = self._sources.get(source)
        if not samples or samples[-1][0] <= samples[0][0]:
            return 0
        return (samples[-1][1] - samples[0][1]) * SECOND // (samples[-1][0] - samples[0][0])

    def reschedule(self) -> None:
        """Set everybody's pace."""
        if self._is_rescheduling:
            return  # a source that was told its pace has gone on to its next phase
        self._is_rescheduling = True
        try:
            self._set_paces()
        finally:
            self._is_rescheduling = False
        if self._sources and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(resync_pace_ns / SECOND, self._on_timer)

    def close(self) -> None:
        """The node stops."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._sources.clear()

    def _on_timer(self) -> None:
        self._timer = None
        now = self._clock.now()
        for source, samples in list(self._sources.items()):
            if source.phase is ResyncPhase.IDLE:
                del self._sources[source]
                continue
            progress = source.progress
            if samples and progress.bytes_moved < samples[-1][1]:
                samples.clear()  # it has begun anew
            samples.append((now, progress.bytes_moved))
            while samples[0][0] < now - resync_rate_ns:
                samples.popleft()
        self.reschedule()

    def _set_paces(self) -> None:
        config = self._config()
        background = self._foreground.is_busy
        rate = config.resync_bytes_per_second
        full = Pace(config.resync_fills_max, rate)
        if background:
            full = Pace(min(config.resync_fills_max, resync_background_fills_max), rate, resync_background_bytes_max)
        places = 1 if background else resync_targets_max
        for source in list(self._sources):
            if source.phase is ResyncPhase.FINISHING:
                source.set_pace(Pace(1, rate))
                continue
            if places > 0:
                source.set_pace(full, background=background)
            else:
                source.set_pace(_PAUSED)
            places -= 1
