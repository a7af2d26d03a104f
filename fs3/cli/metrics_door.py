"""Who may read the HTTP port of a process, where others than this machine reach it.

In a cluster with security a request shows the token of a user, who may read metrics or is an administrator. A process knows no
tokens: it logs in with what it is shown, as the user would, and looks at the ticket that it gets. What was found out is
remembered for a while, so the managers are asked twice a minute; and for longer while they do not answer, since that is when
metrics are looked at.

Tokens that are not known wait for each other, and only so many of them. So a flood of wrong ones keeps no user waiting whose
token was looked at before, and leaves places at the port for others and for probes of `/healthz`, which wait for nothing.

A token travels only encrypted: without TLS none is taken, and the port answers `/healthz` alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple, TypeGuard

from fs3.api.tls import framed_wire
from fs3.base.errors import FS3Error, error
from fs3.base.secret import Secret
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.client.connector import Connector
from fs3.client.mgmtd.client import MgmtdClient
from fs3.client.security.credentials import token_credentials
from fs3.client.security.session import LoginSession
from fs3.core.security.seal import SealError
from fs3.core.security.state import SecurityState
from fs3.drivers.grpc import GrpcTransport
from fs3.drivers.http.metrics_server import HttpRefusal, scrapers_max
from fs3.drivers.tls.credentials import TlsCredentials
from fs3.model.principal import Principal, Right
from fs3.ports.clock import Clock
from fs3.ports.rpc import Transport
from fs3.runtime.token_sources import GivenToken

log = logging.getLogger("fs3.metrics")

token_known_ns = 30 * SECOND
"""So long it is believed what a login has said of a token, unless its user is revoked."""
token_kept_ns = 900 * SECOND
"""And so long while no manager answers."""
token_refused_ns = 5 * SECOND
"""A token that was refused is not tried again before."""
tokens_remembered_max = 64
login_ns = 5 * SECOND
"""One login may take so long."""
strangers_waiting_max = 8
"""Requests at a time whose tokens are not known to be users', while these are looked at; further ones are answered 503."""
assert strangers_waiting_max < scrapers_max

_READERS = int(Right.ADMIN | Right.READ_METRICS)
_REFUSED = (Code.NOT_ADMITTED, Code.INVALID, Code.WRONG_CLUSTER, Code.NOT_FOUND, Code.ACCESS)
"""What a login with a token that is none ends with."""


class _Known(NamedTuple):
    """What is known of a token."""

    principal: Principal | None
    """None: it is refused."""
    at: int
    """When it was found out."""


class MetricsDoor:
    """A `Doorkeeper`. Belongs to the loop of the HTTP server, but for `admit_readers`."""

    def __init__(self, clock: Clock, tls: TlsCredentials | None) -> None:
        """`tls`: of the port, and of connections to managers."""
        self._clock = clock
        self._tls = tls
        self._security: SecurityState | None = None
        """None: the process has not heard yet whether the cluster has security."""
        self._managers: Sequence[str] = ()
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        """By the digest of the token, the one that was looked up last behind."""
        self._strangers_turn = asyncio.Lock()
        """One login at a time: a flood of wrong tokens is one question after the other."""
        self._strangers_waiting = 0
        self._users_turn = asyncio.Lock()
        """Likewise, for tokens that were those of users when they were looked at last: these do not wait behind others."""

    def admit_readers(self, security: SecurityState, managers: Sequence[str]) -> None:
        """See `ProcessObserver.admit_readers`."""
        self._managers = managers
        self._security = security

    async def refuse(self, token: str) -> HttpRefusal | None:
        """See `Doorkeeper.refuse`."""
        security = self._security
        if security is None:
            return HttpRefusal(503, "the process is starting")
        if not security.is_on:
            return None
        if self._tls is None:
            told = "this port has no TLS, so no token is taken here: give the process certificates, or ask on its machine"
            return HttpRefusal(403, told)
        if not token:
            return HttpRefusal(401, "show the token of a user that reads metrics")
        digest = hashlib.sha256(token.encode()).digest()
        try:
            if self._is_fresh(known := self._known.get(digest), security):
                principal = known.principal
            elif _is_users(known, security):
                principal = await self._find_user(digest, token, security, self._users_turn)
            elif self._strangers_waiting < strangers_waiting_max:
                self._strangers_waiting += 1
                try:
                    principal = await self._find_user(digest, token, security, self._strangers_turn)
                finally:
                    self._strangers_waiting -= 1
            else:
                return HttpRefusal(503, "too many others show tokens that are not known here: ask again")
        except FS3Error as why:
            log.warning("a token shown at the metrics port could not be looked at: %s", why)
            return HttpRefusal(503, "no manager says whose this token is")
        if principal is None or security.revoked.is_revoked(principal):
            return HttpRefusal(401, "this is not the token of a user")
        if not principal.rights & _READERS:
            return HttpRefusal(
                403, f"user {principal.name!r} may not read metrics: fs3 user set {principal.name} --reads-metrics"
            )
        return None

    async def _find_user(self, digest: bytes, token: str, security: SecurityState, turn: asyncio.Lock) -> Principal | None:
        """Whose token it is; None: no one's. FS3Error: that cannot be found out now."""
        async with turn:
            if self._is_fresh(known := self._known.get(digest), security):
                return known.principal
            try:
                async with asyncio.timeout(login_ns / SECOND):
                    principal = await self._log_in(token, security)
            except (FS3Error, TimeoutError) as why:
                if isinstance(why, FS3Error) and why.code in _REFUSED:
                    principal = None
                elif known is not None and known.principal is not None and self._clock.now() - known.at < token_kept_ns:
                    return known.principal
                else:
                    raise why if isinstance(why, FS3Error) else error(Code.DEADLINE, "no manager has answered") from why
            self._remember(digest, principal)
            return principal

    def _remember(self, digest: bytes, principal: Principal | None) -> None:
        """Wrong tokens go before those of users, however many are shown."""
        self._known[digest] = _Known(principal, self._clock.now())
        self._known.move_to_end(digest)
        if len(self._known) > tokens_remembered_max:
            wrong = (each for each, known in self._known.items() if known.principal is None)
            del self._known[next(wrong, next(iter(self._known)))]

    def _is_fresh(self, known: _Known | None, security: SecurityState) -> TypeGuard[_Known]:
        if known is None:
            return False
        if known.principal is not None and not _is_users(known, security):
            return False
        return self._clock.now() - known.at < (token_refused_ns if known.principal is None else token_known_ns)

    async def _log_in(self, token: str, security: SecurityState) -> Principal:
        """As the user with this token. FS3Error."""
        session = LoginSession(token_credentials(GivenToken(Secret(token))), self._clock)
        wires: list[Transport] = [framed_wire(self._tls, self._clock)]
        if any(endpoint.startswith("grpc") for endpoint in self._managers):
            wires.append(GrpcTransport(self._clock, credentials=self._tls))
        connector = Connector(wires, host="")
        client = MgmtdClient(connector, self._managers, self._clock, session=session)
        try:
            await client.log_in()
        finally:
            await client.close()
            await connector.close()
        try:
            return security.open_ticket(session.ticket, self._clock.now())
        except SealError as why:
            raise error(Code.BUSY, f"the ticket of a login cannot be read: {why}") from None


def _is_users(known: _Known | None, security: SecurityState) -> bool:
    """A token was that of a user, who has not been revoked since."""
    return known is not None and known.principal is not None and not security.revoked.is_revoked(known.principal)
