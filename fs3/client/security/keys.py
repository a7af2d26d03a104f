"""What a service process knows of the cluster's security, kept fresh: by its own logins, which heartbeats ask for."""

from __future__ import annotations

from fs3.client.security.credentials import CredentialSource
from fs3.client.security.session import LoginSession
from fs3.core.membership.security import revocations_of
from fs3.core.security.login import ring_of
from fs3.core.security.state import SecurityState
from fs3.model.security import Grant, SecurityPhase
from fs3.ports.clock import Clock


class ServiceKeys:
    """The login of one node, and the keys that come with it."""

    def __init__(self, credentials: CredentialSource, clock: Clock, digest: bytes = b"") -> None:
        """`digest`: of the key that is the node's own; b"": it has the one of its machine."""
        self.digest = digest
        self.state = SecurityState()
        """Its listeners go by it."""
        self.version = 0
        """Of the bundle that `state` is made of."""
        self._clock = clock
        self.session = LoginSession(credentials, clock, on_grant=self._on_grant)

    def on_heard(self, version: int, cluster_ms: int, asked_at: int) -> None:
        """The manager has answered a heartbeat that was sent at `asked_at`: it has a bundle of this version, 0: none, and it was
        this time."""
        if cluster_ms:
            self.state.time.learn(cluster_ms, self._clock.now(), asked_at)
        if version != self.version:
            self.session.renew_now()

    def _on_grant(self, cluster: bytes, grant: Grant, asked_at: int) -> None:
        self.state.time.learn(grant.now_ms, self._clock.now(), asked_at)
        bundle = grant.bundle
        if bundle is None:
            return
        self.version = bundle.version
        self.state.update(
            is_on=bundle.phase is SecurityPhase.ON,
            ring=ring_of(cluster, bundle),
            revoked=revocations_of(bundle),
        )
