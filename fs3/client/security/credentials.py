"""What a process logs in with: the token of a user, the key of a node, or its TLS client certificate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from fs3.base.errors import error
from fs3.base.status import Code
from fs3.core.security.login import parse_user_token
from fs3.model.machine import MachineProof
from fs3.model.security import Claimant, LoginKind
from fs3.runtime.token_sources import TokenSource


@dataclass(frozen=True, slots=True)
class Credential:
    """Who a process is, and the secret that shows it."""

    claimant: Claimant
    secret: bytes = field(repr=False)
    cluster: str = ""
    """First digits of the id of the cluster that it is for; "": not said."""


CredentialSource = Callable[[], Credential | None]
"""What to log in with now; None: there is nothing. Raises FS3Error naming what cannot be used."""

CERTIFICATE = Credential(Claimant(LoginKind.CERTIFICATE, ""), b"")
"""Of a process whose connections have a client certificate."""


def token_credentials(source: TokenSource) -> CredentialSource:
    """Of the user whose token it is."""

    def read() -> Credential | None:
        secret = source.read()
        if secret is None:
            return None
        try:
            cluster, number, key = parse_user_token(secret.reveal())
        except ValueError as wrong:
            raise error(Code.INVALID, str(wrong)) from None
        return Credential(Claimant(LoginKind.TOKEN, number), key, cluster)

    return read


def node_credentials(name: str, key: bytes) -> CredentialSource:
    """Of a node with a key of its own."""
    return lambda: Credential(Claimant(LoginKind.NODE, name, name), key)


def or_certificate(source: CredentialSource) -> CredentialSource:
    """The same, and where there is nothing, the client certificate of the connection."""
    return lambda: source() or CERTIFICATE


def machine_credentials(proof: MachineProof, node: str = "") -> CredentialSource:
    """Of a machine that has joined, for one of its nodes; "": for who is root there."""
    return lambda: Credential(Claimant(LoginKind.NODE, proof.machine, node), proof.key)
