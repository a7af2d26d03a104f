"""Who a caller has proved to be, and the rights that a method asks for."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum, IntFlag

import msgspec

from fs3.base.units import NEVER
from fs3.model.share import Share


class Right(IntFlag):
    """Kinds of callers that may call a method. Numbers are 1 << (number in the .proto - 1)."""

    ANYONE = 1
    """Also a connection that has proved nothing."""
    USER = 2
    ADMIN = 4
    """A user who may change the cluster."""
    MGMTD = 8
    META = 16
    STORAGE = 32
    ACT_FOR = 64
    """A user whose programs act for others, such as the mount of a trusted machine: the uid and groups that its requests name
    count, except those of root. No method asks for it."""
    READ_METRICS = 128
    """A user, such as the account of Prometheus, that reads the metrics of processes."""


ALL_RIGHTS = int(
    Right.ANYONE | Right.USER | Right.ADMIN | Right.MGMTD | Right.META | Right.STORAGE | Right.ACT_FOR | Right.READ_METRICS
)
"""What every connection has in a cluster without security. A plain number: it is compared for every request."""


_ANYONE = int(Right.ANYONE)


class PrincipalKind(IntEnum):
    """What a caller is."""

    USER = 1
    """A person or a program: a user or a service account."""
    SERVICE = 2
    """A process of the cluster."""


class Principal(msgspec.Struct, frozen=True, array_like=True):
    """The body of a ticket. New fields go at the end with a default."""

    kind: PrincipalKind
    name: str
    """Of the user; of the node, for a service."""
    rights: int
    """`Right` bits."""
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    tenant: str = ""
    """Whose KV namespaces it may use; "": those that belong to no tenant."""
    node: int = 0
    """Node id of a service."""
    expires_ms: int = 0
    """Of the cluster's time (`fs3.core.security.cluster_time`)."""
    epoch: int = 0
    """Revocation epoch when the ticket was made: tickets of earlier epochs than a user's own last revocation are refused."""
    since: int = 0
    """Revocation epoch since which a user is what it is: it was made, changed or revoked then. What it was given before is not
    renewed."""


class AuthContext:
    """What the other end of a connection has proved; one per connection. Capabilities that were presented are kept with it, so
    that each is verified once."""

    __slots__ = (
        "capabilities",
        "capabilities_era",
        "clients",
        "failures",
        "on_lost",
        "peer",
        "principal",
        "rights",
        "share",
        "subject",
        "until",
    )

    def __init__(self, rights: int = ALL_RIGHTS, principal: Principal | None = None, peer: str = "") -> None:
        self.rights = int(rights)
        """`Right` bits; what a request is admitted by."""
        self.principal = principal
        """None: it has proved nothing, or the cluster has no security."""
        self.subject: str | None = None
        """Whom its TLS certificate names, as RFC 4514 writes it ("CN=alice,O=physics"); "" without one, None without TLS."""
        self.until = NEVER
        """Monotonic nanoseconds of this process from which on `rights` are none but ANYONE's."""
        self.share: Share | None = None
        """What it has together with the other connections of its principal; None: nothing is counted."""
        self.failures = 0
        """Tickets that were refused on this connection."""
        self.capabilities: dict[int, object] = {}
        """What the storage service keeps of those that were presented on this connection, by inode or namespace."""
        self.capabilities_era = 0
        """The keys and revocations by which they were looked at last: a number of the storage service's own."""
        self.clients: set[bytes] = set()
        """Client ids that were found to be the principal's; see `fs3.core.security.client_owners`."""
        self.peer = peer
        """Where the connection comes from, for messages."""
        self.on_lost: list[Callable[[], None]] = []
        """Called when its principal has lost its rights before their time: what goes on in its name ends."""

    def __repr__(self) -> str:
        return f"<{self.principal.name if self.principal is not None else 'no one'}, rights {self.rights:#x}>"

    def lapse(self) -> None:
        """Take away everything that was proved."""
        self.rights = _ANYONE
        self.capabilities.clear()
        self.clients.clear()

    def prove(self, principal: Principal, until: int) -> None:
        """From now on, until `until`, it is this principal that asks. Capabilities of another one go."""
        held = self.principal
        if held is not None and (held.kind, held.name, held.since) != (principal.kind, principal.name, principal.since):
            self.capabilities.clear()
            self.clients.clear()
        self.principal = principal
        self.rights = int(principal.rights) | _ANYONE
        self.until = until
