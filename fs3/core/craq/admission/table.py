"""Chunk admission: what a replica does with an update, as a table of which exactly one row matches every case.

A case is eight facts about (update, what is known of its chunk, the client's channel row, the chunk's lane, the place of this
target in its chain). `facts` finds them; `ADMISSION` says what follows from them. Rows do not depend on their order.

Who may give an update its version: the head numbers what a client sends (committed + 1), every other target takes the number of
its predecessor, whose history contains its own. Fencing is equality of (chain, chain version) and nothing else.

Late duplicates. Between two neighbours an update may be sent several times, and a sending may arrive long after its update is
over. For most the version tells; not after a REMOVE, when versions start at 1 again. See `send_window`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cache

from fs3.base.ids import ClientId
from fs3.base.status import Code
from fs3.core.craq.position import ChainRole
from fs3.core.decision_table import Column, DecisionTable, Fact, Row, allowed
from fs3.model.chunk import Tag

UNTAGGED = Tag(ClientId(b""), 0, 0)
"""The tag of an update that leaves no channel row."""


class Form(IntEnum):
    """Whether the update makes sense by itself."""

    GOOD = 0
    BAD = 1


class FenceCheck(IntEnum):
    """Whether sender and receiver mean the same chain and the same version of it."""

    EQUAL = 0
    OTHER = 1


class Sender(IntEnum):
    """Who sent the update."""

    CLIENT = 0
    PREDECESSOR = 1
    LATE = 2
    """The predecessor, so long ago that it no longer waits for the answer."""
    STRANGER = 3
    """A target that is not the predecessor."""


class TagCheck(IntEnum):
    """A client's tag against the channel row. Updates of a predecessor count as FRESH: it has looked already."""

    FRESH = 0
    AGAIN = 1
    """The last update of the channel."""
    STALE = 2
    """Older than the last update of the channel."""
    CROSSED = 3
    """The number of the last update of the channel, on another chunk."""


class LaneState(IntEnum):
    """What is under way for the chunk."""

    FREE = 0
    SAME = 1
    """This very update, in flight or waiting."""
    TAKEN = 2
    """Another update."""
    FULL = 3
    """Another update, and no room to wait; or no room for one more flight of this target."""
    HALTED = 4
    """An update whose replicas disagree."""


class Step(IntEnum):
    """The update's version against the chunk's. For a client: the version the head would give it."""

    NEXT = 0
    RESENT = 1
    """The pending version, with its tag."""
    RENAMED = 2
    """The pending version, with another tag."""
    DONE = 3
    """The committed version."""
    PAST = 4
    """Older than the committed version."""
    GAP = 5
    """Updates in between are missing here. From a client: a pending version is not settled yet."""


class Shortcut(IntEnum):
    """Whether a client's update has nothing to do."""

    NONE = 0
    PRESENT = 1
    """PUT of a chunk that has a committed version."""
    ABSENT = 2
    """Untagged REMOVE of a chunk that does not exist."""


class Action(IntEnum):
    """What to do with the update."""

    REFUSE = 0
    """Answer the row's code."""
    ADMIT = 1
    """Number it committed + 1 and stage it."""
    STAGE = 2
    """Stage it under the number it has."""
    REPLACE_PENDING = 3
    """The same, over the pending version that is there."""
    ALREADY_PENDING = 4
    """It is staged already: go on from there."""
    ATTACH = 5
    """It is under way already: this sender gets the same answer."""
    WAIT = 6
    """Behind the chunk's flight."""
    REPEAT = 7
    """Answer the remembered result."""
    ALREADY_COMMITTED = 8
    """Answer OK with what is committed."""
    EXISTS = 9
    """Answer EXISTS with what is committed."""
    NOTHING = 10
    """Answer OK: there is nothing to do."""


COLUMNS = {
    "form": Column(Form),
    "place": Column(ChainRole),
    "fence": Column(FenceCheck),
    "sender": Column(Sender),
    "seen": Column(TagCheck),
    "lane": Column(LaneState),
    "step": Column(Step),
    "shortcut": Column(Shortcut),
}
"""The facts of a case, in the order of `pack`."""

Case = tuple[Form, ChainRole, FenceCheck, Sender, TagCheck, LaneState, Step, Shortcut]


@dataclass(frozen=True, kw_only=True)
class AdmissionRow(Row):
    """One line of the table: in these cases, do this. `why` goes into the message of a refusal."""

    action: Action
    code: Code

    def outcome(self) -> tuple[str, ...]:
        """Action, and the code where the action does not say it."""
        return self.action.name, self.code.name if self.action in (Action.REFUSE, Action.EXISTS) else ""


def _row(name: str, action: Action, code: Code = Code.OK, why: str = "", **facts: Fact | tuple[Fact, ...]) -> AdmissionRow:
    return AdmissionRow(name=name, action=action, code=code, why=why, when=allowed(COLUMNS, **facts))


_LIVE = (ChainRole.HEAD, ChainRole.BODY, ChainRole.SYNCING)
_BELOW = (ChainRole.BODY, ChainRole.SYNCING)
_NOT_NEXT = tuple(step for step in Step if step is not Step.NEXT)


