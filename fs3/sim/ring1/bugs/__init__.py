"""Planted bugs: mistakes one could make in the replication protocol, each as an exchanged part.

A simulator is trusted as far as it finds them. The product's code knows nothing of this package. Mistakes in what is above the
machines (a collector of garbage against a reader's pin, the repair of lengths against a writer) are planted in ring 2, those of
the store on files in ring 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fs3.core.craq.admission.admitter import Admitter
from fs3.core.craq.flights import Flights
from fs3.core.craq.replica import Replica
from fs3.sim.ring1.bugs import admitters, members, replicas, resyncs, stores
from fs3.sim.ring1.swarm import ChainSwarm, with_rollbacks
from fs3.sim.ring1.target_host import Parts


@dataclass(frozen=True)
class ProtocolBug:
    """One planted bug."""

    what: str
    parts: Parts
    seeds: int = 0
    """Within so many seeds it must be found."""
    focus: Callable[[ChainSwarm], ChainSwarm] | None = None
    """Turns a drawn run into one of the kind of trouble that it shows in."""
    scenario: str = ""
    """When seeds are slow to find it: the scenario file that it changes."""

    @property
    def arranged(self) -> str:
        """The scenario, as documents name it; "" without one."""
        return f"scenario `{self.scenario}`" if self.scenario else ""


def _replica(kind: type[Replica]) -> Parts:
    return Parts(replica=kind)


def _flights(kind: type[Flights]) -> Parts:
    return Parts(flights=kind)


BUGS: dict[str, ProtocolBug] = {
    "commit_before_ack": ProtocolBug(
        "a target commits before its successor has acknowledged", _flights(replicas.CommitsBeforeAck), 40
    ),
    "early_ack": ProtocolBug("the client is answered before the successors have staged", _flights(replicas.AnswersEarly), 40),
    "no_duplicate_suppression": ProtocolBug(
        "channel rows are not looked at", _flights(admitters.with_admitter(admitters.ForgetsTags)), 60
    ),
    "forgets_answers": ProtocolBug(
        "that a client was told EXISTS or NO_SPACE is not remembered",
        _flights(admitters.with_admitter(admitters.ForgetsAnswers)),
        scenario="page_exists",
    ),
    "rows_in_memory": ProtocolBug("channel rows do not survive a restart", Parts(chunks=stores.RowsInMemory), 100),
    "tag_not_staged": ProtocolBug("the pending version is stored without its tag", Parts(chunks=stores.StagesNoTag), 100),
    "waits_twice": ProtocolBug(
        "a retry waits behind its own first sending and is applied again", _flights(replicas.WaitsTwice), 60
    ),
    "dirty_read": ProtocolBug(
        "a read shows the pending version", Parts(chunks=stores.ShowsPending, answer=stores.reads_while_pending), 60
    ),
    "stale_read": ProtocolBug(
        "a read shows the committed version while another is pending", Parts(answer=stores.reads_while_pending), 400
    ),
    "no_lease": ProtocolBug("reads are served after the lease has run out", Parts(gate=stores.reads_without_lease), 200),
    "reads_before_opened": ProtocolBug(
        "a restarted target serves before it has looked", _replica(replicas.ReadsBeforeOpened), 2000
    ),
    "pendings_forgotten": ProtocolBug("pending versions are not looked at after a restart", Parts(tells_pending=False), 60),
    "settles_by_itself": ProtocolBug("any restarted target commits its pending versions", _flights(replicas.SettlesByItself), 60),
    "no_successor_is_tail": ProtocolBug("a target that left the live chain commits", _flights(replicas.TakesItselfForTail), 400),
    "forgets_when_leaving": ProtocolBug(
        "a target forgets its pending versions when it leaves", _flights(replicas.ForgetsWhenLeaving), 100
    ),
    "ignores_change": ProtocolBug("flights do not notice a new chain version", _flights(replicas.IgnoresChange), 60),
    "takes_back": ProtocolBug("a pending version is dropped when nobody waits for it", _flights(replicas.TakesBack), 100),
    "takes_late": ProtocolBug(
        "late duplicates are taken for new updates", _flights(admitters.with_admitter(Admitter, admitters.NeverLate)), 400
    ),
    "any_ack_counts": ProtocolBug("late answers count", _flights(replicas.AnyAckCounts), 1000),
    "stage_unsynced": ProtocolBug("a stage is answered before it is durable", Parts(chunks=stores.StagesUnsynced), 100),
    "only_floor": ProtocolBug(
        "only the floor tells what is late",
        _flights(admitters.with_admitter(Admitter, admitters.OnlyFloor)),
        scenario="late_duplicates",
    ),
    "row_goes_back": ProtocolBug(
        "an older update sets the channel row back",
        _flights(admitters.with_admitter(admitters.RowGoesBack)),
        scenario="restart_head",
    ),
    "row_of_view": ProtocolBug(
        "two commits of one step do not see each other's channel rows",
        _flights(admitters.with_admitter(admitters.RowOfView)),
        scenario="one_step",
    ),
    "no_fence": ProtocolBug(
        "chain versions are not compared", _flights(admitters.with_admitter(admitters.FencesNothing)), scenario="fences"
    ),
    "no_read_fence": ProtocolBug(
        "chain versions of reads are not compared", Parts(gate=stores.reads_any_version), scenario="fences"
    ),
    "no_compare": ProtocolBug("replica checksums are not compared", _flights(replicas.ComparesNothing), scenario="disagree"),
    # Failover.
    "lease_from_receipt": ProtocolBug(
        "the lease is counted from the answer to a heartbeat", Parts(node=members.LeaseFromReceipt), 1000
    ),
    "no_drift": ProtocolBug("the manager allows nothing for the drift of clocks", Parts(manager=members.NoDrift), 2000),
    "in_a_hurry": ProtocolBug("chains change before the lease of a lost target is over", Parts(manager=members.InAHurry), 60),
    "leave_and_serve": ProtocolBug(
        "a clean stop is announced while the target still serves", Parts(node=members.LeaveAndServe), 2000
    ),
    "counts_those_that_left": ProtocolBug(
        "a target that left counts as last serving although another one went on alone",
        Parts(manager=members.CountsThoseThatLeft),
        60,
    ),
    "goes_on_unheard": ProtocolBug(
        "a target goes on without another one before the manager knows that it does", Parts(node=members.GoesOnUnheard), 2000
    ),
    "anybody_restarts": ProtocolBug(
        "any target restarts a chain that all were lost of", Parts(manager=members.AnybodyRestarts), 60
    ),
    "empty_is_whole": ProtocolBug("a disk that was exchanged claims to be whole", Parts(node=members.EmptyIsWhole), 60),
    "serves_unborn": ProtocolBug(
        "a new target takes its place before the manager has stored that it is there",
        _replica(members.ServesUnborn),
        scenario="newborn",
    ),
    "old_copy_is_current": ProtocolBug(
        "an old copy of a directory counts as the directory",
        Parts(node=members.OldCopyIsCurrent),
        60,
        focus=with_rollbacks,
    ),
    "says_uptodate": ProtocolBug("a target that waits reports that it is up to date", _replica(members.SaysUptodate), 60),
    "drop_unsynced": ProtocolBug(
        "an update refused for want of room is forgotten before that is durable",
        Parts(chunks=stores.DropsUnsynced),
        scenario="no_space",
    ),
    "same_again": ProtocolBug(
        "a copy of a sending that was refused for want of room is taken",
        _flights(admitters.with_admitter(Admitter, admitters.SameAgain)),
        scenario="no_space",
    ),
    # Resync.
    "by_version": ProtocolBug("a resync compares versions only", Parts(host=resyncs.ByVersion), 2000),
    "rows_stay": ProtocolBug("channel rows are not handed over in a resync", Parts(resync=resyncs.RowsStay), 60),
    "merges_in_memory": ProtocolBug("channel rows of a resync are not made durable", Parts(chunks=stores.MergesInMemory), 400),
    "finished_at_once": ProtocolBug(
        "done is said before there is a plan for this chain version", Parts(resync=resyncs.FinishedAtOnce), 100
    ),
    "plan_survives": ProtocolBug("a resync goes on across a chain change", Parts(resync=resyncs.PlanSurvives), 100),
    "complete_for_ever": ProtocolBug("done counts under later chain versions", _replica(members.CompleteForEver), 200),
    "any_incarnation": ProtocolBug(
        "done counts for another incarnation of the target",
        Parts(replica=members.AnyIncarnation, resync=resyncs.ForgetsIncarnation),
        scenario="resync",
    ),
    "forgets_own_pending": ProtocolBug(
        "done is said while the source has lost the commit of an acknowledged update",
        Parts(resync=resyncs.ForgetsOwnPending),
        scenario="lost_commit",
    ),
    "any_fill_counts": ProtocolBug("a fill that was refused counts as done", Parts(resync=resyncs.AnyFillCounts), 150),
    "skips_removed": ProtocolBug(
        "chunks that only the returning target has are left there", Parts(resync=resyncs.SkipsRemoved), 400
    ),
    "waits_for_lost": ProtocolBug(
        "a resync waits for the bytes of a chunk that is damaged on every target that serves",
        Parts(resync=resyncs.WaitsForLost),
        scenario="damaged_everywhere",
    ),
    "skips_damaged": ProtocolBug(
        "a resync leaves a chunk out that is damaged on every target that serves",
        Parts(resync=resyncs.SkipsDamaged),
        scenario="damaged_everywhere",
    ),
    "damaged_is_whole": ProtocolBug(
        "a damaged chunk that a resync brings is stored as a whole one",
        Parts(chunks=resyncs.DamagedIsWhole),
        scenario="damaged_everywhere",
    ),
    "late_fill": ProtocolBug(
        "a late duplicate of a fill undoes a newer write",
        _flights(admitters.with_admitter(admitters.FillsGoBack, admitters.FillsAreNeverLate)),
        scenario="late_fill",
    ),
    "fills_beside_lanes": ProtocolBug("fills are not ordered with updates", _flights(resyncs.FillsBesideLanes), 200),
    "finishes_once": ProtocolBug("done is said once and never repeated", Parts(resync=resyncs.FinishesOnce), 400),
    "keeps_leftovers": ProtocolBug(
        "a returning target commits what it had pending once it serves",
        Parts(replica=resyncs.OverlooksLeftovers, flights=resyncs.KeepsLeftovers, host=resyncs.HidesPending),
        400,
    ),
    "commits_leftovers": ProtocolBug(
        "a returning target commits what it had pending at once", _flights(resyncs.CommitsLeftovers), 600
    ),
    "answers_too_early": ProtocolBug(
        "a resync looks at a target that is still staging what an earlier chain version left",
        Parts(replica=resyncs.AnswersTooEarly, host=resyncs.HidesPending),
        scenario="leftovers",
    ),
}

FAST_SEEDS = 200
"""Bugs with at most this budget are looked for in every run of the tests; of the others, a remembered seed is replayed."""
