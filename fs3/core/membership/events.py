"""What happens to the manager, and what it wants done. `Manager.step(now, event)` returns effects in the order to carry them out.

The shell's part of the contract:

1. Every request of a node or client is posted as one `ManagerRequest` with a token of its own, which comes back in exactly one
   `Respond`.
2. Every `Persist` is committed in one transaction, and its outcome posted as one `Persisted`. At most one is under way; what
   changes meanwhile goes into the next one together.
3. Effects are carried out in the order in which they are returned.
4. A `ManagerTick` is posted when `next_deadline()` has come; one that comes early changes nothing.

Order of durability: a change is persisted, then published, then answered. `Publish` and the `Respond` to a request that changed
something are returned only by the step that is told of the commit (`Persisted`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from fs3.base.ids import TableId
from fs3.base.status import Code
from fs3.core.membership.state import Rows
from fs3.model.cluster import (
    CacheNamespace,
    ClearNamespace,
    DeleteNamespace,
    EnsureTable,
    Heartbeat,
    HeartbeatAck,
    OpenNamespace,
    RegisterNode,
    RegistrationAck,
    SetConfig,
    SetNamespace,
)
from fs3.model.group import Group, PutGroup, RemoveGroup
from fs3.model.machine import AdmitMachine, JoinAck, JoinCluster, JoinToken, MakeToken, RemoveMachine, RevokeToken, SetAuthority
from fs3.model.moves import ListMoves, MoveOverview, PlanMoves, SetMoves
from fs3.model.routing import Delta
from fs3.model.security import (
    Account,
    AddUserToken,
    PutUser,
    RemoveUser,
    RevokeUser,
    RotateKeys,
    SecurityStatus,
    SetSecurity,
)
from fs3.model.settings import SetSettings

# --- events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ManagerRequest:
    """A node or client asks for something. Answered with one `Respond` of the same token."""

    token: int
    body: (
        RegisterNode
        | Heartbeat
        | EnsureTable
        | OpenNamespace
        | SetNamespace
        | ClearNamespace
        | DeleteNamespace
        | SetConfig
        | PlanMoves
        | SetMoves
        | ListMoves
        | JoinCluster
        | AdmitMachine
        | MakeToken
        | RevokeToken
        | RemoveMachine
        | SetAuthority
        | SetSettings
        | PutUser
        | RemoveUser
        | AddUserToken
        | RevokeUser
        | SetSecurity
        | RotateKeys
        | PutGroup
        | RemoveGroup
    )


@dataclass(frozen=True, slots=True)
class ManagerTick:
    """A deadline of the manager (`next_deadline`) has passed."""


@dataclass(frozen=True, slots=True)
class Persisted:
    """The `Persist` under way is durable; or it failed and left no trace, `problem` says why. It is then tried again."""

    problem: str = ""


Event = ManagerRequest | ManagerTick | Persisted

# --- effects ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Persist:
    """Commit these rows in one transaction; answer with `Persisted`."""

    rows: Rows


@dataclass(frozen=True, slots=True)
class Publish:
    """Push a delta on every watch stream. Only after it was persisted."""

    delta: Delta


@dataclass(frozen=True, slots=True)
class Rejection:
    """Answer to a request that cannot be granted."""

    code: Code
    message: str


Answer: TypeAlias = (
    RegistrationAck
    | HeartbeatAck
    | TableId
    | CacheNamespace
    | JoinAck
    | JoinToken
    | MoveOverview
    | Account
    | SecurityStatus
    | Group
    | int
)
"""To a request that is granted."""


@dataclass(frozen=True, slots=True)
class Respond:
    """Answer the request that came with `token`. For a request that changed something, only after that was persisted."""

    token: int
    answer: Answer | Rejection


Effect = Persist | Publish | Respond
