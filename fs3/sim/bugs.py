"""Planted bugs: mistakes one could make in the replication protocol, each as an exchanged part.

A simulator is trusted as far as it finds them. The product's code knows nothing of this file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fs3.base.ids import ChunkId, ClientId, TargetId
from fs3.base.status import Code
from fs3.core.craq.admission import UNTAGGED, Fence
from fs3.core.craq.effects import DropPending, Effect, Reply
from fs3.core.craq.events import Acked, UpdateReceived
from fs3.core.craq.flight import Flight, Phase
from fs3.core.craq.judge import Judge
from fs3.core.craq.lanes import Lane, ReplicaLimits, Waiting
from fs3.core.craq.reads import decide
from fs3.core.craq.replica import Replica
from fs3.core.craq.sendings import Heard
from fs3.core.craq.view import ChunkView
from fs3.model.chain import Chain
from fs3.model.chunk import ChannelRow, ChunkMeta, Tag, Update, UpdateResult
from fs3.sim.chunk_view import Record, SimChunks
from fs3.sim.target_host import Parts


@dataclass(frozen=True)
class Bug:
    """One planted bug."""

    what: str
    parts: Parts
    seeds: int = 0
    """Within so many seeds it must be found."""
    scenario: str = ""
    """When seeds are slow to find it: the scenario file that it changes."""


def _reply_ok(flight: Flight) -> UpdateResult:
    return UpdateResult(Code.OK, flight.update.version, flight.length, flight.checksum)


# --- replicas --------------------------------------------------------------------------------------------------------


class CommitsBeforeAck(Replica):
    """Commits what it has staged without waiting for the successor."""

    def _staged_here(self, now: int, lane: Lane, out: list[Effect]) -> None:
        if not self.standing.is_last:
            self._forward(now, lane, out)
            self.sendings.over(lane.flight.serial)
        self._commit(now, lane, out)


class AnswersEarly(Replica):
    """Answers when it has staged, not when everybody has."""

    def _forward(self, now: int, lane: Lane, out: list[Effect]) -> None:
        super()._forward(now, lane, out)
        out += [Reply(token, _reply_ok(lane.flight)) for token in lane.flight.askers]
        lane.flight.askers.clear()


class TakesItselfForTail(Replica):
    """No successor, therefore the last: a target that left the live chain commits what it has."""

    def _leave(self, out: list[Effect]) -> None:
        for lane in list(self.lanes.values()):
            if lane.flight.phase is not Phase.STAGING:
                self._commit(0, lane, out)
        super()._leave(out)


class SettlesByItself(Replica):
    """After a restart every serving target commits its pending versions, not only the tail."""

    def _take_off(self, now: int, lane: Lane, out: list[Effect]) -> None:
        if lane.flight.phase is Phase.RESTING and not lane.flight.askers:
            self.lanes[lane.flight.update.chunk] = lane
            self._commit(now, lane, out)
        else:
            super()._take_off(now, lane, out)


class ForgetsWhenLeaving(Replica):
    """What was pending when the target left the live chain is never looked at again."""

    def _leave(self, out: list[Effect]) -> None:
        super()._leave(out)
        self.orphans.clear()


class IgnoresChange(Replica):
    """What was sent under an older chain version is left to its timeout."""

    def _send_again(self, now: int, out: list[Effect]) -> None:
        pass


class TakesBack(Replica):
    """When nobody waits for an update any more, its pending version is dropped and its number given to another."""

    def _overdue(self, now: int, lane: Lane, out: list[Effect]) -> None:
        waited = bool(lane.flight.askers)
        super()._overdue(now, lane, out)
        if waited and not lane.flight.askers and not lane.waiting:
            self.sendings.over(lane.flight.serial)
            out.append(DropPending(lane.flight.update.chunk))
            del self.lanes[lane.flight.update.chunk]


class RowGoesBack(Replica):
    """The channel row is set to whatever was committed last, also when that is older."""

    def _row_tag(self, tag: Tag) -> Tag:
        return tag


class RowOfView(Replica):
    """The channel row is compared with the store's, which does not show yet what the same step committed before."""

    def _row_tag(self, tag: Tag) -> Tag:
        row = self.view.channel(tag.client, tag.channel)
        return UNTAGGED if row is not None and row.seq > tag.seq else tag


