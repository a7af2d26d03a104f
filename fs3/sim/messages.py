"""What travels between the nodes of a simulated chain. Nodes are numbers: 0 the manager, then targets, then clients."""

from __future__ import annotations

from dataclasses import dataclass

from fs3.base.ids import ChunkId
from fs3.base.status import Code
from fs3.model.chain import Chain
from fs3.model.chunk import Update, UpdateResult

MANAGER = 0
FIRST_CLIENT = 100


@dataclass(frozen=True, slots=True)
class UpdateCall:
    """Asks a target for an update. `call` comes back in the answer."""

    call: int
    update: Update


@dataclass(frozen=True, slots=True)
class UpdateAnswer:
    """The answer to an UpdateCall."""

    call: int
    chunk: ChunkId
    version: int
    result: UpdateResult


@dataclass(frozen=True, slots=True)
class ReadCall:
    """Asks a target for a whole chunk."""

    call: int
    chunk: ChunkId
    chain_version: int


@dataclass(frozen=True, slots=True)
class ReadAnswer:
    """The answer to a ReadCall."""

    call: int
    code: Code
    version: int = 0
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A target tells the manager that it is there, and which chain version it knows."""

    sent_ns: int
    chain_version: int


@dataclass(frozen=True, slots=True)
class HeartbeatAnswer:
    """Extends the lease, counted from `sent_ns`; brings the chain when the target's is older."""

    sent_ns: int
    chain: Chain | None


@dataclass(frozen=True, slots=True)
class ChainAsked:
    """A client wants the chain."""


@dataclass(frozen=True, slots=True)
class ChainTold:
    """The chain as the manager has it."""

    chain: Chain


Message = UpdateCall | UpdateAnswer | ReadCall | ReadAnswer | Heartbeat | HeartbeatAnswer | ChainAsked | ChainTold
