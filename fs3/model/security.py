"""Users, their tokens, the keys of nodes, and what the manager is asked about them.

Two kinds of time: tokens expire by time of day (milliseconds since 1970), for people; everything else counts in the time of the
cluster (`fs3.core.security.cluster_time`).
"""

from __future__ import annotations

from enum import IntEnum

import msgspec


class SecurityPhase(IntEnum):
    """How far a cluster is with its security. Numbers travel and are stored."""

    OFF = 0
    """Everybody may do everything; who can prove who he is, does."""
    ON = 1
    """Connections have the rights that they have proved."""


class UserToken(msgspec.Struct, frozen=True, array_like=True):
    """One of the tokens of a user. New fields go at the end with a default."""

    id: str
    """Hexadecimal; no secret."""
    digest: bytes
    """SHA-256 of the secret, which only the user has."""
    name: str = ""
    """What it is for, as the user calls it."""
    made_ms: int = 0
    expires_ms: int = 0
    """Both by time of day; 0: never."""
    revoked: bool = False


class Account(msgspec.Struct, frozen=True, array_like=True):
    """A person, or a program (a service account). A row of the manager's store: new fields go at the end with a default."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    """Supplementary groups."""
    tenant: str = ""
    """Whose KV namespaces it may use."""
    is_admin: bool = False
    is_service: bool = False
    """A program: it is shown apart."""
    acts_for_others: bool = False
    """Its programs, such as the mount of a trusted machine, ask in the name of others."""
    is_disabled: bool = False
    """It cannot log in."""
    certificates: tuple[str, ...] = ()
    """Subjects of TLS client certificates that are this user."""
    tokens: tuple[UserToken, ...] = ()
    since: int = 0
    """See `fs3.model.principal.Principal.since`."""
    reads_metrics: bool = False
    """It may read the metrics of processes, as the account of Prometheus does."""


class NodeKey(msgspec.Struct, frozen=True, array_like=True):
    """What a node is known by that is of no machine which has joined. A row of the manager's store."""

    name: str
    digest: bytes
    """SHA-256 of its key."""


class SealingKey(msgspec.Struct, frozen=True, array_like=True):
    """A key that seals tickets and capabilities, or has, or will."""

    id: int
    key: bytes
    made_ms: int
    """Of the cluster's time."""
    ends_ms: int = 0
    """From then on it verifies nothing; 0: not known yet."""

    def __repr__(self) -> str:
        return f"<SealingKey {self.id}>"


class SecurityRow(msgspec.Struct, frozen=True, array_like=True):
    """The security of the cluster. A row of the manager's store: new fields go at the end with a default."""

    phase: SecurityPhase = SecurityPhase.OFF
    version: int = 0
    """Rises with each change that services must hear of."""
    bound_ms: int = 0
    """The time of the cluster has not been beyond this."""
    keys: tuple[SealingKey, ...] = ()
    """Oldest first."""
    newest: int = 0
    """Id of the key that seals."""
    epoch: int = 0
    """Rises with each revocation."""
    revoked: dict[str, tuple[int, int]] = {}
    """By `revocation_name`: the epoch, and the time of the cluster from when on it need not be remembered."""


class KeyBundle(msgspec.Struct, frozen=True, array_like=True):
    """What a service is given: it checks tickets and capabilities by it. New fields go at the end with a default."""

    phase: SecurityPhase
    version: int
    keys: dict[int, bytes]
    newest: int
    epoch: int
    revoked: dict[str, int]

    def __repr__(self) -> str:
        return f"<KeyBundle of version {self.version}>"


class Grant(msgspec.Struct, frozen=True, array_like=True):
    """What a login gives. New fields go at the end with a default."""

    ticket: bytes
    now_ms: int
    """The time of the cluster."""
    lifetime_ms: int
    """Of the ticket."""
    name: str
    rights: int
    bundle: KeyBundle | None = None
    """For services."""

    def __repr__(self) -> str:
        return f"<Grant for {self.name}>"


class LoginKind(IntEnum):
    """What a login is proved by. Numbers travel."""

    TOKEN = 1
    """A user's token."""
    NODE = 2
    """The key of a node, or of a machine that has joined: for one of its nodes, or for who is root there."""
    CERTIFICATE = 3
    """The TLS client certificate of the connection."""
    JOIN_TOKEN = 4
    """A token that machines join with. Nothing logs in by it: a request is proved with it (`ProvedRequest`)."""