class AnyAckCounts(Replica):
    """An answer to any sending of this chunk and version is taken for the answer to the last one."""

    def _counts(self, flight: Flight, event: Acked) -> bool:
        return flight.phase in (Phase.FORWARDING, Phase.RESTING) and flight.update.version == event.version


class ComparesNothing(Replica):
    """What the successor staged is not compared with what is here."""

    def _compare(self, flight: Flight, result: UpdateResult) -> str:
        return ""


class ReadsBeforeOpened(Replica):
    """Reads are served before the store's pending versions were looked at."""

    @property
    def readable_chain(self) -> Chain | None:
        return self.chain


class _Deaf(dict[tuple[ClientId, int], ChannelRow]):
    def __setitem__(self, key: tuple[ClientId, int], value: ChannelRow) -> None:
        pass


class WaitsTwice(Replica):
    """A retry of an update under way waits behind it like any other, and is not looked up again when its turn comes."""

    def _received(self, now: int, event: UpdateReceived, out: list[Effect]) -> None:
        self.judge.just = _Deaf()
        lane = self.lanes.get(event.update.chunk)
        if lane is not None and not event.update.from_target and self.standing.serves:
            lane.wait(Waiting(event.update, [event.token], now + self.limits.flight_deadline_ns))
            self._arm(lane.due_ns)
        else:
            super()._received(now, event, out)


# --- judges ----------------------------------------------------------------------------------------------------------


class ForgetsTags(Judge):
    """No duplicate suppression: the channel rows are not looked at."""

    def channel(self, tag: Tag) -> ChannelRow | None:
        return None


class FencesNothing(Judge):
    """The chain version of an update is not compared."""

    def fence(self, update: Update) -> Fence:
        return Fence.EQUAL


class NeverLate(Heard):
    """A forwarded update that arrives after everything is over is taken for a new one."""

    def is_late(self, update: Update) -> bool:
        return False


class OnlyFloor(Heard):
    """Late is only what the floor covers, which waits for all chunks."""

    def is_late(self, update: Update) -> bool:
        self._latest.clear()
        self._order.clear()
        return super().is_late(update)


def _judged_by(judge: type[Judge], heard: type[Heard] = Heard) -> type[Replica]:
    class Judged(Replica):
        def __init__(self, target_id: TargetId, view: ChunkView, *, incarnation: int, limits: ReplicaLimits) -> None:
            super().__init__(target_id, view, incarnation=incarnation, limits=limits)
            self.judge = judge(target_id, view)
            self.judge.heard = heard()

    return Judged


# --- stores ----------------------------------------------------------------------------------------------------------


class RowsInMemory(SimChunks):
    """Channel rows are kept in memory only."""

    def crash(self, lost: int) -> None:
        super().crash(lost)
        self.rows.clear()


class StagesNoTag(SimChunks):
    """The pending version is stored without its tag."""

    def staged_tag(self, update: Update) -> Tag | None:
        return None


class StagesUnsynced(SimChunks):
    """A stage is answered before its barrier."""

    def __init__(self) -> None:
        super().__init__()
        self._volatile: dict[ChunkId, Record | None] = {}

    def stage(self, update: Update) -> tuple[Code, int, int]:
        self._volatile.setdefault(update.chunk, self.records.get(update.chunk))
        return super().stage(update)

    def barrier_ends(self, mark: int) -> None:
        super().barrier_ends(mark)
        self._volatile.clear()

    def crash(self, lost: int) -> None:
        super().crash(lost)
        for chunk, record in self._volatile.items():
            now = self.records.get(chunk)
            if now is None or not now.meta.pending:
                continue
            if record is None:
                del self.records[chunk]
            else:
                self.records[chunk] = record
        self._volatile.clear()


class ShowsPending(SimChunks):
    """A read is answered with the pending version."""

    def shown(self, chunk: ChunkId) -> tuple[int, bytes]:
        record = self.records[chunk]
        if record.meta.pending and record.pending is not None:
            return record.meta.pending, record.pending
        return record.meta.committed, record.content


