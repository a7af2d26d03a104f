"""What the connections of a process have proved: the `Gate` of its listeners.

A ticket is verified when it is shown, and once more whenever something changes that it was verified by: the keys, who is
revoked, whether the cluster has security at all. So no decision outlives what it was made from, and in between a request costs
one look at what its connection may do. Time needs no change: a connection's rights end with its ticket, by the clock of this
process, which the admission of each request looks at.

Limits: it belongs to one event loop.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Protocol

from fs3.base import limits
from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, NEVER, SECOND
from fs3.core.security.certificates import may_act_as
from fs3.core.security.cluster_time import ClusterTime
from fs3.core.security.revocations import Revocations
from fs3.core.security.seal import KeyRing, SealError
from fs3.core.security.state import OnSecurityChanged
from fs3.core.security.tickets import open_ticket
from fs3.model.metrics import catalogue
from fs3.model.metrics.metric import Sample
from fs3.model.principal import ALL_RIGHTS, AuthContext, Principal, PrincipalKind, Right
from fs3.model.share import Limit, Share
from fs3.ports.clock import Clock
from fs3.runtime.audit import Audit, NoAudit

authentication_failures_max = 8
"""A connection on which so many tickets were refused is closed."""
limit_told_ns = 60 * SECOND
"""The audit log has one line in so long of a principal that goes on meeting a limit."""
tickets_remembered_max = 4096
"""Tickets that come with requests and are verified once, the newest."""


class SecurityView(Protocol):
    """What the process knows of the cluster's security; see `fs3.core.security.state.SecurityState`."""

    @property
    def is_on(self) -> bool:
        """Connections have the rights that they have proved, and no others."""
        ...

    @property
    def ring(self) -> KeyRing: ...

    @property
    def time(self) -> ClusterTime: ...

    @property
    def revoked(self) -> Revocations: ...

    def subscribe(self, callback: OnSecurityChanged) -> None:
        """Have `callback` called with every change of the others."""
        ...


class TicketRefusal(StrEnum):
    """Why a ticket was not taken. Counted, and never told."""

    BROKEN = "broken"
    """Not sealed with a key of this cluster that is in use."""
    EXPIRED = "expired"
    REVOKED = "revoked"
    TIME_UNKNOWN = "time_unknown"
    """The manager was not heard for so long that this process cannot say what has expired."""
    CERTIFICATE = "certificate"
    """Of a node, on a TLS connection whose certificate is of another machine, or of none."""
    TOO_MANY = "too_many"
    """Connections of the principal, or of strangers."""


@dataclass(frozen=True, slots=True)
class GateLimits:
    """What strangers and principals may take; see `fs3.base.limits` for each. Tests make them smaller."""

    stranger_connections_max: int = limits.stranger_connections_max
    stranger_connections_per_origin_max: int = limits.stranger_connections_per_origin_max
    stranger_calls_max: int = limits.stranger_calls_max
    principal_connections_max: int = limits.principal_connections_max
    principal_calls_max: int = limits.principal_calls_max
    principal_request_bytes_max: int = limits.principal_request_bytes_max
    principal_reply_bytes_max: int = limits.principal_reply_bytes_max
    stranger_request_bytes_max: int = limits.stranger_request_bytes_max
    authentication_failures_max: int = authentication_failures_max
    authentication_ns: int = limits.authentication_ns
    tickets_remembered_max: int = tickets_remembered_max


