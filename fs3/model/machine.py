"""Machines that join a cluster, the tokens they join with, and what is asked of the manager about both.

Times of day are milliseconds since 1970: they are shown to people, and say when a token expires.

What has a secret in it travels proved and locked (`fs3.core.security.proved`): `JoinCluster` and records with a `MachineProof`
travel as they are only from machines of releases that had nothing else.
"""

from __future__ import annotations

import msgspec


class Machine(msgspec.Struct, frozen=True, array_like=True):
    """A machine that has joined. A row of the manager's store: new fields go at the end with a default."""

    name: str
    key_digest: bytes
    """SHA-256 of its key. The key is in the machine's directory, and nowhere else."""
    joined_ms: int = 0
    token_id: str = ""
    """Of the token it has joined with; "": it has made the cluster."""
    addresses: tuple[str, ...] = ()
    """Names and addresses that its first certificate was made for, and later ones may be."""


class JoinToken(msgspec.Struct, frozen=True, array_like=True):
    """What a machine joins with. A row of the manager's store: new fields go at the end with a default."""

    id: str
    """Hexadecimal; no secret."""
    digest: bytes
    """SHA-256 of the secret, which only the one has who was given the token."""
    uses_max: int
    """So many machines may join with it."""
    expires_ms: int = 0
    """0: never."""
    made_ms: int = 0
    used_by: tuple[str, ...] = ()
    """Machines that have joined with it."""
    revoked: bool = False
    addresses: tuple[str, ...] = ()
    """Names and addresses that certificates of these machines may be for, besides those that a manager sees them at."""


class MachineProof(msgspec.Struct, frozen=True):
    """Shows that a request comes from a machine that has joined."""

    machine: str
    key: bytes


class JoinCluster(msgspec.Struct, frozen=True):
    """A machine asks to belong to the cluster. Answered with `JoinAck`."""

    token: str
    """All of it, as text."""
    machine: str
    key: bytes
    at_ms: int = 0
    """When it arrived: filled in by the manager that is asked."""


class AdmitMachine(msgspec.Struct, frozen=True):
    """A machine that knows the secret of a token is to belong to the cluster. Answered with `JoinAck`."""

    token_id: str
    machine: str
    key_digest: bytes
    addresses: tuple[str, ...] = ()
    """Of the certificate that it gets with the answer; (): it gets none."""
    at_ms: int = 0
    """As in `JoinCluster`."""


class JoinAck(msgspec.Struct, frozen=True):
    """Answer to `JoinCluster` and `AdmitMachine`."""

    cluster: bytes
    name: str


class MakeToken(msgspec.Struct, frozen=True):
    """A token is made. Answered with the `JoinToken`."""

    proof: MachineProof
    id: str
    digest: bytes
    uses_max: int
    lifetime_ms: int
    """0: it does not expire."""
    at_ms: int = 0
    """As in `JoinCluster`."""
    addresses: tuple[str, ...] = ()
    """As in `JoinToken`."""
    is_by_admin: bool = False
    """A user who is an administrator asks, in a cluster that has security: filled in by the manager that is asked."""


class RevokeToken(msgspec.Struct, frozen=True):
    """No machine joins with the token any more. Answered with the `JoinToken`."""

    proof: MachineProof
    id: str


class RemoveMachine(msgspec.Struct, frozen=True):
    """A machine belongs to the cluster no more. Answered with None."""

    proof: MachineProof
    machine: str
    comes_back: bool = False
    """It is to join again under its name: its nodes keep the targets they hold."""


class MachineList(msgspec.Struct, frozen=True):
    """Who has joined, and who may."""

    machines: tuple[Machine, ...]
    """Without their digests, when they come from a manager."""
    tokens: tuple[JoinToken, ...]
    is_closed: bool
    """Only machines that have joined may have nodes."""


# --- certificates ----------------------------------------------------------------------------------------------------


class CertificateAuthority(msgspec.Struct, frozen=True, array_like=True):
    """What managers issue certificates with. A row of the manager's store: new fields go at the end with a default."""

    certificate: bytes
    """PEM."""
    key: bytes
    """PEM. Who has it can make certificates that the whole cluster believes."""

    def __repr__(self) -> str:
        return "<CertificateAuthority>"


class SetAuthority(msgspec.Struct, frozen=True):
    """Certificates of machines are issued with this authority from now on. Answered with None."""

    proof: MachineProof
    authority: CertificateAuthority
    is_by_admin: bool = False
    """As in `MakeToken`."""


class CertificateWish(msgspec.Struct, frozen=True):
    """A machine wants a certificate. Answered with `IssuedCertificate`."""

    request: bytes
    """A PKCS #10 request, PEM: its key is what counts, and that its holder has signed it."""
    addresses: tuple[str, ...]
    """Names and addresses that the machine is reached by."""


class IssuedCertificate(msgspec.Struct, frozen=True):
    """PEM."""

    certificate: bytes
    authority: bytes
    """The certificate of the authority that has issued it."""


class JoinWish(msgspec.Struct, frozen=True):
    """What a machine says when it joins, under the lock of its token. Answered with `Joined`."""

    key_digest: bytes
    certificate: CertificateWish | None = None


class Joined(msgspec.Struct, frozen=True):
    """Answer to `JoinWish`."""

    cluster: bytes
    name: str
    certificate: IssuedCertificate | None = None
