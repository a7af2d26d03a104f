"""What a service process knows of the cluster's security, kept fresh: by its own logins, which heartbeats ask for."""

from __future__ import annotations

from typing import Protocol

from fs3.client.security.credentials import CredentialSource
from fs3.client.security.session import LoginSession
from fs3.core.membership.security import revocations_of
from fs3.core.security.login import ring_of
from fs3.core.security.state import SecurityState
from fs3.model.security import Grant, SecurityPhase
from fs3.ports.clock import Clock


class ShownCertificate(Protocol):
    """The TLS certificate that a process shows."""

    @property
    def ends_ms(self) -> int:
        """When it ends, by time of day, in milliseconds since 1970; 0: there is none, or it cannot be read."""
        ...


class ServiceKeys:
    """The login of one node, and the keys that come with it."""

    def __init__(
        self, credentials: CredentialSource, clock: Clock, digest: bytes = b"", certificate: ShownCertificate | None = None
    ) -> None:
        """`digest`: of the key that is the node's own; b"": it has the one of its machine. `certificate`: what it shows by
        TLS."""
        self.digest = digest
        self._certificate = certificate
        self.state = SecurityState()
        """Its listeners go by it."""
        self.version = 0
        """Of the bundle that `state` is made of."""
        self._clock = clock
        self.session = LoginSession(credentials, clock, on_grant=self._on_grant)

    @property
    def certificate_ends_ms(self) -> int:
        """See `ShownCertificate.ends_ms`."""
        return self._certificate.ends_ms if self._certificate is not None else 0

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