def _rows() -> tuple[AdmissionRow, ...]:
    def gate(name: str, code: Code, why: str, **facts: Fact | tuple[Fact, ...]) -> AdmissionRow:
        return _row(name, Action.REFUSE, code, why, form=Form.GOOD, fence=FenceCheck.EQUAL, **facts)

    def client(
        name: str,
        action: Action,
        code: Code = Code.OK,
        why: str = "",
        seen: TagCheck = TagCheck.FRESH,
        **facts: Fact | tuple[Fact, ...],
    ) -> AdmissionRow:
        return _row(
            name,
            action,
            code,
            why,
            form=Form.GOOD,
            fence=FenceCheck.EQUAL,
            place=ChainRole.HEAD,
            sender=Sender.CLIENT,
            seen=seen,
            **facts,
        )

    def neighbour(
        name: str, action: Action, code: Code = Code.OK, why: str = "", **facts: Fact | tuple[Fact, ...]
    ) -> AdmissionRow:
        return _row(
            name, action, code, why, form=Form.GOOD, fence=FenceCheck.EQUAL, place=_BELOW, sender=Sender.PREDECESSOR, **facts
        )

    return (
        _row("malformed", Action.REFUSE, Code.INVALID, "", form=Form.BAD),
        _row("not serving", Action.REFUSE, Code.NOT_SERVING, "it is not in the live chain", form=Form.GOOD, place=ChainRole.OUT),
        _row(
            "fenced",
            Action.REFUSE,
            Code.WRONG_CHAIN_VERSION,
            "the chain version differs",
            form=Form.GOOD,
            place=_LIVE,
            fence=FenceCheck.OTHER,
        ),
        gate("not the head", Code.NOT_HEAD, "clients write to the head", place=_BELOW, sender=Sender.CLIENT),
        gate("stranger", Code.NOT_HEAD, "only its predecessor may number an update", place=_LIVE, sender=Sender.STRANGER),
        gate(
            "numbers for the head",
            Code.NOT_HEAD,
            "the head numbers updates",
            place=ChainRole.HEAD,
            sender=(Sender.PREDECESSOR, Sender.LATE),
        ),
        gate("late duplicate", Code.STALE_UPDATE, "the sender has gone on since", place=_BELOW, sender=Sender.LATE),
        # From a client, at the head.
        client("repeated", Action.REPEAT, seen=TagCheck.AGAIN),
        client("stale", Action.REFUSE, Code.STALE_UPDATE, "its channel has a newer update", seen=TagCheck.STALE),
        client("crossed", Action.REFUSE, Code.INVALID, "its tag names an update of another chunk", seen=TagCheck.CROSSED),
        client("under way", Action.ATTACH, lane=LaneState.SAME),
        client("busy chunk", Action.WAIT, lane=LaneState.TAKEN),
        client("full", Action.REFUSE, Code.BUSY, "too many updates are waiting", lane=LaneState.FULL),
        client("halted", Action.REFUSE, Code.REPLICAS_DISAGREE, "the replicas of the chunk disagree", lane=LaneState.HALTED),
        client(
            "unsettled", Action.REFUSE, Code.BUSY, "an interrupted update is not settled yet", lane=LaneState.FREE, step=_NOT_NEXT
        ),
        client("exists", Action.EXISTS, Code.EXISTS, lane=LaneState.FREE, step=Step.NEXT, shortcut=Shortcut.PRESENT),
        client("nothing there", Action.NOTHING, lane=LaneState.FREE, step=Step.NEXT, shortcut=Shortcut.ABSENT),
        client("admitted", Action.ADMIT, lane=LaneState.FREE, step=Step.NEXT, shortcut=Shortcut.NONE),
        # From the predecessor.
        neighbour("forwarded again", Action.ATTACH, lane=LaneState.SAME),
        neighbour("forwarded to a busy chunk", Action.WAIT, lane=LaneState.TAKEN),
        neighbour("forwarded to a full target", Action.REFUSE, Code.BUSY, "too many updates are waiting", lane=LaneState.FULL),
        neighbour(
            "forwarded to a halted chunk",
            Action.REFUSE,
            Code.REPLICAS_DISAGREE,
            "the replicas of the chunk disagree",
            lane=LaneState.HALTED,
        ),
        neighbour("next", Action.STAGE, lane=LaneState.FREE, step=Step.NEXT),
        neighbour("already pending", Action.ALREADY_PENDING, lane=LaneState.FREE, step=Step.RESENT),
        neighbour("another update of the pending version", Action.REPLACE_PENDING, lane=LaneState.FREE, step=Step.RENAMED),
        neighbour("already committed", Action.ALREADY_COMMITTED, lane=LaneState.FREE, step=Step.DONE),
        neighbour("past", Action.REFUSE, Code.STALE_UPDATE, "a newer version is committed", lane=LaneState.FREE, step=Step.PAST),
        neighbour(
            "missing", Action.REFUSE, Code.MISSING_UPDATE, "updates before it are missing", lane=LaneState.FREE, step=Step.GAP
        ),
    )


ADMISSION = DecisionTable(COLUMNS, _rows(), outcome=("action", "code"), unconstrained="", row_head="row")


def pack(form: int, place: int, fence: int, sender: int, seen: int, lane: int, step: int, shortcut: int) -> int:
    """A case as one number, so that looking it up costs one hash of an int."""
    return form | place << 1 | fence << 3 | sender << 4 | seen << 6 | lane << 8 | step << 11 | shortcut << 14


def unpack(key: int) -> Case:
    """The case of a number."""
    return (
        Form(key & 1),
        ChainRole(key >> 1 & 3),
        FenceCheck(key >> 3 & 1),
        Sender(key >> 4 & 3),
        TagCheck(key >> 6 & 3),
        LaneState(key >> 8 & 7),
        Step(key >> 11 & 7),
        Shortcut(key >> 14),
    )


@cache
def row_for(key: int) -> AdmissionRow:
    """The one row that matches a packed case. There are few cases in practice, so each is looked for once."""
    return ADMISSION.row_for(unpack(key))
