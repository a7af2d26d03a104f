"""What becomes of a chain when its targets come and go: the public-state table.

The table is data; the tests check that exactly one row matches every case. It differs from 3FS's in three ways. All targets
that served last become LASTSRV, not the head alone, and whichever comes back complete restarts the chain. Any number may sync
at once. And only UPTODATE, "I hold everything I acknowledged", makes or keeps a target serving: one that answers ONLINE, "I am
alive", instead has lost its disk and must be brought up to date like any other.

What a node reports:  UPTODATE  its slot is SERVING or LASTSRV and its data is whole, or it has finished syncing under this very
                                chain version
                      ONLINE    it works, and it is not known to be complete
                      OFFLINE   it does not work (disk error, handing over)
The manager adds OFFLINE for a node whose lease has run out, and nothing (unknown) for one it has not heard of yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from fs3.base.ids import TargetId
from fs3.core.decision_table import Column, DecisionTable, Fact, Row, allowed
from fs3.model.chain import Chain, LocalState, PublicState, Slot

SERVING, SYNCING, WAITING = PublicState.SERVING, PublicState.SYNCING, PublicState.WAITING
LASTSRV, GONE = PublicState.LASTSRV, PublicState.OFFLINE
UPTODATE, ONLINE, OFFLINE, UNKNOWN = LocalState.UPTODATE, LocalState.ONLINE, LocalState.OFFLINE, None


class Outlook(Enum):
    """What the chain as a whole is in for."""

    CARRIED = "carried"
    """A serving target goes on, or one that was syncing is complete: somebody serves and nothing is interrupted."""
    LOST = "lost"
    """Somebody served until now, nobody can go on."""
    BACK = "back"
    """Nobody served; at least one complete target of the last serving set is here again."""
    DOWN = "down"
    """Nobody served, and none of the last serving set is back."""


CARRIED, LOST, BACK, DOWN = Outlook.CARRIED, Outlook.LOST, Outlook.BACK, Outlook.DOWN


@dataclass(frozen=True, kw_only=True)
class TransitionRow(Row):
    """One line of the table: any of these states, reports and outlooks lead to `next`."""

    next: PublicState

    def outcome(self) -> tuple[str, ...]:
        """The next state and why."""
        return self.next.name, self.why


COLUMNS = {
    "public": Column((SERVING, SYNCING, WAITING, LASTSRV, GONE), is_code=True),
    "local": Column((UPTODATE, ONLINE, OFFLINE, UNKNOWN), is_code=True),
    "outlook": Column(Outlook),
}


class TransitionTable(DecisionTable[TransitionRow]):
    """Rows over a slot's public state, its target's report and the outlook of the chain."""

    def is_possible(self, case: Sequence[Fact]) -> bool:
        """The outlook follows from the slots, so some combinations contradict it."""
        return is_possible(*case)  # type: ignore[arg-type]


def is_possible(public: PublicState, local: LocalState | None, outlook: Outlook) -> bool:
    """Whether a slot can be in this situation."""
    if public is SERVING:
        return outlook is CARRIED if local in (UPTODATE, UNKNOWN) else outlook in (CARRIED, LOST)
    if public is LASTSRV and local is UPTODATE:
        return outlook is not DOWN
    if public is SYNCING and local is UPTODATE:
        return outlook is CARRIED
    return True


def _row(
    public: PublicState, local: tuple[LocalState | None, ...], outlook: tuple[Outlook, ...], next: PublicState, why: str
) -> TransitionRow:
    return TransitionRow(next=next, why=why, when=allowed(COLUMNS, public=public, local=local, outlook=outlook))


_ANY = (CARRIED, LOST, BACK, DOWN)

_ROWS = (
    _row(SERVING, (UPTODATE, UNKNOWN), (CARRIED,), SERVING, "it goes on"),
    _row(SERVING, (ONLINE, OFFLINE), (CARRIED,), GONE, "others serve; it must come back through syncing"),
    _row(SERVING, (ONLINE, OFFLINE), (LOST,), LASTSRV, "nobody is left: it is evidence of where the newest data is"),
    _row(LASTSRV, (UPTODATE,), (BACK,), SERVING, "complete, so it restarts the chain; several may at once"),
    _row(LASTSRV, (ONLINE, OFFLINE, UNKNOWN), (BACK,), GONE, "the chain went on without it"),
    _row(LASTSRV, (ONLINE, OFFLINE, UNKNOWN), (DOWN,), LASTSRV, "the chain waits for one of these"),
    _row(LASTSRV, (UPTODATE, ONLINE, OFFLINE, UNKNOWN), (CARRIED, LOST), GONE, "somebody has served since"),
    _row(SYNCING, (UPTODATE,), (CARRIED,), SERVING, "it has everything"),
    _row(SYNCING, (ONLINE, UNKNOWN), (CARRIED,), SYNCING, "still under way"),
    _row(SYNCING, (ONLINE, UNKNOWN), (LOST, BACK, DOWN), WAITING, "nobody to sync from"),
    _row(SYNCING, (OFFLINE,), _ANY, GONE, "dead"),
    _row(WAITING, (ONLINE,), (CARRIED, BACK), SYNCING, "somebody to sync from"),
    _row(WAITING, (ONLINE,), (LOST, DOWN), WAITING, "nobody to sync from"),
    _row(WAITING, (UPTODATE, UNKNOWN), _ANY, WAITING, "what it remembers of an older chain is no proof of being complete"),
    _row(WAITING, (OFFLINE,), _ANY, GONE, "dead"),
    _row(GONE, (ONLINE,), (CARRIED, BACK), SYNCING, "it is back, and somebody to sync from"),
    _row(GONE, (ONLINE,), (LOST, DOWN), WAITING, "it is back, nobody to sync from"),
    _row(GONE, (UPTODATE,), _ANY, WAITING, "what it remembers of an older chain is no proof of being complete"),
    _row(GONE, (OFFLINE, UNKNOWN), _ANY, GONE, "dead"),
)
TRANSITIONS = TransitionTable(COLUMNS, _ROWS, outcome=("next", "why"))
"""A state, report and outlook that cannot occur together (`is_possible`) have no row."""

_NEXT = {case: TRANSITIONS.row_for(case).next for case in TRANSITIONS.cases() if TRANSITIONS.is_possible(case)}

_ORDER = {state: rank for rank, state in enumerate((SERVING, LASTSRV, SYNCING, WAITING, GONE))}


def outlook_of(chain: Chain, local_states: Mapping[TargetId, LocalState]) -> Outlook:
    """What a chain is in for. A target without local state is unknown: presumed to be as it was."""
    reports = [(slot.state, local_states.get(slot.target)) for slot in chain.slots]
    if any(pair in ((SERVING, UPTODATE), (SERVING, UNKNOWN), (SYNCING, UPTODATE)) for pair in reports):
        return CARRIED
    if any(public is SERVING for public, _ in reports):
        return LOST
    return BACK if (LASTSRV, UPTODATE) in reports else DOWN


def _is_in_order(chain: Chain) -> bool:
    """As `next_chain` leaves every chain behind: by state, and nobody remembered as the last while somebody serves."""
    ranks = [_ORDER[slot.state] for slot in chain.slots]
    return ranks == sorted(ranks) and all(slot.state is not LASTSRV for slot in chain.slots)


def _is_confirmed(chain: Chain, local_states: Mapping[TargetId, LocalState]) -> bool:
    """Somebody said that it goes on, or nobody leaves."""
    serving = [local_states.get(slot.target) for slot in chain.serving_slots()]
    syncing = [local_states.get(slot.target) for slot in chain.slots if slot.state is SYNCING]
    return UPTODATE in serving or UPTODATE in syncing or not (ONLINE in serving or OFFLINE in serving)


def next_chain(chain: Chain, local_states: Mapping[TargetId, LocalState]) -> Chain:
    """The chain that follows from what is known of its targets: the same object when nothing changes, else version + 1.

    Order: serving targets stay in the order they had, and who begins to serve comes after them. So what is staged at a
    serving target is also staged at every serving target before it, which is what lets any of them become the head.
    """
    outlook = outlook_of(chain, local_states)
    if outlook is CARRIED and _is_in_order(chain) and not _is_confirmed(chain, local_states):
        # Who is presumed to go on may turn out to have come back with an empty disk. Then those that leave now were the last
        # complete ones, and must be remembered as such: nothing is decided before it has said how it is, or its lease is over.
        return chain
    slots = [
        Slot(slot.target, slot.node, _NEXT[slot.state, local_states.get(slot.target), outlook])
        for slot in sorted(chain.slots, key=lambda slot: _ORDER[slot.state])
    ]
    slots.sort(key=lambda slot: _ORDER[slot.state])
    if tuple(slots) == chain.slots:
        return chain
    return Chain(chain.id, chain.version + 1, tuple(slots))
