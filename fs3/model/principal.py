"""Who a caller has proved to be, and the rights that a method asks for."""

from __future__ import annotations

from enum import IntEnum, IntFlag

import msgspec


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


ALL_RIGHTS = Right.ANYONE | Right.USER | Right.ADMIN | Right.MGMTD | Right.META | Right.STORAGE
"""What every connection has in a cluster without security."""


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


class AuthContext:
    """What the other end of a connection has proved; one per connection. Capabilities that were presented are kept with it, so
    that each is verified once."""

    __slots__ = ("capabilities", "certificate", "principal", "rights")

    def __init__(self, rights: int = ALL_RIGHTS, principal: Principal | None = None) -> None:
        self.rights = rights
        """`Right` bits; what a request is admitted by."""
        self.principal = principal
        """None: it has proved nothing, or the cluster has no security."""
        self.capabilities: dict[int, object] = {}
        """What the storage service keeps of those that were presented on this connection, by inode or namespace."""
        self.certificate = ""
        """Subject of the TLS client certificate that the connection was made with; "": it has none."""

    def __repr__(self) -> str:
        return f"<{self.principal.name if self.principal is not None else 'no one'}, rights {self.rights:#x}>"