class TicketGate:
    """`fs3.ports.security.Gate` of one process."""

    def __init__(
        self, security: SecurityView, clock: Clock, bounds: GateLimits | None = None, audit: Audit | None = None
    ) -> None:
        """`audit`: where refusals are told."""
        self._audit: Audit = audit or NoAudit()
        self._security = security
        self._now = clock.now
        self._bounds = bounds or GateLimits()
        self._tickets: dict[AuthContext, bytes] = {}
        """Connection -> the ticket it has shown last; b"": none."""
        self._recalled: OrderedDict[bytes, AuthContext] = OrderedDict()
        """Tickets that came with requests, the newest last."""
        self._everybody = AuthContext()
        """Of all calls that bring their tickets with them, while the cluster has no security."""
        self._shares: dict[tuple[PrincipalKind, str], Share] = {}
        """Of principals that have connections, or remembered tickets."""
        self.limited: dict[Limit, int] = dict.fromkeys(Limit, 0)
        """How often a principal, or all strangers, had to wait or were refused."""
        self._told: dict[tuple[str, Limit], int] = {}
        """When the audit log was told last of a principal that meets a limit."""
        bounds = self._bounds
        self._strangers = Share(
            bounds.stranger_calls_max, bounds.stranger_request_bytes_max, on_limited=partial(self._on_limited, "")
        )
        self._waiting: dict[AuthContext, None] = {}
        """Connections of strangers, the oldest first."""
        self._origins: dict[str, dict[AuthContext, None]] = {}
        """The same, by where they come from."""
        self.refused: dict[TicketRefusal, int] = dict.fromkeys(TicketRefusal, 0)
        security.subscribe(self._on_changed)

    @property
    def is_on(self) -> bool:
        """Connections have to prove who they are."""
        return self._security.is_on

    # --- the port ------------------------------------------------------------------------------------------------------

    def open(self, peer: str) -> AuthContext:
        """See `Gate.open`."""
        auth = AuthContext(peer=peer)
        self._tickets[auth] = b""
        self._decide(auth)
        return auth

    def _make_room(self, origin: str) -> None:
        """The stranger that has proved nothing for the longest time goes, when there are too many: one that means to prove
        something does so with its first request, however many others there are."""
        bounds, there = self._bounds, self._origins.get(origin, {})
        if len(there) >= bounds.stranger_connections_per_origin_max:
            oldest = next(iter(there))
        elif self._strangers.connections >= bounds.stranger_connections_max:
            oldest = next(iter(self._waiting))
        else:
            return
        self.refused[TicketRefusal.TOO_MANY] += 1
        self.close(oldest)
        _lose(oldest)

    def close(self, auth: AuthContext) -> None:
        """See `Gate.close`."""
        if self._tickets.pop(auth, None) is not None:
            self._leave_share(auth)

    def authenticate(self, auth: AuthContext, ticket: bytes) -> None:
        """See `Gate.authenticate`."""
        if not self._security.is_on:
            # Kept for when the cluster gets security: who had authenticated by then goes on.
            self._tickets[auth] = ticket
            return
        try:
            principal, until = self._verify(ticket)
            self._enter(auth, principal)
        except FS3Error:
            auth.failures += 1
            if auth.failures >= self._bounds.authentication_failures_max:
                _lose(auth)
            raise
        auth.prove(principal, until)
        self._tickets[auth] = ticket

    def recall(self, ticket: bytes, peer: str) -> AuthContext:
        """See `Gate.recall`. A ticket that does not count is as none: those without may log in."""
        if not self._security.is_on:
            return self._everybody
        found = self._recalled.get(ticket)
        if found is not None and self._now() < found.until:
            self._recalled.move_to_end(ticket)
            return found
        auth = AuthContext(Right.ANYONE, peer=peer)
        auth.share = self._strangers
        if not ticket:
            return auth
        try:
            principal, until = self._verify(ticket)
        except FS3Error:
            return auth
        auth.share = self._share_of(principal)
        auth.prove(principal, until)
        self._recalled[ticket] = auth
        if len(self._recalled) > self._bounds.tickets_remembered_max:
            self._recalled.popitem(last=False)
        return auth

    def note_denied(self, auth: AuthContext, what: str, code: Code) -> None:
        """See `Gate.note_denied`."""
        who = auth.principal.name if auth.principal is not None else ""
        self._audit.record(what, who=who, source=auth.peer, result=code.name)

    # --- decisions -----------------------------------------------------------------------------------------------------

    def _verify(self, ticket: bytes) -> tuple[Principal, int]:
        """Whose ticket it is, and until when it counts by this process's clock. Raises FS3Error NOT_AUTHENTICATED."""
        security, now = self._security, self._now()
        if not security.time.is_known(now):
            raise self._refuse(TicketRefusal.TIME_UNKNOWN)
        try:
            principal = open_ticket(security.ring, ticket, 0)
        except SealError:
            raise self._refuse(TicketRefusal.BROKEN) from None
        left_ms = principal.expires_ms - security.time.now_ms(now)
        if left_ms <= 0:
            raise self._refuse(TicketRefusal.EXPIRED)
        if security.revoked.is_revoked(principal):
            raise self._refuse(TicketRefusal.REVOKED)
        return principal, now + left_ms * MILLISECOND

    def _refuse(self, reason: TicketRefusal) -> FS3Error:
        """The same words for all reasons: they would tell how near a forged ticket is."""
        self.refused[reason] += 1
        return error(Code.NOT_AUTHENTICATED, "the ticket is not valid here, or not any more")

    def _on_changed(self) -> None:
        """Everything is decided anew: a scan of all connections, which changes are rare enough for."""
        for auth in list(self._tickets):
            if auth in self._tickets:  # it may have made room for another one meanwhile
                self._decide(auth)
        if self._security.is_on:
            _lose(self._everybody)
            self._everybody = AuthContext()
        recalled, self._recalled = self._recalled, OrderedDict()
        for ticket, auth in recalled.items():
            try:
                auth.prove(*self._verify(ticket))
            except FS3Error:
                _lose(auth)
            else:
                self._recalled[ticket] = auth

    def _decide(self, auth: AuthContext) -> None:
        """What a connection may do, by the ticket it has shown last."""
        if not self._security.is_on:
            self._leave_share(auth)
            auth.rights, auth.principal, auth.until = ALL_RIGHTS, None, NEVER
            return
        was_known = auth.principal is not None
        ticket = self._tickets[auth]
        if ticket:
            try:
                principal, until = self._verify(ticket)
                self._enter(auth, principal)
            except FS3Error:
                self._tickets[auth] = b""
            else:
                auth.prove(principal, until)
                return
        if was_known or auth.share is not self._strangers:
            self._leave_share(auth)
            auth.lapse()
            auth.principal = None
            auth.until = self._now() + self._bounds.authentication_ns
            origin = origin_of(auth.peer)
            self._make_room(origin)
            auth.share = self._strangers
            self._strangers.connections += 1
            self._waiting[auth] = None
            self._origins.setdefault(origin, {})[auth] = None
        if was_known:
            _lose(auth)

    # --- shares --------------------------------------------------------------------------------------------------------

    def _enter(self, auth: AuthContext, principal: Principal) -> None:
        """The connection is one of this principal's now. Raises FS3Error BUSY, NOT_AUTHENTICATED."""
        if not may_act_as(auth, principal):
            raise self._refuse(TicketRefusal.CERTIFICATE)
        share = self._share_of(principal)
        if auth.share is share:
            return
        if share.connections >= self._bounds.principal_connections_max:
            self.refused[TicketRefusal.TOO_MANY] += 1
            share.on_limited(Limit.CONNECTIONS)
            raise error(Code.BUSY, f"{share.connections} connections of this caller are open")
        self._leave_share(auth)
        auth.share = share
        share.connections += 1

    def _leave_share(self, auth: AuthContext) -> None:
        share, auth.share = auth.share, None
        if share is None:
            return
        share.connections -= 1
        if share is self._strangers:
            origin = origin_of(auth.peer)
            del self._waiting[auth]
            del self._origins[origin][auth]
            if not self._origins[origin]:
                del self._origins[origin]

    def _share_of(self, principal: Principal) -> Share:
        name = (principal.kind, principal.name)
        found = self._shares.get(name)
        if found is None:
            if len(self._shares) >= self._bounds.tickets_remembered_max:
                self._shares = {key: share for key, share in self._shares.items() if share.connections or share.calls}
            found = self._shares[name] = self._new_share(principal)
        return found

    def _new_share(self, principal: Principal) -> Share:
        bounds, on_limited = self._bounds, partial(self._on_limited, principal.name)
        if principal.kind is PrincipalKind.SERVICE:
            # What nodes forward has memory of its own, and waits for no user.
            return Share(bounds.principal_calls_max, on_limited=on_limited)
        return Share(bounds.principal_calls_max, bounds.principal_request_bytes_max, bounds.principal_reply_bytes_max, on_limited)

    def _on_limited(self, who: str, limit: Limit) -> None:
        """Counted each time; told now and then, since who meets a limit meets it often."""
        self.limited[limit] += 1
        now = self._now()
        if now - self._told.get((who, limit), -limit_told_ns) < limit_told_ns:
            return
        if len(self._told) >= self._bounds.tickets_remembered_max:
            self._told.clear()
        self._told[who, limit] = now
        self._audit.record("limit", who=who, result=Code.BUSY.name, about=limit.value)

    # --- to be looked at -----------------------------------------------------------------------------------------------

    def samples(self) -> Iterator[Sample]:
        """What was refused, and who is connected."""
        for reason, count in self.refused.items():
            yield Sample(catalogue.TICKETS_REFUSED, (reason,), count)
        yield Sample(catalogue.STRANGERS, (), self._strangers.connections)
        for limit, count in self.limited.items():
            yield Sample(catalogue.PRINCIPALS_LIMITED, (limit.value,), count)


def origin_of(peer: str) -> str:
    """Where the peers come from that a stranger's connection is counted with: its address without the port, or its user."""
    if peer.startswith("local:"):
        return peer[peer.find("uid=") :]
    return peer.rpartition(":")[0]


def _lose(auth: AuthContext) -> None:
    auth.lapse()
    for callback in tuple(auth.on_lost):
        callback()
