"""Planted bugs: mistakes one could make in the replication protocol, each as an exchanged part.

A simulator is trusted as far as it finds them. The product's code knows nothing of this package. Mistakes in what is above the
machines (a collector of garbage against a reader's pin, the repair of lengths against a writer) are planted in ring 2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fs3.core.craq.judge import Judge
from fs3.core.craq.replica import Replica
from fs3.sim.bugs import judges, members, replicas, resyncs, stores
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


def _replica(kind: type[Replica]) -> Parts:
    return Parts(replica=kind)


BUGS: dict[str, Bug] = {
    "commit_before_ack": Bug("a target commits before its successor has acknowledged", _replica(replicas.CommitsBeforeAck), 40),
    "early_ack": Bug("the client is answered before the successors have staged", _replica(replicas.AnswersEarly), 40),
    "no_duplicate_suppression": Bug("channel rows are not looked at", _replica(judges.judged_by(judges.ForgetsTags)), 60),
    "rows_in_memory": Bug("channel rows do not survive a restart", Parts(chunks=stores.RowsInMemory), 100),
    "tag_not_staged": Bug("the pending version is stored without its tag", Parts(chunks=stores.StagesNoTag), 100),
    "waits_twice": Bug("a retry waits behind its own first sending and is applied again", _replica(replicas.WaitsTwice), 60),
    "dirty_read": Bug(
        "a read shows the pending version", Parts(chunks=stores.ShowsPending, decide=stores.reads_while_pending), 60
    ),
    "stale_read": Bug(
        "a read shows the committed version while another is pending", Parts(decide=stores.reads_while_pending), 400
    ),
    "no_lease": Bug("reads are served after the lease has run out", Parts(decide=stores.reads_without_lease), 200),
    "reads_before_opened": Bug("a restarted target serves before it has looked", _replica(replicas.ReadsBeforeOpened), 2000),
    "pendings_forgotten": Bug("pending versions are not looked at after a restart", Parts(opens=False), 60),
    "settles_by_itself": Bug("any restarted target commits its pending versions", _replica(replicas.SettlesByItself), 60),
    "no_successor_is_tail": Bug("a target that left the live chain commits", _replica(replicas.TakesItselfForTail), 400),
    "forgets_when_leaving": Bug(
        "a target forgets its pending versions when it leaves", _replica(replicas.ForgetsWhenLeaving), 100
    ),
    "ignores_change": Bug("flights do not notice a new chain version", _replica(replicas.IgnoresChange), 60),
    "takes_back": Bug("a pending version is dropped when nobody waits for it", _replica(replicas.TakesBack), 100),
    "takes_late": Bug("late duplicates are taken for new updates", _replica(judges.judged_by(Judge, judges.NeverLate)), 400),
    "any_ack_counts": Bug("late answers count", _replica(replicas.AnyAckCounts), 1000),
    "stage_unsynced": Bug("a stage is answered before it is durable", Parts(chunks=stores.StagesUnsynced), 100),
    "only_floor": Bug(
        "only the floor tells what is late", _replica(judges.judged_by(Judge, judges.OnlyFloor)), scenario="late_duplicates"
    ),
    "row_goes_back": Bug("an older update sets the channel row back", _replica(replicas.RowGoesBack), scenario="restart_head"),
    "row_of_view": Bug(
        "two commits of one step do not see each other's channel rows", _replica(replicas.RowOfView), scenario="one_step"
    ),
    "no_fence": Bug("chain versions are not compared", _replica(judges.judged_by(judges.FencesNothing)), scenario="fences"),
    "no_read_fence": Bug("chain versions of reads are not compared", Parts(decide=stores.reads_any_version), scenario="fences"),
    "no_compare": Bug("replica checksums are not compared", _replica(replicas.ComparesNothing), scenario="disagree"),
    # Failover.
    "lease_from_receipt": Bug("the lease is counted from the answer to a heartbeat", Parts(node=members.LeaseFromReceipt), 1000),
    "no_drift": Bug("the manager allows nothing for the drift of clocks", Parts(manager=members.NoDrift), 2000),
    "in_a_hurry": Bug("chains change before the lease of a lost target is over", Parts(manager=members.InAHurry), 60),
    "leave_and_serve": Bug("a clean stop is announced while the target still serves", Parts(node=members.LeaveAndServe), 2000),
    "anybody_restarts": Bug("any target restarts a chain that all were lost of", Parts(manager=members.AnybodyRestarts), 60),
    "empty_is_whole": Bug("a disk that was exchanged claims to be whole", Parts(node=members.EmptyIsWhole), 60),
    "says_uptodate": Bug("a target that waits reports that it is up to date", _replica(members.SaysUptodate), 60),
    "drop_unsynced": Bug(
        "an update refused for want of room is forgotten before that is durable",
        Parts(chunks=stores.DropsUnsynced),
        scenario="no_space",
    ),
    "same_again": Bug(
        "a copy of a sending that was refused for want of room is taken",
        _replica(judges.judged_by(Judge, judges.SameAgain)),
        scenario="no_space",
    ),
    # Resync.
    "by_version": Bug("a resync compares versions only", Parts(host=resyncs.ByVersion), 2000),
    "rows_stay": Bug("channel rows are not handed over in a resync", Parts(resync=resyncs.RowsStay), 60),
    "merges_in_memory": Bug("channel rows of a resync are not made durable", Parts(chunks=stores.MergesInMemory), 400),
    "finished_at_once": Bug(
        "done is said before there is a plan for this chain version", Parts(resync=resyncs.FinishedAtOnce), 100
    ),
    "plan_survives": Bug("a resync goes on across a chain change", Parts(resync=resyncs.PlanSurvives), 100),
    "complete_for_ever": Bug("done counts under later chain versions", _replica(members.CompleteForEver), 200),
    "any_incarnation": Bug(
        "done counts for another incarnation of the target",
        Parts(replica=members.AnyIncarnation, resync=resyncs.ForgetsIncarnation),
        scenario="resync",
    ),
    "forgets_own_pending": Bug(
        "done is said while the source has lost the commit of an acknowledged update",
        Parts(resync=resyncs.ForgetsOwnPending),
        scenario="lost_commit",
    ),
    "any_fill_counts": Bug("a fill that was refused counts as done", Parts(resync=resyncs.AnyFillCounts), 150),
    "skips_removed": Bug("chunks that only the returning target has are left there", Parts(resync=resyncs.SkipsRemoved), 400),
    "late_fill": Bug(
        "a late duplicate of a fill undoes a newer write",
        _replica(judges.judged_by(judges.FillsGoBack, judges.FillsAreNeverLate)),
        scenario="late_fill",
    ),
    "fills_beside_lanes": Bug("fills are not ordered with updates", _replica(resyncs.FillsBesideLanes), 200),
    "finishes_once": Bug("done is said once and never repeated", Parts(resync=resyncs.FinishesOnce), 400),
    "keeps_leftovers": Bug(
        "a returning target commits what it had pending once it serves",
        Parts(replica=resyncs.KeepsLeftovers, host=resyncs.HidesPending),
        400,
    ),
    "commits_leftovers": Bug("a returning target commits what it had pending at once", _replica(resyncs.CommitsLeftovers), 600),
    "answers_too_early": Bug(
        "a resync looks at a target that is still staging what an earlier chain version left",
        Parts(replica=resyncs.AnswersTooEarly, host=resyncs.HidesPending),
        scenario="leftovers",
    ),
}

Runner = Callable[[int, Parts], bool]


FAST_SEEDS = 200
"""Bugs with at most this budget are looked for in every run of the tests; of the others, a remembered seed is replayed."""


def first_caught(bug: Bug, caught: Runner, base: int) -> int | None:
    """How many seeds, counted from `base`, it took to catch the bug; None when its budget was not enough."""
    return next((count + 1 for count in range(bug.seeds) if caught(base + count, bug.parts)), None)
