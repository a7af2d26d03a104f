"""Being logged in: tickets, renewed in the background long before they end.

Intuition: a ticket lasts a minute and is renewed at half of that, so an outage of the manager of half a minute shows nowhere, and
a user that is revoked has nothing left soon. A server that refuses a ticket although it is fresh has not heard of its key yet, or
the user was revoked: logging in again tells which. How soon, `fs3.core.security.login_pacing` says.

Without security nothing has to be proved. A session that has something to log in with does so all the same, as soon as the
cluster knows of users or keys: when security is turned on, its tickets have been shown everywhere already.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from typing import Protocol

from fs3.base.errors import FS3Error, error
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.client.security.credentials import Credential, CredentialSource
from fs3.core.security.login import (
    NONCE_BYTES,
    Entropy,
    LoginError,
    decode_grant,
    make_proof,
    transcript_of,
    unlock_grant,
)
from fs3.core.security.login_pacing import LoginPacing
from fs3.model.security import BeginLogin, Challenge, Grant, Login, LoginKind
from fs3.ports.clock import Clock
from fs3.ports.security import EndSubscription, OnTicket
from fs3.runtime.tasks import start_background
from fs3.runtime.ticket_listeners import TicketListeners

log = logging.getLogger("fs3.client")

login_retry_min_ns = 200 * MILLISECOND
login_retry_max_ns = 5 * SECOND
login_look_ns = 5 * SECOND
"""How often a cluster that knows of no users is asked whether it does now."""
login_attempts_max = 3
"""Of one login, while managers replace each other."""
refused_ns_max = 15 * SECOND
"""For so long a session that goes on being refused, although it logs in, says that asking again is worth while."""
refused_pause_ns = 5 * SECOND
"""A refusal so long after the one before is the first one again."""

_FINAL = (Code.NOT_ADMITTED, Code.WRONG_CLUSTER, Code.INVALID, Code.ACCESS, Code.NOT_FOUND, Code.NOT_AUTHENTICATED)
"""Logging in again, with the same, fails in the same way."""

OnGrant = Callable[[bytes, Grant, int], None]
"""A login to the cluster of this id has given this; it was asked for at that time, by the monotonic clock."""


class LoginPort(Protocol):
    """The manager, for those who log in."""

    @property
    def cluster(self) -> bytes:
        """Id of the cluster."""
        ...

    @property
    def is_secured(self) -> bool:
        """The cluster lets those do hardly anything who have not logged in."""
        ...

    @property
    def has_logins(self) -> bool:
        """The cluster knows of users or keys."""
        ...

    async def ask_logins(self) -> None:
        """Bring `is_secured` and `has_logins` up to date. Raises FS3Error."""
        ...

    async def begin_login(self, request: BeginLogin) -> Challenge:
        """The first half of a login. Raises FS3Error."""
        ...

    async def login(self, request: Login) -> bytes:
        """The second half. Raises FS3Error; NOT_ADMITTED: it is refused."""
        ...


class LoginSession:
    """A `TicketSource`. Belongs to one event loop, from `start` on; made before, it may be given to transports."""

    def __init__(
        self,
        credentials: CredentialSource,
        clock: Clock,
        entropy: Entropy = os.urandom,
        on_grant: OnGrant | None = None,
    ) -> None:
        """`credentials` is asked for each login. `entropy` draws nonces. `on_grant` is told of each login, before the ticket is
        shown anywhere."""
        self._credentials = credentials
        self._clock = clock
        self._entropy = entropy
        self._on_grant = on_grant
        self._ticket = b""
        self._name = ""
        self._lifetime_ns = 0
        self._granted_at = 0
        self._listeners = TicketListeners()
        self._prng = Prng(int.from_bytes(entropy(8), "big"))
        self._pacing = LoginPacing(self._prng)
        self._pacing_lock = threading.Lock()
        """Threads that block tell of refusals themselves."""
        self._wanted = asyncio.Event()
        """`_due_at` is earlier than it was."""
        self._due_at: int | None = None
        """When a login is due that refusals of this ticket ask for."""
        self._renewing: asyncio.Task[None] | None = None
        self._has_credential = False
        """There was something to log in with, the last time."""
        self._failure: FS3Error | None = None
        """Why the last login failed."""
        self._refused_since = 0
        self._refused_at = 0
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        """Set with `_renewing`."""

    def __repr__(self) -> str:
        return f"<LoginSession of {self._name or 'no one yet'}>"

    # --- the ticket source -------------------------------------------------------------------------------------------

    @property
    def ticket(self) -> bytes:
        """See `TicketSource`."""
        return self._ticket

    @property
    def name(self) -> str:
        """Of the user or node that it is; "" before the first login."""
        return self._name

    def subscribe(self, on_ticket: OnTicket) -> EndSubscription:
        """See `TicketSource`."""
        return self._listeners.subscribe(on_ticket)

    def on_refused(self, ticket: bytes, server: str) -> bool:
        """See `TicketSource`. May be called from any thread."""
        if ticket != self._ticket:
            return True
        if self._failure is not None and self._failure.code in _FINAL:
            return False
        with self._pacing_lock:
            now = self._clock.now()
            if now - self._refused_at >= refused_pause_ns:
                self._refused_since = now
            self._refused_at = now
            due_at = self._pacing.on_refused(server, ticket, now)
            is_hopeless = now - self._refused_since >= refused_ns_max
        self._renew_at(due_at, ticket)
        return not is_hopeless

    # --- life --------------------------------------------------------------------------------------------------------

    async def start(self, manager: LoginPort) -> None:
        """Log in, where the cluster knows of users, and renew from then on. FS3Error: it fails, and the cluster asks for it."""
        self._loop = asyncio.get_running_loop()
        try:
            await self._renew(manager)
        except FS3Error as failure:
            if manager.is_secured:
                raise
            log.warning("the cluster is open, and this login to it failed: %s", failure)
        if self._renewing is None:
            self._renewing = start_background(self._keep(manager))

    async def close(self) -> None:
        """Renew no more."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
            self._renewing = None

    def renew_now(self) -> None:
        """Do not wait for half of the ticket's life. May be called from any thread."""
        self._renew_at(self._clock.now(), self._ticket)

    def _renew_at(self, due_at: int, ticket: bytes) -> None:
        """Replace this ticket then, if it is still the newest, and not only when half of its life is over. From any thread."""
        if self._loop is not None and os.getpid() == self._pid and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._on_due, due_at, ticket)

    def _on_due(self, due_at: int, ticket: bytes) -> None:
        if ticket == self._ticket and (self._due_at is None or due_at < self._due_at):
            self._due_at = due_at
            self._wanted.set()

    async def _wait_due(self, pause_ns: int | None, *, failing: bool) -> None:
        """Until the next login is due: after `pause_ns` (None: not by itself), or when a refusal asks for one. One that follows a
        login that has failed is as late as that says, however much is refused meanwhile."""
        next_at = None if pause_ns is None else self._clock.now() + pause_ns
        while True:
            times = [at for at in (next_at, None if failing else self._due_at) if at is not None]
            left = max(0, min(times) - self._clock.now()) / SECOND if times else None
            try:
                async with asyncio.timeout(left):
                    await self._wanted.wait()
            except TimeoutError:
                return
            self._wanted.clear()

    async def _keep(self, manager: LoginPort) -> None:
        pause_ns = self._pause_ns()
        failing = False
        while True:
            await self._wait_due(pause_ns, failing=failing)
            self._due_at = None
            try:
                await self._renew(manager)
                if failing:
                    log.info("logged in again as %s", self._name)
                failing = False
                pause_ns = self._pause_ns()
            except FS3Error as failure:
                # A user that was disabled may be enabled again, and a token file replaced.
                if not failing:
                    log.warning("the login could not be renewed: %s", failure)
                failing = True
                pause_ns = self._prng.between(login_retry_min_ns, login_retry_max_ns)
            except Exception:
                log.exception("the login could not be renewed")
                failing = True
                pause_ns = login_retry_max_ns

    def _pause_ns(self) -> int | None:
        """Until the next login, or look; None: until it is wanted."""
        if not self._ticket:
            return login_look_ns if self._has_credential else None
        return self._prng.between(self._lifetime_ns * 4 // 10, self._lifetime_ns // 2)

    async def _renew(self, manager: LoginPort) -> None:
        """Log in once, where there is something to log in with and to. Raises FS3Error."""
        try:
            credential = self._credentials()
            self._has_credential = credential is not None
            if credential is None:
                return
            if not self._ticket and not manager.has_logins:
                await manager.ask_logins()
                if not manager.has_logins:
                    return
            if credential.cluster and credential.cluster != manager.cluster.hex()[: len(credential.cluster)]:
                told = f"the token is of cluster {credential.cluster}…, this is cluster {manager.cluster.hex()[:8]}…"
                raise error(Code.WRONG_CLUSTER, told)
            grant, asked_at = await self._log_in(manager, credential)
        except LoginError as wrong:
            self._failure = error(Code.PROTOCOL, str(wrong))
            raise self._failure from None
        except FS3Error as failure:
            self._failure = failure
            raise
        self._take(manager.cluster, grant, asked_at)

    async def _log_in(self, manager: LoginPort, credential: Credential) -> tuple[Grant, int]:
        """What a login gives, and when it was asked for. Raises FS3Error, LoginError."""
        if credential.claimant.kind is LoginKind.CERTIFICATE:
            asked_at = self._clock.now()
            return decode_grant(await manager.login(Login(credential.claimant, b"", b"", b""))), asked_at
        for attempt in range(login_attempts_max):
            begin = BeginLogin(credential.claimant, self._entropy(NONCE_BYTES))
            challenge = await manager.begin_login(begin)
            # The cluster that this process talks to, whatever the challenge says.
            transcript = transcript_of(manager.cluster, begin, challenge.server_nonce)
            proof = make_proof(credential.secret, transcript)
            answer = Login(begin.claimant, begin.client_nonce, challenge.server_nonce, proof)
            asked_at = self._clock.now()
            try:
                return unlock_grant(credential.secret, transcript, await manager.login(answer)), asked_at
            except FS3Error as failure:
                # Another manager has answered than the one that gave the challenge.
                if failure.code is not Code.STALE or attempt + 1 == login_attempts_max:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _take(self, cluster: bytes, grant: Grant, asked_at: int) -> None:
        self._failure = None
        if self._on_grant is not None:
            self._on_grant(cluster, grant, asked_at)
        self._name = grant.name
        self._granted_at = asked_at
        self._lifetime_ns = grant.lifetime_ms * MILLISECOND
        self._ticket = grant.ticket
        self._due_at = None
        self._listeners.tell()
