"""What a simulated target does beside its replica: both sides of a resync, and the repair of chunks whose bytes went bad."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from fs3.base.ids import ChunkId, TargetId
from fs3.base.status import Code
from fs3.core.craq.events import Event, FillRequested, Tick
from fs3.core.craq.replica import Replica
from fs3.core.craq.resync.machine import Resync
from fs3.core.craq.resync.rows import StoreView, compare_ranges, list_rows
from fs3.core.craq.resync.steps import (
    Compare,
    CompareAnswer,
    CopyLost,
    Fill,
    Finish,
    FinishAnswer,
    ListRows,
    ListRowsAnswer,
    MergeAnswer,
    MergeChannels,
    PositionChanged,
    ResyncEffect,
    ResyncEvent,
    ResyncPhase,
)
from fs3.model.chain import Chain
from fs3.model.chunk import ChannelKey, ChannelRow
from fs3.sim.ring1.chunks import SimChunks
from fs3.sim.ring1.messages import Message, ResyncCall, ResyncReply, SimReadAnswer, SimReadCall

_FIRST_REPAIR = 1 << 40
"""Calls of repairs are above those of clients, for people who read traces."""


@dataclass(frozen=True, slots=True)
class MergeJob:
    """Channel rows on their way to the disk, and whom to tell."""

    source: int
    process: int
    request: MergeChannels
    rows: tuple[tuple[ChannelKey, ChannelRow], ...]


class ResyncEnvironment(Protocol):
    """The target around a resync."""

    target: TargetId
    process: int
    chunks: SimChunks
    replica: Replica
    resync: ResyncHost
    query_timeout_ns: int

    @property
    def clock(self) -> int:
        """Its monotonic clock, nanoseconds."""
        ...

    def feed(self, event: Event) -> None:
        """A step of its replica."""
        ...

    def arm(self) -> None:
        """Have the machines called when the first of them wants it."""
        ...

    def add_job(self, job: MergeJob) -> None:
        """For the next barrier of its disk; `ResyncHost.on_merge_durable` is told when that is done."""
        ...

    def send(self, target: int, message: Message) -> None:
        """Put a message of this target on its way."""
        ...

    def call_at(self, due_ns: int, action: Callable[..., None], *arguments: Any) -> None:
        """Call back at a time of its clock, unless it has died."""
        ...

    def record(self, event: ResyncEvent, effects: list[ResyncEffect]) -> None:
        """A step of the resync: for traces and fingerprints."""
        ...

    def on_resync_finished(self) -> None:
        """It has been brought up to date."""
        ...


class ResyncHost:
    """Both sides of a resync at one target."""

    def __init__(self, host: ResyncEnvironment, machine: Resync) -> None:
        self.host = host
        self.machine = machine
        self.rows: StoreView = host.chunks
        """What the predecessor's questions are answered from."""
        self._asked: dict[int, Compare | ListRows | MergeChannels | Finish] = {}

    @property
    def is_idle(self) -> bool:
        """Nobody is brought up to date from here."""
        return self.machine.phase is ResyncPhase.IDLE

    # --- as the source -----------------------------------------------------------------------------------------------

    def on_position_changed(self) -> None:
        """The replica may have another place."""
        self.feed(PositionChanged(self.host.replica.position, len(self.host.chunks.records)))

    def feed(self, event: ResyncEvent) -> None:
        """One step, and what it wants."""
        host = self.host
        effects = self.machine.step(host.clock, event)
        if effects or not isinstance(event, PositionChanged | Tick):
            host.record(event, effects)
        for effect in effects:
            if isinstance(effect, Fill):
                host.feed(FillRequested(effect.chunk, effect.chain_version, effect.damaged_version))
            else:
                self._asked[effect.request] = effect
                host.send(effect.peer.target, ResyncCall(host.process, effect))
                host.call_at(host.clock + host.query_timeout_ns, self._timed_out, effect.request)
        host.arm()

    def on_answer(self, message: ResyncReply) -> None:
        """The successor answers."""
        if message.process == self.host.process and self._asked.pop(message.answer.request, None) is not None:
            self.feed(message.answer)

    def _timed_out(self, request: int) -> None:
        asked = self._asked.pop(request, None)
        if asked is not None:
            self.feed(_refuse(asked, Code.DEADLINE, 0))

    # --- as the successor --------------------------------------------------------------------------------------------

    def serve(self, source: int, message: ResyncCall) -> None:
        """The predecessor asks."""
        host = self.host
        request = message.request
        peer = request.peer
        code = host.replica.check_resync_fence(peer.chain, peer.chain_version, peer.source, peer.incarnation)
        if code is Code.OK and isinstance(request, MergeChannels):
            host.add_job(MergeJob(source, message.process, request, request.rows))
            return
        answer = _refuse(request, code, host.replica.incarnation)
        if code is Code.OK and isinstance(request, Compare):
            answer = CompareAnswer(
                request.request, code, host.replica.incarnation, compare_ranges(self.rows, host.chunks.bad_chunks, request.ranges)
            )
        elif code is Code.OK and isinstance(request, ListRows):
            rows, more = list_rows(self.rows, host.chunks.bad_chunks, request.begin, request.end, request.limit)
            answer = ListRowsAnswer(request.request, code, host.replica.incarnation, rows, more)
        elif isinstance(request, Finish):
            code = host.replica.finish_resync(peer.chain, peer.chain_version, peer.source, peer.incarnation)
            answer = FinishAnswer(request.request, code, host.replica.incarnation)
            if code is Code.OK:
                host.chunks.whole = True
                host.on_resync_finished()
        host.send(source, ResyncReply(message.process, answer))

    def on_merge_durable(self, job: MergeJob) -> None:
        """Rows are durable here."""
        host = self.host
        peer = job.request.peer
        code = host.replica.check_resync_fence(peer.chain, peer.chain_version, peer.source, peer.incarnation)
        answer = MergeAnswer(job.request.request, code, host.replica.incarnation)
        host.send(job.source, ResyncReply(job.process, answer))


