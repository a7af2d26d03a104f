"""What a manager proves itself with to the processes of its cluster: it signs its own tickets, since it has the keys."""

from __future__ import annotations

from fs3.base.limits import ticket_lifetime_ms
from fs3.core.security.seal import KeyRing, SealError
from fs3.core.security.state import SecurityState
from fs3.core.security.tickets import seal_ticket
from fs3.model.principal import Principal, PrincipalKind, Right
from fs3.ports.clock import Clock
from fs3.ports.security import EndSubscription, OnTicket
from fs3.runtime.ticket_listeners import TicketListeners


class ManagerTickets:
    """A `TicketSource`. `renew` is called by the loop whose connections show them, more often than they end."""

    def __init__(self, security: SecurityState, clock: Clock, name: str) -> None:
        """`name`: of the manager."""
        self._security = security
        self._clock = clock
        self._name = name
        self._ticket = b""
        self._ring: KeyRing | None = None
        """What it is signed with."""
        self._expires_ms = 0
        self._listeners = TicketListeners()

    @property
    def ticket(self) -> bytes:
        """See `TicketSource`. b"": the cluster has no keys."""
        return self._ticket

    def subscribe(self, on_ticket: OnTicket) -> EndSubscription:
        """See `TicketSource`."""
        return self._listeners.subscribe(on_ticket)

    def on_refused(self, ticket: bytes, server: str) -> bool:
        """See `TicketSource`."""
        if ticket == self._ticket:
            self._expires_ms = 0
        return True

    def renew(self) -> None:
        """Sign a new one where the last one is half over, or the keys are others."""
        security = self._security
        now_ms = security.time.now_ms(self._clock.now())
        if security.ring == self._ring and self._expires_ms - now_ms > ticket_lifetime_ms // 2:
            return
        principal = Principal(
            PrincipalKind.SERVICE,
            self._name,
            int(Right.MGMTD),
            expires_ms=now_ms + ticket_lifetime_ms,
            epoch=security.revoked.epoch,
        )
        try:
            self._ticket = seal_ticket(security.ring, principal)
        except SealError:  # there are no keys: nothing has to be proved
            self._ticket = b""
        self._ring, self._expires_ms = security.ring, principal.expires_ms
        self._listeners.tell()
