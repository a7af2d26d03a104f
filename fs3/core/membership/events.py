"""What happens to the manager, and what it wants done. `Manager.step(now, event)` returns effects in the order to carry them out.

Order of durability: a change is persisted, then published, then answered. `Publish` and the `Reply` to a request that changed
something are returned only by the step that is told of the commit (`Persisted`). At most one `Persist` is under way; what
happens meanwhile goes into the next one together.

`token` names a request: it comes back in exactly one `Reply`.
"""

from __future__ import annotations

from dataclasses import dataclass

from fs3.base.ids import NodeId, TableId, TargetId
from fs3.base.status import Code
from fs3.core.membership.state import CacheNamespace, Rows
from fs3.model.chain import LocalState
from fs3.model.routing import Delta, Role

# --- events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RegisterNode:
    """A process announces itself. Answered with `RegistrationAck`."""

    token: int
    name: str
    role: Role
    cluster: bytes
    """b"" when it has never joined one."""
    incarnation: int
    """0: it knows none, because its directory is new; the manager gives one out."""
    endpoints: tuple[str, ...]
    host: str
    pid: int = 0
    targets: tuple[TargetId, ...] = ()
    """Targets it has data of."""


@dataclass(frozen=True, slots=True)
class UpkeepProgress:
    """How far a target is with bringing its successor up to date and with verifying itself. For people; decides nothing."""

    resync_target_id: int = 0
    """The syncing successor; 0: none."""
    resync_done_chunks: int = 0
    resync_total_chunks: int = 0
    resync_bytes: int = 0
    resync_bytes_per_second: int = 0
    bad_blocks: int = 0
    """Blocks without a good copy so far."""
    repaired_blocks: int = 0
    scrub_done_chunks: int = 0
    scrub_total_chunks: int = 0
    scrub_passes: int = 0


@dataclass(frozen=True, slots=True)
class TargetReport:
    """What a node says of one of its targets."""

    target: TargetId
    state: LocalState
    chain_version: int
    used_bytes: int = 0
    free_bytes: int = 0
    chunks: int = 0
    reason: str = ""
    upkeep: UpkeepProgress = UpkeepProgress()
    unreachable: TargetId | None = None
    """Its successor under `chain_version`, when it hears nothing of it."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A node reports. Answered with `HeartbeatAck`."""

    token: int
    node: NodeId
    incarnation: int
    seq: int
    targets: tuple[TargetReport, ...] = ()
    routing_version: int = 0
    """Newest routing the node has applied."""
    leaving: bool = False


@dataclass(frozen=True, slots=True)
class EnsureTable:
    """Somebody needs chains of so many replicas (0: the default). Answered with the `TableId`."""

    token: int
    replicas: int


@dataclass(frozen=True, slots=True)
class OpenNamespace:
    """Somebody needs a KVCache namespace. Answered with the `CacheNamespace`."""

    token: int
    name: str
    page_bytes: int
    replicas: int


@dataclass(frozen=True, slots=True)
class SetConfig:
    """Distribute a configuration, already validated. Answered with its version."""

    token: int
    role: Role
    toml: str
    expected_version: int


@dataclass(frozen=True, slots=True)
class ManagerTick:
    """A deadline of the manager (`next_deadline`) has passed."""


@dataclass(frozen=True, slots=True)
class Persisted:
    """The `Persist` under way is durable; or it failed and left no trace, `problem` says why. It is then tried again."""

    problem: str = ""


Event = RegisterNode | Heartbeat | EnsureTable | OpenNamespace | SetConfig | ManagerTick | Persisted

# --- effects ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Persist:
    """Commit these rows in one transaction; answer with `Persisted`."""

    rows: Rows


@dataclass(frozen=True, slots=True)
class Publish:
    """Push a delta to everybody who watches. Only after it was persisted."""

    delta: Delta


@dataclass(frozen=True, slots=True)
class RegistrationAck:
    """Answer to `RegisterNode`."""

    node: NodeId
    incarnation: int = 1
    """The one that was registered: the request's, or the one given out."""
    born: tuple[TargetId, ...] = ()
    """Targets of the node that have been complete at least once; see `State.born`."""


@dataclass(frozen=True, slots=True)
class HeartbeatAck:
    """Answer to `Heartbeat`."""

    seq: int
    lease_ns: int
    """0: no lease before newer routing is applied."""
    routing_version: int
    """What the node should apply. In the answer to one that leaves: the version in which it has been replaced."""
    config_version: int
    leave: tuple[tuple[TargetId, int], ...] = ()
    """Targets of the node that are asked to leave their chains, each with the version of its chain."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Answer to a request that cannot be granted."""

    code: Code
    message: str


@dataclass(frozen=True, slots=True)
class Respond:
    """Answer the request that came with `token`. For a request that changed something, only after that was persisted."""

    token: int
    answer: RegistrationAck | HeartbeatAck | TableId | CacheNamespace | int | Rejection


Effect = Persist | Publish | Respond