def _refuse(
    asked: Compare | ListRows | MergeChannels | Finish, code: Code, incarnation: int
) -> CompareAnswer | ListRowsAnswer | MergeAnswer | FinishAnswer:
    if isinstance(asked, Compare):
        return CompareAnswer(asked.request, code, incarnation)
    if isinstance(asked, ListRows):
        return ListRowsAnswer(asked.request, code, incarnation)
    if isinstance(asked, MergeChannels):
        return MergeAnswer(asked.request, code, incarnation)
    return FinishAnswer(asked.request, code, incarnation)


class Repairs:
    """Bad chunks are fetched from other serving targets: the bytes of the very version that is committed here, or nothing. The
    resync of this target is told of those that none of them has."""

    def __init__(self, host: ResyncEnvironment) -> None:
        self.host = host
        self._call = _FIRST_REPAIR
        self._asked: dict[int, tuple[ChunkId, int, int, int]] = {}
        """What was asked: (chunk, its committed version here, whom, under which chain version)."""
        self._without: dict[tuple[ChunkId, int, int], set[int]] = {}
        """(chunk, version, chain version) -> who has said that it has not its bytes."""

    def ask(self) -> None:
        """Ask another replica for each bad chunk; a different one each time."""
        host = self.host
        chain = host.replica.readable_chain
        if chain is None:
            return
        others = self._others(chain)
        for chunk in list(host.chunks.bad_chunks):
            meta = host.chunks.get(chunk)
            assert meta is not None
            if not others:
                self._tell_lost(chunk, meta.committed)
                continue
            self._call += 1
            other = others[self._call % len(others)]
            self._asked[self._call] = (chunk, meta.committed, other, chain.version)
            host.send(other, SimReadCall(self._call, chunk, chain.version))

    def _others(self, chain: Chain) -> list[TargetId]:
        return [slot.target for slot in chain.serving_slots() if slot.target != self.host.target]

    def _tell_lost(self, chunk: ChunkId, version: int) -> None:
        if self.host.replica.position.serves:
            self.host.resync.feed(CopyLost(chunk, version))

    def take(self, answer: SimReadAnswer) -> None:
        """Another replica has answered."""
        asked = self._asked.pop(answer.call, None)
        if asked is None:
            return
        chunk, version, other, chain_version = asked
        if answer.code is Code.OK:
            self.host.chunks.repair(chunk, answer.version, answer.content)
            return
        chain = self.host.replica.readable_chain
        meta = self.host.chunks.get(chunk)
        is_current = chain is not None and chain.version == chain_version and meta is not None and meta.committed == version
        if answer.code in (Code.CHECKSUM, Code.NOT_FOUND) and chain is not None and is_current:
            without = self._without.setdefault((chunk, version, chain_version), set())
            without.add(other)
            if without.issuperset(self._others(chain)) and chunk in self.host.chunks.bad_chunks:
                self._tell_lost(chunk, version)

    def scrub(self) -> None:
        """Look at every chunk."""
        for chunk in list(self.host.chunks.records):
            self.host.chunks.verify(chunk)
