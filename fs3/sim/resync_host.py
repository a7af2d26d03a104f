"""What a simulated target does beside its replica: both sides of a resync, and the repair of chunks whose bytes went bad."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fs3.base.ids import ChunkId
from fs3.base.status import Code
from fs3.core.craq.events import FillAsked, Tick
from fs3.core.craq.resync_rows import ChannelKey, StoreView, compare_ranges, list_rows
from fs3.core.craq.resync_steps import (
    Compare,
    Compared,
    Fill,
    Finish,
    FinishHeard,
    Listed,
    ListRows,
    MergeChannels,
    Merged,
    Placed,
    ResyncEvent,
    ResyncPhase,
)
from fs3.model.chunk import ChannelRow
from fs3.sim.messages import ReadAnswer, ReadCall, ResyncCall, ResyncReply

if TYPE_CHECKING:
    from fs3.sim.target_host import TargetHost

_FIRST_REPAIR = 1 << 40
"""Calls of repairs are above those of clients, for people who read traces."""


@dataclass(frozen=True, slots=True)
class MergeJob:
    """Channel rows on their way to the disk, and whom to tell."""

    source: int
    process: int
    request: MergeChannels
    rows: tuple[tuple[ChannelKey, ChannelRow], ...]


class ResyncHost:
    """Both sides of a resync at one target."""

    def __init__(self, host: TargetHost) -> None:
        self.host = host
        self.machine = host.parts.resync(host.target, host.chunks, host.resync_limits)
        self.rows: StoreView = host.chunks
        """What the predecessor's questions are answered from."""
        self._asked: dict[int, Compare | ListRows | MergeChannels | Finish] = {}

    @property
    def is_idle(self) -> bool:
        """Nobody is brought up to date from here."""
        return self.machine.phase is ResyncPhase.IDLE

    # --- as the source -----------------------------------------------------------------------------------------------

    def placed(self) -> None:
        """The replica may have another place."""
        self.feed(Placed(self.host.replica.standing, len(self.host.chunks.records)))

    def feed(self, event: ResyncEvent) -> None:
        """One step, and what it wants."""
        host = self.host
        effects = self.machine.step(host.clock, event)
        if effects or not isinstance(event, Placed | Tick):
            host.around.note(host, event, effects)
        for effect in effects:
            if isinstance(effect, Fill):
                host.feed(FillAsked(effect.chunk, effect.chain_version))
            else:
                self._asked[effect.request] = effect
                host.around.send(host.target, effect.peer.target, ResyncCall(host.process, effect))
                host.around.call_at(host, host.clock + host.query_timeout_ns, self._timed_out, effect.request)
        host.arm()

    def answered(self, message: ResyncReply) -> None:
        """The successor answers."""
        if message.process == self.host.process and self._asked.pop(message.answer.request, None) is not None:
            self.feed(message.answer)

    def _timed_out(self, request: int) -> None:
        asked = self._asked.pop(request, None)
        if asked is not None:
            self.feed(_refused(asked, Code.DEADLINE, 0))

    # --- as the successor --------------------------------------------------------------------------------------------

    def serve(self, source: int, message: ResyncCall) -> None:
        """The predecessor asks."""
        host = self.host
        request = message.request
        peer = request.peer
        code = host.replica.resync_fence(peer.chain, peer.chain_version, peer.source, peer.incarnation)
        if code is Code.OK and isinstance(request, MergeChannels):
            host.add_job(MergeJob(source, message.process, request, request.rows))
            return
        answer = _refused(request, code, host.replica.incarnation)
        if code is Code.OK and isinstance(request, Compare):
            answer = Compared(
                request.request, code, host.replica.incarnation, compare_ranges(self.rows, host.chunks.bad, request.ranges)
            )
        elif code is Code.OK and isinstance(request, ListRows):
            rows, more = list_rows(self.rows, host.chunks.bad, request.begin, request.end, request.limit)
            answer = Listed(request.request, code, host.replica.incarnation, rows, more)
        elif isinstance(request, Finish):
            code = host.replica.finish_resync(peer.chain, peer.chain_version, peer.source, peer.incarnation)
            answer = FinishHeard(request.request, code, host.replica.incarnation)
            if code is Code.OK:
                host.chunks.whole = True
                host.around.finished(host)
        host.around.send(host.target, source, ResyncReply(message.process, answer))

    def merged(self, job: MergeJob) -> None:
        """Rows are durable here."""
        host = self.host
        peer = job.request.peer
        code = host.replica.resync_fence(peer.chain, peer.chain_version, peer.source, peer.incarnation)
        answer = Merged(job.request.request, code, host.replica.incarnation)
        host.around.send(host.target, job.source, ResyncReply(job.process, answer))


def _refused(
    asked: Compare | ListRows | MergeChannels | Finish, code: Code, incarnation: int
) -> Compared | Listed | Merged | FinishHeard:
    if isinstance(asked, Compare):
        return Compared(asked.request, code, incarnation)
    if isinstance(asked, ListRows):
        return Listed(asked.request, code, incarnation)
    if isinstance(asked, MergeChannels):
        return Merged(asked.request, code, incarnation)
    return FinishHeard(asked.request, code, incarnation)


class Repairs:
    """Bad chunks are fetched from other serving targets: the bytes of the very version that is committed here, or nothing."""

    def __init__(self, host: TargetHost) -> None:
        self.host = host
        self._call = _FIRST_REPAIR
        self._asked: dict[int, ChunkId] = {}

    def ask(self) -> None:
        """Ask another replica for each bad chunk; a different one each time."""
        host = self.host
        chain = host.replica.readable_chain
        if chain is None:
            return
        others = [slot.target for slot in chain.serving() if slot.target != host.target]
        for chunk in list(host.chunks.bad) if others else ():
            self._call += 1
            self._asked[self._call] = chunk
            host.around.send(host.target, others[self._call % len(others)], ReadCall(self._call, chunk, chain.version))

    def take(self, answer: ReadAnswer) -> None:
        """Another replica has answered."""
        chunk = self._asked.pop(answer.call, None)
        if chunk is not None and answer.code is Code.OK:
            self.host.chunks.repair(chunk, answer.version, answer.content)

    def scrub(self) -> None:
        """Look at every chunk."""
        for chunk in list(self.host.chunks.records):
            self.host.chunks.verified(chunk)