# --- reads -----------------------------------------------------------------------------------------------------------


def _reads_while_pending(
    meta: ChunkMeta | None, chain: Chain | None, target: TargetId, version: int, now: int, lease: int
) -> Code:
    code = decide(meta, chain, target, version, now, lease)
    return Code.OK if code is Code.DIRTY and meta is not None and meta.committed else code


def _reads_without_lease(
    meta: ChunkMeta | None, chain: Chain | None, target: TargetId, version: int, now: int, lease: int
) -> Code:
    return decide(meta, chain, target, version, 0, 1)


def _reads_any_version(meta: ChunkMeta | None, chain: Chain | None, target: TargetId, version: int, now: int, lease: int) -> Code:
    return decide(meta, chain, target, chain.version if chain is not None else version, now, lease)


def _replica(kind: type[Replica]) -> Parts:
    return Parts(replica=kind)


BUGS: dict[str, Bug] = {
    "commit_before_ack": Bug("a target commits before its successor has acknowledged", _replica(CommitsBeforeAck), 40),
    "early_ack": Bug("the client is answered before the successors have staged", _replica(AnswersEarly), 40),
    "no_duplicate_suppression": Bug("channel rows are not looked at", _replica(_judged_by(ForgetsTags)), 60),
    "rows_in_memory": Bug("channel rows do not survive a restart", Parts(chunks=RowsInMemory), 100),
    "tag_not_staged": Bug("the pending version is stored without its tag", Parts(chunks=StagesNoTag), 100),
    "waits_twice": Bug("a retry waits behind its own first sending and is applied again", _replica(WaitsTwice), 60),
    "dirty_read": Bug("a read shows the pending version", Parts(chunks=ShowsPending, decide=_reads_while_pending), 150),
    "stale_read": Bug("a read shows the committed version while another is pending", Parts(decide=_reads_while_pending), 200),
    "no_lease": Bug("reads are served after the lease has run out", Parts(decide=_reads_without_lease), 800),
    "reads_before_opened": Bug("a restarted target serves before it has looked", _replica(ReadsBeforeOpened), 600),
    "pendings_forgotten": Bug("pending versions are not looked at after a restart", Parts(opens=False), 60),
    "settles_by_itself": Bug("any restarted target commits its pending versions", _replica(SettlesByItself), 150),
    "no_successor_is_tail": Bug("a target that left the live chain commits", _replica(TakesItselfForTail), 600),
    "forgets_when_leaving": Bug("a target forgets its pending versions when it leaves", _replica(ForgetsWhenLeaving), 150),
    "ignores_change": Bug("flights do not notice a new chain version", _replica(IgnoresChange), 60),
    "takes_back": Bug("a pending version is dropped when nobody waits for it", _replica(TakesBack), 400),
    "takes_late": Bug("late duplicates are taken for new updates", _replica(_judged_by(Judge, NeverLate)), 600),
    "any_ack_counts": Bug("late answers count", _replica(AnyAckCounts), 600),
    "stage_unsynced": Bug("a stage is answered before it is durable", Parts(chunks=StagesUnsynced), 60),
    "only_floor": Bug("only the floor tells what is late", _replica(_judged_by(Judge, OnlyFloor)), scenario="late_duplicates"),
    "row_goes_back": Bug("an older update sets the channel row back", _replica(RowGoesBack), scenario="restart_head"),
    "row_of_view": Bug("two commits of one step do not see each other's channel rows", _replica(RowOfView), scenario="one_step"),
    "no_fence": Bug("chain versions are not compared", _replica(_judged_by(FencesNothing)), scenario="fences"),
    "no_read_fence": Bug("chain versions of reads are not compared", Parts(decide=_reads_any_version), scenario="fences"),
    "no_compare": Bug("replica checksums are not compared", _replica(ComparesNothing), scenario="disagree"),
}

Runner = Callable[[int, Parts], bool]


def first_caught(bug: Bug, caught: Runner, base: int) -> int | None:
    """How many seeds, counted from `base`, it took to catch the bug; None when its budget was not enough."""
    return next((count + 1 for count in range(bug.seeds) if caught(base + count, bug.parts)), None)