class Claimant(msgspec.Struct, frozen=True, array_like=True):
    """Who wants to log in, before anything is proved."""

    kind: LoginKind
    identity: str
    """Id of the token; name of the node's key or of the machine; "" with a certificate."""
    node: str = ""
    """Name of the node, or of the machine that joins; "": who asks is none."""


class BeginLogin(msgspec.Struct, frozen=True):
    """Asks for a challenge. Answered with `Challenge`."""

    claimant: Claimant
    client_nonce: bytes


class Challenge(msgspec.Struct, frozen=True):
    """What a login must answer."""

    cluster: bytes
    server_nonce: bytes


class Login(msgspec.Struct, frozen=True):
    """Answers a challenge. Answered with a locked `Grant`."""

    claimant: Claimant
    client_nonce: bytes
    server_nonce: bytes
    proof: bytes


class ProvedRequest(msgspec.Struct, frozen=True):
    """A request that only one can have made, and only a manager can read, which knows the same secret."""

    login: Login
    """Answers a challenge that was given for this."""
    body: bytes
    """Locked."""


class PutUser(msgspec.Struct, frozen=True):
    """A user is added, or changed: what is not None. Answered with the `Account`."""

    name: str
    must_be_new: bool
    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] | None = None
    tenant: str | None = None
    is_admin: bool | None = None
    is_service: bool | None = None
    acts_for_others: bool | None = None
    is_disabled: bool | None = None
    certificates: tuple[str, ...] | None = None
    reads_metrics: bool | None = None


class RemoveUser(msgspec.Struct, frozen=True):
    """A user is forgotten, with its tokens; its tickets do not count any more. Answered with the `Account`."""

    name: str


class AddUserToken(msgspec.Struct, frozen=True):
    """A user gets one more token. Answered with the `Account`."""

    user: str
    id: str
    digest: bytes
    name: str
    lifetime_ms: int
    """0: it does not expire."""
    at_ms: int = 0
    """When it arrived, by time of day: filled in by the manager that is asked."""


class ListUsers(msgspec.Struct, frozen=True):
    """Users by name, a page at a time. Answered with `UserPage`."""

    after: str = ""
    limit: int = 0
    """0: as many as the manager likes."""


class UserPage(msgspec.Struct, frozen=True):
    """Users without the digests of their tokens."""

    users: tuple[Account, ...]
    has_more: bool = False


class RevokeUser(msgspec.Struct, frozen=True):
    """The tickets that a user or a node has do not count any more; with a token, that one does not either; nor does a key whose
    name no node has. Answered with None."""

    name: str
    token: str = ""
    """Id of a token of the user; "": all of them stay good."""
    is_node: bool = False


class SetSecurity(msgspec.Struct, frozen=True):
    """Turn security on or off, or get ready for it. Answered with `SecurityStatus`."""

    phase: SecurityPhase
    node_keys: tuple[NodeKey, ...] = ()
    """Added, or put in the place of those of the same name."""
    keeps_phase: bool = False
    """Only have the keys known."""
    unready: bool = False
    """Also when nodes that are alive have no keys yet: they will be refused."""


class RotateKeys(msgspec.Struct, frozen=True):
    """Another key seals. Answered with `SecurityStatus`."""

    at_once: bool
    """The former keys verify nothing any more: all that was sealed with them is void."""


class NodeSecurity(msgspec.Struct, frozen=True):
    """How far a node is."""

    name: str
    is_alive: bool
    version: int
    """Of the bundle that it has; 0: it has none."""


class SecurityStatus(msgspec.Struct, frozen=True):
    """What the cluster's security is at. Holds no secret."""

    phase: SecurityPhase
    version: int
    epoch: int
    now_ms: int
    """The time of the cluster."""
    keys: tuple[SealingKey, ...]
    """Without the keys themselves."""
    newest: int
    nodes: tuple[NodeSecurity, ...]
    users: int
    other_keys: tuple[str, ...] = ()
    """Names by whose keys one may log in although no node has them: managers, nodes that have not come yet."""
