"""Security in a simulated cluster: keys that rotate, the time of the cluster, revocations, tickets, and how hosts hear of them.

It stands in for the manager's part, so that scenes can have keys rotate and users revoked when they like. What it decides reaches
each host as an answer of the manager would: within `TELL_NS`, and not while the host is cut off from the managers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fs3.base.limits import ticket_lifetime_ms
from fs3.base.prng import Prng
from fs3.base.units import MILLISECOND, SECOND
from fs3.core.security.revocations import Revocations, revocation_name
from fs3.core.security.seal import KEY_BYTES, KeyRing
from fs3.core.security.state import SecurityState
from fs3.core.security.tickets import seal_ticket
from fs3.model.inode import User
from fs3.model.principal import Principal, PrincipalKind, Right
from fs3.ports.clock import Clock
from fs3.runtime.ticket_gate import TicketGate
from fs3.sim.ring2.loop import SimLoop

TELL_NS = 500 * MILLISECOND
"""Each host is told so often."""
KEY_SPREAD_NS = 4 * TELL_NS
"""A key verifies everywhere before it signs anywhere."""
CLUSTER = b"a simulated one!"
_RIGHTS = {"mgmtd": Right.MGMTD, "meta": Right.META, "storage": Right.STORAGE}


def tenant_of(client: str) -> str:
    """Clients belong to two tenants, by turns."""
    return "odd" if int(client.rpartition("-")[2]) % 2 else "even"


class Wallet:
    """The tickets of one process, renewed for as long as its principal is not revoked: a `TicketSource`."""

    def __init__(self) -> None:
        self.ticket = b""
        self.has_ended = False
        """There will be no newer one."""
        self._callbacks: dict[Callable[[], None], None] = {}

    def subscribe(self, on_ticket: Callable[[], None]) -> Callable[[], None]:
        """See `TicketSource.subscribe`."""
        self._callbacks[on_ticket] = None
        return lambda: self._callbacks.pop(on_ticket, None)

    def on_refused(self, ticket: bytes, server: str) -> bool:
        """See `TicketSource.on_refused`: a newer one comes with what the host is told next."""
        return not self.has_ended

    def put(self, ticket: bytes) -> None:
        """A newer one."""
        if ticket != self.ticket:
            self.ticket = ticket
            for callback in list(self._callbacks):
                callback()


class HostSecurity:
    """What one process knows, and proves."""

    def __init__(self, name: str, clock: Clock, user: User, network_clock: Clock) -> None:
        """`network_clock`: the simulated network measures the time of all hosts by it, and so does what stands in front of their
        listeners."""
        self.state = SecurityState()
        self.gate_state = SecurityState()
        """The same, by the clock of the network."""
        self.network_clock = network_clock
        self.gate = TicketGate(self.gate_state, network_clock)
        self.wallet = Wallet()
        self.clock = clock
        role = name.partition("-")[0]
        self.kind = PrincipalKind.SERVICE if role in _RIGHTS else PrincipalKind.USER
        self.name = name
        self.rights = int(_RIGHTS.get(role, Right.USER if user.uid else Right.USER | Right.ADMIN))
        self.user = user
        self.tenant = "" if role in _RIGHTS else tenant_of(name)


class Authority:
    """Of one cluster. Made with the first host."""

    def __init__(self, loop: SimLoop, prng: Prng, clock: Clock, is_cut: Callable[[str], bool]) -> None:
        """`is_cut`: a host does not hear of the managers at the moment."""
        self._loop = loop
        self._prng = prng
        self._clock = clock
        self._is_cut = is_cut
        self._keys = {1: prng.bytes(KEY_BYTES)}
        self._newest = 1
        self._revoked: dict[str, int] = {}
        self._epoch = 0
        self._banned: set[str] = set()
        self._hosts: dict[str, HostSecurity] = {}
        self._telling: asyncio.Task[None] | None = None

    @property
    def ring(self) -> KeyRing:
        """The keys as they are now."""
        return KeyRing(CLUSTER, dict(self._keys), self._newest)

    def now_ms(self) -> int:
        """The time of the cluster."""
        return 1 + self._clock.now() // MILLISECOND

    def join(self, name: str, clock: Clock, user: User) -> HostSecurity:
        """A process begins, and has proved who it is."""
        security = self._hosts[name] = HostSecurity(name, clock, user, self._clock)
        self._tell(security)
        if self._telling is None:
            self._telling = self._loop.create_task(self._keep_telling())
        return security

    # --- what scenes do ------------------------------------------------------------------------------------------------

    async def rotate(self) -> None:
        """A new key; of the old ones the last verifies on."""
        number = max(self._keys) + 1
        self._keys[number] = self._prng.bytes(KEY_BYTES)
        await asyncio.sleep(KEY_SPREAD_NS / SECOND)
        self._newest = number
        for old in sorted(self._keys)[:-2]:
            del self._keys[old]

    def drop_keys(self) -> None:
        """The keys are known to others: a new one at once, and none of the old."""
        number = max(self._keys) + 1
        self._keys = {number: self._prng.bytes(KEY_BYTES)}
        self._newest = number

    def revoke(self, name: str) -> None:
        """A user is revoked, and not let in any more."""
        self._epoch += 1
        self._revoked[revocation_name(PrincipalKind.USER, name)] = self._epoch
        self._banned.add(name)

    def ban(self, name: str) -> None:
        """A user is removed: what it has proved counts until it ends, and it proves nothing any more."""
        self._banned.add(name)

    # --- how others hear of it -----------------------------------------------------------------------------------------

    async def _keep_telling(self) -> None:
        while True:
            await asyncio.sleep(TELL_NS / SECOND)
            for name, security in list(self._hosts.items()):
                if not self._is_cut(name):
                    self._tell(security)

    def _tell(self, security: HostSecurity) -> None:
        for state, clock in ((security.state, security.clock), (security.gate_state, security.network_clock)):
            now = clock.now()
            state.time.learn(self.now_ms(), now, now)
        if security.name not in self._banned:
            epoch = self._epoch
            expires = self.now_ms() + ticket_lifetime_ms
            user = security.user
            principal = Principal(
                security.kind,
                security.name,
                security.rights,
                user.uid,
                user.gid,
                user.groups,
                security.tenant,
                expires_ms=expires,
                epoch=epoch,
            )
            security.wallet.put(seal_ticket(self.ring, principal))
        else:
            security.wallet.has_ended = True
        revoked = Revocations(self._epoch, dict(self._revoked))
        # Managers would have clients log in that hear that security is on, but these have their tickets from here.
        security.state.update(is_on=False, ring=self.ring, revoked=revoked)
        security.gate_state.update(is_on=True, ring=self.ring, revoked=revoked)
