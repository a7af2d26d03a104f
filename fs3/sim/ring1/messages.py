"""What travels between the nodes of a simulated chain. Nodes are numbers: 0 the manager, then targets, then clients."""

from __future__ import annotations

from dataclasses import dataclass

from fs3.base.ids import ChunkId
from fs3.base.status import Code
from fs3.core.craq.resync.steps import (
    Compare,
    CompareAnswer,
    Finish,
    FinishAnswer,
    ListRows,
    ListRowsAnswer,
    MergeAnswer,
    MergeChannels,
)
from fs3.core.membership.events import Rejection
from fs3.model.chain import Chain
from fs3.model.chunk import Update, UpdateResult
from fs3.model.cluster import Heartbeat, HeartbeatAck, RegistrationAck
from fs3.model.generation import TargetClaim

MANAGER = 0
FIRST_CLIENT = 100


@dataclass(frozen=True, slots=True)
class SimUpdateCall:
    """Asks a target for an update. `call` comes back in the answer."""

    call: int
    update: Update


@dataclass(frozen=True, slots=True)
class SimUpdateAnswer:
    """The answer to an UpdateCall."""

    call: int
    chunk: ChunkId
    version: int
    result: UpdateResult


@dataclass(frozen=True, slots=True)
class SimReadCall:
    """Asks a target for a whole chunk."""

    call: int
    chunk: ChunkId
    chain_version: int


@dataclass(frozen=True, slots=True)
class SimReadAnswer:
    """The answer to a ReadCall."""

    call: int
    code: Code
    version: int = 0
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class ResyncCall:
    """A request of a resync, to the successor."""

    process: int
    """Of who asks: an answer is for that process only, as on a connection."""
    request: Compare | ListRows | MergeChannels | Finish


@dataclass(frozen=True, slots=True)
class ResyncReply:
    """The answer to a ResyncCall, as the event that it is at the source."""

    process: int
    answer: CompareAnswer | ListRowsAnswer | MergeAnswer | FinishAnswer


@dataclass(frozen=True, slots=True)
class RegisterCall:
    """A process announces itself to the manager."""

    call: int
    """Number of the process; it is also its pid."""
    incarnation: int
    """0: it knows none."""
    claims: tuple[TargetClaim, ...] = ()


@dataclass(frozen=True, slots=True)
class HeartbeatCall:
    """A target tells the manager that it is there, and how it is."""

    call: int
    heartbeat: Heartbeat


@dataclass(frozen=True, slots=True)
class ManagerAnswer:
    """The answer to a RegisterCall or HeartbeatCall."""

    call: int
    answer: RegistrationAck | HeartbeatAck | Rejection


@dataclass(frozen=True, slots=True)
class ChainRequest:
    """Somebody wants the chain."""


@dataclass(frozen=True, slots=True)
class ChainNotice:
    """The chain as the manager has published it."""

    chain: Chain
    routing: int = 0
    """Routing version this belongs to."""


Message = (
    SimUpdateCall
    | SimUpdateAnswer
    | SimReadCall
    | SimReadAnswer
    | ResyncCall
    | ResyncReply
    | RegisterCall
    | HeartbeatCall
    | ManagerAnswer
    | ChainRequest
    | ChainNotice
)
