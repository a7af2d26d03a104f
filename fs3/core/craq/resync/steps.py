"""What happens to a resync and what it wants done: the events and effects of `resync.Resync`, and what it says of itself.

Requests. `Compare`, `ListRows`, `MergeChannels` and `Finish` are requests to the successor. The shell sends each to `peer.target`
and feeds back exactly one answer event with the same `request`, also when the request failed or timed out: its code then says
why, and the machine asks again under another number after a while. Late or repeated answers do no harm.

Each request names `peer`, and the successor answers only when `Replica.check_resync_fence` says OK of it; every answer, refusals
too, carries the successor's `Replica.incarnation`. When that changes, the successor was restarted, perhaps with another disk:
what it said before counts for nothing, and the resync begins anew under the same chain version.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from fs3.base.ids import ChainId, ChunkId, TargetId
from fs3.base.limits import resync_bytes_max
from fs3.base.status import Code
from fs3.core.craq.effects import FillDone
from fs3.core.craq.events import Tick
from fs3.core.craq.position import NO_TARGET, ChainPosition
from fs3.core.craq.resync.rows import RangeDigest, RangeState, RemoteRow
from fs3.model.chunk import ChannelKey, ChannelRow


@dataclass(frozen=True, slots=True)
class ResyncPeer:
    """Whom a resync is with, and under what: the fence of each of its requests."""

    chain: ChainId
    chain_version: int
    source: TargetId
    """Who asks: the predecessor, which serves."""
    target: TargetId
    """Who is asked: the successor, which syncs."""
    incarnation: int = 0
    """Of the successor's replica, as it has said; 0 until it has."""


# --- events ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class PositionChanged:
    """`Replica.position` after a ChainChanged or StoreOpened step, fed once the `FillDone` effects of that step have been fed."""

    position: ChainPosition
    chunks: int
    """Chunks in this store, about: for the progress figures."""


@dataclass(slots=True)
class Pace:
    """How much of the machine the resync may have from now on."""

    fills_max: int
    """Fills under way at once; 0: rest, ask nothing and send nothing until told otherwise."""
    bytes_per_second: int
    """Of chunks; 0: no limit."""
    bytes_max: int = resync_bytes_max
    """Bytes of fills under way at once; a single one may be larger."""


@dataclass(slots=True)
class CompareAnswer:
    """The answer to `Compare`: `rows.compare_ranges` of the successor."""

    request: int
    code: Code
    incarnation: int = 0
    """Of the successor's replica; 0 when the answer did not come from it."""
    states: Sequence[RangeState] = ()


@dataclass(slots=True)
class ListRowsAnswer:
    """The answer to `ListRows`: `rows.list_rows` of the successor."""

    request: int
    code: Code
    incarnation: int = 0
    rows: Sequence[RemoteRow] = ()
    more: bool = False


@dataclass(slots=True)
class MergeAnswer:
    """The answer to `MergeChannels`. OK: every row, or one with a higher seq, is durable at the successor."""

    request: int
    code: Code
    incarnation: int = 0


@dataclass(slots=True)
class FinishAnswer:
    """The answer to `Finish`."""

    request: int
    code: Code
    incarnation: int = 0


@dataclass(slots=True)
class CopyLost:
    """A chunk is marked bad in this store, and each other target that serves has answered, under the present chain version, that
    it has not its bytes either. May come again, and at any time; it counts for the present plan."""

    chunk: ChunkId
    version: int
    """The committed one."""


ResyncEvent = PositionChanged | Pace | CompareAnswer | ListRowsAnswer | MergeAnswer | FinishAnswer | FillDone | CopyLost | Tick
"""`FillDone` is the replica's effect, handed on; one for each `Fill`."""


# --- effects ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Compare:
    """Ask how the successor's rows of these ranges compare; answer with `CompareAnswer`."""

    request: int
    peer: ResyncPeer
    ranges: tuple[RangeDigest, ...]


@dataclass(slots=True)
class ListRows:
    """Ask for the successor's rows of one range, `limit` at most; answer with `ListRowsAnswer`."""

    request: int
    peer: ResyncPeer
    begin: bytes
    """First key; b"" is before all."""
    end: bytes
    """Ends before this key; b"" is behind all."""
    limit: int


@dataclass(slots=True)
class Fill:
    """Feed `FillRequested` with the same fields to the replica of this target; answer with its `FillDone`."""

    chunk: ChunkId
    chain_version: int
    damaged_version: int = 0


@dataclass(slots=True)
class MergeChannels:
    """Have the successor take over channel rows; answer with `MergeAnswer`."""

    request: int
    peer: ResyncPeer
    rows: tuple[tuple[ChannelKey, ChannelRow], ...]


@dataclass(slots=True)
class Finish:
    """Tell the successor that it has everything; answer with `FinishAnswer`.

    Said every second until the chain version changes: any of these, and what the successor then tells the manager, may be lost.
    The successor answers what `Replica.finish_resync` says."""

    request: int
    peer: ResyncPeer


ResyncEffect = Compare | ListRows | Fill | MergeChannels | Finish


# --- progress --------------------------------------------------------------------------------------------------------


class ResyncPhase(IntEnum):
    """How far a resync is."""

    IDLE = 0
    """The successor does not sync, or there is none, or this target does not serve."""
    CHUNKS = 1
    CHANNELS = 2
    FINISHING = 3
    """The successor has everything; the chain has not changed yet."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A resync as people see it. Counts are since the present chain version or since the successor was restarted."""

    phase: ResyncPhase = ResyncPhase.IDLE
    target: TargetId = NO_TARGET
    """Who is brought up to date."""
    chunks_done: int = 0
    """Known to be the same here and there."""
    chunks_total: int = 0
    """About; never less than `chunks_done`."""
    fills: int = 0
    removals: int = 0
    bytes_moved: int = 0
    channels: int = 0
    """Channel rows handed over."""
    blocked: int = 0
    """Chunks that could not be filled and will be tried again."""
    reason: str = ""
    """Why the first of them could not, or why the successor does not answer."""
    damaged: int = 0
    """Of the fills, those of chunks that are damaged here and now also there."""
