"""What a service process knows of the cluster's security, as the manager tells it. Tickets and capabilities are checked by it."""

from __future__ import annotations

from collections.abc import Callable

from fs3.core.security.cluster_time import ClusterTime
from fs3.core.security.revocations import Revocations
from fs3.core.security.seal import KeyRing, SealError
from fs3.core.security.tickets import open_ticket
from fs3.model.principal import Principal

OnSecurityChanged = Callable[[], None]
"""Looks again at what connections have proved."""


class SecurityState:
    """One per service process. Without security (`is_on` False) nothing is asked of it."""

    def __init__(self) -> None:
        self.is_on = False
        """Connections have the rights that they have proved, and no others."""
        self.ring = KeyRing(b"", {}, 0)
        """Tickets and capabilities are sealed with it."""
        self.time = ClusterTime()
        self.revoked = Revocations()
        self._callbacks: list[OnSecurityChanged] = []

    def subscribe(self, callback: OnSecurityChanged) -> None:
        """Have `callback` called with every change of `is_on`, `ring` and `revoked`."""
        self._callbacks.append(callback)

    def update(self, *, is_on: bool, ring: KeyRing, revoked: Revocations) -> None:
        """Take over what the manager says."""
        changed = is_on != self.is_on or ring != self.ring or revoked.epoch != self.revoked.epoch
        self.is_on, self.ring, self.revoked = is_on, ring, revoked
        if changed:
            for callback in self._callbacks:
                callback()

    def open_ticket(self, data: bytes, monotonic_ns: int) -> Principal:
        """Whose ticket it is. Raises SealError: it does not count, or the manager was not heard for so long that this cannot be
        said."""
        if not self.time.is_known(monotonic_ns):
            raise SealError("the manager was not heard for a while, so no ticket can be checked")
        principal = open_ticket(self.ring, data, self.time.now_ms(monotonic_ns))
        if self.revoked.is_revoked(principal):
            raise SealError("its user was revoked")
        return principal
