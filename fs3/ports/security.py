"""Who is at the other end of a connection: what servers ask before they serve, and what clients prove themselves with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from fs3.base.status import Code
from fs3.model.machine import CertificateAuthority
from fs3.model.principal import AuthContext

OnTicket = Callable[[], None]
"""There is a newer ticket."""

EndSubscription = Callable[[], None]
"""What was subscribed to is not told any more."""


class Gate(Protocol):
    """Decides for all listeners of a process what their connections have proved. In a cluster without security all of them have
    every right."""

    def open(self, peer: str) -> AuthContext:
        """The context of a new connection from `peer`: it has proved nothing yet, and is told of everything that changes. When
        there are too many that have proved nothing, the oldest of them ends."""
        ...

    def close(self, auth: AuthContext) -> None:
        """The connection has ended."""
        ...

    def authenticate(self, auth: AuthContext, ticket: bytes) -> None:
        """From now on the connection has the rights of the ticket. Raises FS3Error NOT_AUTHENTICATED, which says no more than
        that: the connection keeps what it had; BUSY when the principal has too many connections."""
        ...

    def recall(self, ticket: bytes, peer: str) -> AuthContext:
        """The context of a ticket that comes with a request, as on gRPC: verified once, then remembered; b"": there is none.
        Raises as `authenticate` does."""
        ...

    def note_denied(self, auth: AuthContext, what: str, code: Code) -> None:
        """The connection has asked for a method of this name and may not call it."""
        ...


class TicketSource(Protocol):
    """What a client proves itself with. It is logged in, and has tickets renewed, by its owner."""

    @property
    def ticket(self) -> bytes:
        """The newest one; b"": there is none."""
        ...

    def subscribe(self, on_ticket: OnTicket) -> EndSubscription:
        """Have `on_ticket` called when there is a newer one, in the loop of the owner; returns what ends that."""
        ...

    def on_refused(self, ticket: bytes, server: str) -> bool:
        """A server (its endpoint) has refused what was asked with this ticket (b"": with none), since it proves nothing there any
        more. True: there is a newer one, or there will be one soon, so that asking again is worth while."""
        ...


class CertificateIssuer(Protocol):
    """Makes certificates of machines, for a manager whose cluster has an authority."""

    async def resolve(self, name: str) -> frozenset[str]:
        """The addresses that a host name leads to here; none when there is no such host."""
        ...

    async def issue(self, authority: CertificateAuthority, request: bytes, name: str, addresses: Sequence[str]) -> bytes:
        """A certificate for the key of a request, of the machine of this name, in PEM. FS3Error: INVALID for a request or an
        address that is none, UNSUPPORTED where none can be made."""
        ...
