"""How a manager process learns what connections to it must prove: the primary from its machine, others from what is stored."""

from __future__ import annotations

from fs3.core.membership.security import Security, bundle_of, revocations_of
from fs3.core.security.login import ring_of
from fs3.core.security.state import SecurityState
from fs3.model.security import KeyBundle, SecurityPhase, SecurityRow
from fs3.ports.clock import Clock


class SecurityFollower:
    """Keeps a `SecurityState` up to date."""

    def __init__(self, state: SecurityState, clock: Clock) -> None:
        self._state = state
        self._clock = clock
        self._version = 0
        """Of the bundle in the state, while this is the primary."""

    def begin_term(self) -> None:
        """This is the primary now."""
        self._version = 0

    def on_read(self, row: SecurityRow, cluster: bytes) -> None:
        """A manager that stands by goes by what is stored. Its time is the bound, which is ahead: no ticket that is over
        counts."""
        if row.version:
            now = self._clock.now()
            self._state.time.learn(row.bound_ms, now, now)
            self._update(bundle_of(row), cluster)

    def follow(self, security: Security, cluster: bytes) -> None:
        """The primary goes by what it has stored."""
        if not security.version:
            return
        now = self._clock.now()
        self._state.time.learn(security.now_ms(now), now, now)
        if security.version != self._version:
            self._version = security.version
            self._update(security.bundle(), cluster)

    def _update(self, bundle: KeyBundle, cluster: bytes) -> None:
        is_on = bundle.phase is SecurityPhase.ON
        self._state.update(is_on=is_on, ring=ring_of(cluster, bundle), revoked=revocations_of(bundle))
