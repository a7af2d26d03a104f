"""Who may log in and by what, the keys that seal tickets, the time they expire by, and what was revoked.

A key is known to the services for `key_settle_ms` before it seals, and verifies for as long afterwards as what it has sealed may
live. So keys change without a failure: at any time there are one that seals and perhaps the one before or the next one.
Nothing of this costs anything in a cluster that has no users and no keys of nodes.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable
from hashlib import blake2b

import msgspec

from fs3.base.ids import NodeId
from fs3.base.limits import (
    key_rotation_ms,
    key_settle_ms,
    ticket_lifetime_ms,
    user_certificates_max,
    user_groups_max,
)
from fs3.base.status import Code
from fs3.core.membership.account_names import check_id, check_name
from fs3.core.membership.ledger import Ledger
from fs3.core.membership.machines import node_name
from fs3.core.membership.node_admission import RequestRejected
from fs3.core.security.cluster_time import TimeKeeper
from fs3.core.security.revocations import Revocations, revocation_name
from fs3.core.security.seal import KEY_BYTES, KeyRing
from fs3.core.security.tickets import seal_ticket
from fs3.model.cluster import RegisterNode
from fs3.model.principal import Principal, PrincipalKind, Right
from fs3.model.routing import Role
from fs3.model.security import (
    Account,
    AddUserToken,
    Claimant,
    Grant,
    KeyBundle,
    ListUsers,
    LoginKind,
    NodeKey,
    NodeSecurity,
    PutUser,
    RemoveUser,
    RevokeUser,
    RotateKeys,
    SealingKey,
    SecurityPhase,
    SecurityRow,
    SecurityStatus,
    SetSecurity,
    UserPage,
    UserToken,
)

users_max = 65_536
tokens_per_user_max = 16
users_per_page_max = 256
_TEXT_BYTES_MAX = 255
_IDENTITY = ("uid", "gid", "groups", "tenant", "is_admin", "acts_for_others", "is_disabled", "reads_metrics")
"""What tickets say of a user: when it changes, those from before do not count."""

_ROLE_RIGHTS = {
    Role.MGMTD: Right.ANYONE | Right.MGMTD | Right.ADMIN | Right.USER,
    Role.META: Right.ANYONE | Right.META,
    Role.STORAGE: Right.ANYONE | Right.STORAGE,
}


class Security:
    """Part of the manager's machine; what it changes is in the ledger. Requests that cannot be granted raise RequestRejected."""

    def __init__(self, now: int, ledger: Ledger, entropy: bytes) -> None:
        """`entropy`: random bytes of this term alone, which keys are made of."""
        self._ledger = ledger
        self._state = ledger.state
        self._entropy = entropy
        self._keeper = TimeKeeper(self._state.security.bound_ms, now)
        self._versions: dict[NodeId, int] = {}
        """Of the bundle that each node has, as it said last."""
        self._names = sorted(self._state.users)
        self._by_token = {token.id: user.name for user in self._state.users.values() for token in user.tokens}
        self._by_certificate = {each: user.name for user in self._state.users.values() for each in user.certificates}

    # --- time and keys -----------------------------------------------------------------------------------------------

    @property
    def _row(self) -> SecurityRow:
        return self._state.security

    @property
    def version(self) -> int:
        """Of what is stored, for services; 0: there is nothing for them."""
        return self._ledger.durable_security.version

    @property
    def phase(self) -> SecurityPhase:
        """Stored."""
        return self._ledger.durable_security.phase

    def now_ms(self, now: int) -> int:
        """The time of the cluster."""
        return self._keeper.now_ms(now)

    def advance(self, now: int) -> None:
        """Time goes on: its bound, the rotation of keys, the end of what was revoked."""
        row = self._row
        if not row.keys:
            return
        bound = self._keeper.next_bound(now)
        now_ms = self._keeper.now_ms(now)
        keys, newest = self._turn_keys(row, now_ms)
        revoked = {name: entry for name, entry in row.revoked.items() if now_ms < entry[1]}
        if bound is None and keys == row.keys and newest == row.newest and len(revoked) == len(row.revoked):
            return
        changed = keys != row.keys or newest != row.newest
        self._put(row, bound_ms=bound or row.bound_ms, keys=keys, newest=newest, revoked=revoked, is_news=changed)

    def on_stored(self, now: int) -> None:
        """What the ledger had handed out is durable."""
        self._keeper.on_stored(self._ledger.durable_security.bound_ms, now)

    def _turn_keys(self, row: SecurityRow, now_ms: int) -> tuple[tuple[SealingKey, ...], int]:
        keys = tuple(key for key in row.keys if not key.ends_ms or now_ms < key.ends_ms)
        waiting = keys[-1] if keys[-1].id > row.newest else None
        if waiting is None:
            if now_ms - keys[-1].made_ms >= key_rotation_ms:
                keys = (*keys, self._make_key(keys[-1].id + 1, now_ms))
            return keys, row.newest
        if now_ms - waiting.made_ms < key_settle_ms:
            return keys, row.newest
        ends_ms = now_ms + ticket_lifetime_ms + key_settle_ms
        return tuple(key if key.id > row.newest else _ending(key, ends_ms) for key in keys), waiting.id

    def _make_key(self, number: int, now_ms: int) -> SealingKey:
        said = number.to_bytes(8, "big") + now_ms.to_bytes(8, "big")
        key = blake2b(said, key=self._entropy, digest_size=KEY_BYTES, person=b"fs3 sealing key").digest()
        return SealingKey(number, key, now_ms)

    def _put(self, row: SecurityRow, *, is_news: bool = True, **changes: object) -> None:
        version = row.version + 1 if is_news else row.version
        self._ledger.put_security(msgspec.structs.replace(row, version=version, **changes))

    def _begin(self, now: int) -> None:
        """There are callers to make tickets for: from now on there are keys, and time is counted."""
        if not self._row.keys:
            now_ms = self._keeper.now_ms(now)
            bound = self._keeper.next_bound(now) or self._row.bound_ms
            first = max(1, self._row.newest + 1)
            self._put(self._row, bound_ms=bound, keys=(self._make_key(first, now_ms),), newest=first)

    def rotate(self, now: int, event: RotateKeys) -> SecurityStatus:
        """Another key seals: soon, or at once, and then all that was sealed before is void."""
        self._begin(now)
        row, now_ms = self._row, self._keeper.now_ms(now)
        if event.at_once:
            key = self._make_key(row.keys[-1].id + 1, now_ms)
            self._put(row, keys=(key,), newest=key.id, epoch=row.epoch + 1)
        elif row.keys[-1].id == row.newest:
            self._put(row, keys=(*row.keys, self._make_key(row.newest + 1, now_ms)))
        return self.status(now)

    def set_phase(self, now: int, event: SetSecurity) -> SecurityStatus:
        """Turn it on or off, or only have the keys of nodes known."""
        for node_key in event.node_keys:
            self.put_node_key(node_key)
        if event.keeps_phase:
            return self.status(now)
        self._begin(now)
        row = self._row
        if event.phase is SecurityPhase.ON and row.phase is SecurityPhase.OFF:
            unready = sorted(node.name for node in self.status(now).nodes if node.is_alive and not node.version)
            if unready and not event.unready:
                told = f"these nodes have not proved themselves yet, and would be refused: {', '.join(unready)}"
                raise RequestRejected(Code.BUSY, told)
        if event.phase is not row.phase:
            self._put(row, phase=event.phase)
        return self.status(now)

    def note_node_key(self, event: RegisterNode) -> None:
        """A node is registered, and says what it will prove itself with. Once security is on, only those say so that have proved
        who they are."""
        if event.key_digest and (self._row.phase is SecurityPhase.OFF or event.is_proved):
            self.put_node_key(NodeKey(event.name, event.key_digest))

    def put_node_key(self, node_key: NodeKey) -> None:
        """A node is known by this key from now on."""
        if self._state.node_keys.get(node_key.name) != node_key:
            self._ledger.put_node_key(node_key)

    def on_heartbeat(self, node: NodeId, version: int) -> None:
        """A node has said which bundle it has."""
        self._versions[node] = version

    def status(self, now: int) -> SecurityStatus:
        """Everything but secrets."""
        row = self._row
        nodes = tuple(
            NodeSecurity(node.name, node.alive, self._versions.get(node.id, 0))
            for node in sorted(self._state.nodes.values(), key=lambda node: node.name)
        )
        keys = tuple(msgspec.structs.replace(key, key=b"") for key in row.keys)
        others = tuple(sorted(self._state.node_keys.keys() - {node.name for node in nodes}))
        return SecurityStatus(
            row.phase, row.version, row.epoch, self.now_ms(now), keys, row.newest, nodes, len(self._state.users), others
        )

    # --- what services are given -------------------------------------------------------------------------------------

    def bundle(self) -> KeyBundle:
        """What is stored, as a service needs it."""
        return bundle_of(self._ledger.durable_security)

    # --- users -------------------------------------------------------------------------------------------------------

    def put_user(self, now: int, event: PutUser) -> Account:
        """Add or change a user."""
        known = self._state.users.get(event.name)
        check_name("user", event.name)
        if event.must_be_new and known is not None and _changes(known, event):
            raise RequestRejected(Code.EXISTS, f"there is a user {event.name!r} already")
        if not event.must_be_new and known is None:
            raise _no_user(event.name)
        if known is None and len(self._state.users) >= users_max:
            raise RequestRejected(Code.TOO_LARGE, f"there are {users_max} users, the most there can be")
        user = msgspec.structs.replace(known or Account(event.name, 0, 0, since=self._row.epoch), **_given(event))
        self._check(user)
        if user == known:
            return user
        self._begin(now)
        if known is not None and any(getattr(user, name) != getattr(known, name) for name in _IDENTITY):
            self._revoke(now, PrincipalKind.USER, user.name)
            user = msgspec.structs.replace(user, since=self._row.epoch)
        self._store(known, user)
        return user

    def _check(self, user: Account) -> None:
        for name, number in (("uid", user.uid), ("gid", user.gid), *(("group", each) for each in user.groups)):
            check_id(f"user {user.name!r}", name, number)
        for what, there, most in (
            ("groups", len(user.groups), user_groups_max),
            ("certificates", len(user.certificates), user_certificates_max),
        ):
            if there > most:
                raise RequestRejected(Code.TOO_LARGE, f"user {user.name!r}: {there} {what}, at most {most}")
        if not all(user.certificates):
            raise RequestRejected(Code.INVALID, f"user {user.name!r}: the subject of a certificate is not empty")
        if any(len(text.encode()) > _TEXT_BYTES_MAX or not text.isprintable() for text in (user.tenant, *user.certificates)):
            told = f"user {user.name!r}: a tenant and the subject of a certificate have at most {_TEXT_BYTES_MAX} printable bytes"
            raise RequestRejected(Code.INVALID, told)
        for subject in user.certificates:
            owner = self._by_certificate.get(subject, user.name)
            if owner != user.name:
                raise RequestRejected(Code.EXISTS, f"certificate {subject!r} is of user {owner!r} already")

    def remove_user(self, now: int, event: RemoveUser) -> Account:
        """Forget a user and end what it has."""
        user = self._find(event.name)
        self._revoke(now, PrincipalKind.USER, user.name)
        self._store(user, None)
        return user

    def add_token(self, now: int, event: AddUserToken) -> Account:
        """Give a user one more token."""
        user = self._find(event.user)
        owner = self._by_token.get(event.id)
        if owner is not None:
            if any(token.id == event.id and token.digest == event.digest for token in user.tokens):
                return user  # it asks again
            raise RequestRejected(Code.EXISTS, f"there is another token {event.id}")
        tokens = user.tokens
        if len(tokens) >= tokens_per_user_max:
            tokens = tuple(token for token in tokens if not why_token_over(token, event.at_ms))
        if len(tokens) >= tokens_per_user_max:
            told = f"user {user.name!r} has {len(tokens)} tokens, the most there can be: revoke those that are not needed"
            raise RequestRejected(Code.TOO_LARGE, told)
        expires_ms = event.at_ms + event.lifetime_ms if event.lifetime_ms else 0
        token = UserToken(event.id, event.digest, event.name, event.at_ms, expires_ms)
        self._begin(now)
        changed = msgspec.structs.replace(user, tokens=(*tokens, token))
        self._store(user, changed)
        return changed

    def revoke(self, now: int, event: RevokeUser) -> int:
        """End what a user or a node has proved, and perhaps a token; the epoch of it."""
        if event.is_node:
            if all(each.name != event.name for each in self._state.nodes.values()):
                if event.name not in self._state.node_keys:
                    raise RequestRejected(Code.NOT_FOUND, f"there is no node {event.name!r}")
                self._ledger.remove_node_key(event.name)
            self._revoke(now, PrincipalKind.SERVICE, event.name)
            return self._row.epoch
        user = self._find(event.name)
        tokens = user.tokens
        if event.token:
            if all(token.id != event.token for token in user.tokens):
                raise RequestRejected(Code.NOT_FOUND, f"user {user.name!r} has no token {event.token!r}")
            tokens = tuple(
                msgspec.structs.replace(token, revoked=True) if token.id == event.token else token for token in user.tokens
            )
        self._revoke(now, PrincipalKind.USER, user.name)
        self._store(user, msgspec.structs.replace(user, tokens=tokens, since=self._row.epoch))
        return self._row.epoch

    def _revoke(self, now: int, kind: PrincipalKind, name: str) -> None:
        self._begin(now)
        row = self._row
        epoch = row.epoch + 1
        until = self.now_ms(now) + ticket_lifetime_ms + key_settle_ms
        self._put(row, epoch=epoch, revoked={**row.revoked, revocation_name(kind, name): (epoch, until)})

    def on_removed(self, now: int, names: Iterable[str]) -> None:
        """Nodes or machines of these names are of the cluster no more: what they have proved does not count, and another key
        seals as soon as it has settled, for they know those that do now."""
        if not self._row.keys:
            return
        for name in names:
            self._revoke(now, PrincipalKind.SERVICE, name)
        row = self._row
        # Also in the place of a key that is about to seal: they may know that one as well.
        kept = tuple(key for key in row.keys if key.id <= row.newest)
        self._put(row, keys=(*kept, self._make_key(row.keys[-1].id + 1, self.now_ms(now))))

    def list_users(self, wanted: ListUsers) -> UserPage:
        """A page of users by name, without the digests of their tokens."""
        limit = min(wanted.limit or users_per_page_max, users_per_page_max)
        at = bisect_right(self._names, wanted.after) if wanted.after else 0
        names = self._names[at : at + limit]
        return UserPage(tuple(without_digests(self._state.users[name]) for name in names), at + limit < len(self._names))

    def _find(self, name: str) -> Account:
        user = self._state.users.get(name)
        if user is None:
            raise _no_user(name)
        return user

    def _store(self, known: Account | None, user: Account | None) -> None:
        for token in known.tokens if known is not None else ():
            self._by_token.pop(token.id, None)
        for subject in known.certificates if known is not None else ():
            self._by_certificate.pop(subject, None)
        if user is None:
            assert known is not None
            self._ledger.remove_user(known.name)
        else:
            self._ledger.put_user(user)
            self._by_token.update((token.id, user.name) for token in user.tokens)
            self._by_certificate.update((subject, user.name) for subject in user.certificates)
        if (known is None) != (user is None):
            self._names = sorted(self._state.users)

    # --- logins ------------------------------------------------------------------------------------------------------

    def stored_for(self, claimant: Claimant) -> bytes | None:
        """What the secret of a claimant is compared with; None: there is no such claimant."""
        if claimant.kind is LoginKind.TOKEN:
            user = self._state.users.get(self._by_token.get(claimant.identity, ""))
            tokens = user.tokens if user is not None else ()
            return next((token.digest for token in tokens if token.id == claimant.identity), None)
        if claimant.kind is LoginKind.JOIN_TOKEN:
            join_token = self._state.tokens.get(claimant.identity)
            return join_token.digest if join_token is not None else None
        node_key = self._state.node_keys.get(claimant.identity)
        if node_key is not None:
            return node_key.digest
        machine = self._state.machines.get(claimant.identity)
        return machine.key_digest if machine is not None else None

    def admit(self, claimant: Claimant, at_ms: int) -> Principal:
        """Who a claimant is that knows the secret of `stored_for`. `at_ms`: time of day. Raises RequestRejected."""
        if claimant.kind is LoginKind.TOKEN:
            user = self._find(self._by_token[claimant.identity])
            token = next(token for token in user.tokens if token.id == claimant.identity)
            if over := why_token_over(token, at_ms):
                raise RequestRejected(Code.NOT_ADMITTED, f"token {token.id} of user {user.name!r} {over}")
            return _principal_of(user)
        assert claimant.kind is LoginKind.NODE, claimant.kind
        return self._admit_node(claimant)

    def admit_certificate(self, subject: str) -> Principal:
        """Who the holder of a TLS client certificate is. Raises RequestRejected."""
        name = self._by_certificate.get(subject)
        if name is None:
            raise RequestRejected(Code.NOT_ADMITTED, f"certificate {subject!r} is of no user of this cluster")
        return _principal_of(self._state.users[name])

    def _admit_node(self, claimant: Claimant) -> Principal:
        identity, name = claimant.identity, claimant.node
        if identity in self._state.node_keys:
            if name not in ("", identity):
                raise RequestRejected(Code.NOT_ADMITTED, f"the key of node {identity!r} is not that of node {name!r}")
            name, role = identity, _role_of(identity)
        elif not name:
            # Root of a machine that has joined: it has the keys of all services there, and so the cluster.
            rights = Right.ANYONE | Right.USER | Right.ADMIN
            return Principal(PrincipalKind.SERVICE, identity, rights)
        else:
            role = next((role for role in _ROLE_RIGHTS if _is_node_of(name, identity, role)), None)
        if role is None:
            raise RequestRejected(Code.NOT_ADMITTED, f"{name!r} is no node of machine {identity!r}")
        node = next((node for node in self._state.nodes.values() if node.name == name), None)
        return Principal(PrincipalKind.SERVICE, name, _ROLE_RIGHTS[role], node=node.id if node is not None else 0)

    def grant(self, now: int, principal: Principal) -> Grant:
        """A ticket for a principal, and the keys when it is a service."""
        row, now_ms = self._row, self.now_ms(now)
        expires_ms = now_ms + ticket_lifetime_ms
        # Sealed with a key that every service has: one that is not stored yet is known to none.
        ring = KeyRing(self._state.cluster.id, {key.id: key.key for key in row.keys}, self._ledger.durable_security.newest)
        ticket = seal_ticket(ring, msgspec.structs.replace(principal, expires_ms=expires_ms, epoch=row.epoch))
        is_service = bool(principal.rights & (Right.MGMTD | Right.META | Right.STORAGE))
        return Grant(ticket, now_ms, ticket_lifetime_ms, principal.name, principal.rights, self.bundle() if is_service else None)


def bundle_of(row: SecurityRow) -> KeyBundle:
    """What a service needs of a row."""
    keys = {key.id: key.key for key in row.keys}
    return KeyBundle(row.phase, row.version, keys, row.newest, row.epoch, {name: entry[0] for name, entry in row.revoked.items()})


def revocations_of(bundle: KeyBundle) -> Revocations:
    """What was revoked, as a bundle says."""
    return Revocations(bundle.epoch, bundle.revoked)


def why_token_over(token: UserToken, at_ms: int) -> str:
    """Why a token is good for nothing any more; "" when it is. `at_ms`: time of day."""
    if token.revoked:
        return "was revoked"
    if token.expires_ms and at_ms >= token.expires_ms:
        return f"has expired {(at_ms - token.expires_ms) // 1000} s ago"
    return ""


def without_digests(user: Account) -> Account:
    """As a user is shown."""
    return msgspec.structs.replace(user, tokens=tuple(msgspec.structs.replace(token, digest=b"") for token in user.tokens))


def _principal_of(user: Account) -> Principal:
    if user.is_disabled:
        raise RequestRejected(Code.NOT_ADMITTED, f"user {user.name!r} is disabled")
    rights = Right.ANYONE | Right.USER
    if user.is_admin:
        rights |= Right.ADMIN
    if user.acts_for_others:
        rights |= Right.ACT_FOR
    if user.reads_metrics:
        rights |= Right.READ_METRICS
    return Principal(PrincipalKind.USER, user.name, rights, user.uid, user.gid, user.groups, user.tenant, since=user.since)


def _is_node_of(name: str, machine: str, role: Role) -> bool:
    first = node_name(machine, role)
    return name == first or (name.startswith(f"{first}-") and name[len(first) + 1 :].isdecimal())


def _role_of(name: str) -> Role | None:
    """ "storage-2" is a storage node."""
    return next((role for role in _ROLE_RIGHTS if re.fullmatch(rf"{role.name.lower()}(-[0-9]+)?", name)), None)


def _given(event: PutUser) -> dict[str, object]:
    """What a request changes."""
    said = msgspec.structs.asdict(event)
    return {name: value for name, value in said.items() if value is not None and name not in ("name", "must_be_new")}


def _changes(user: Account, event: PutUser) -> bool:
    """The user is not what is asked for."""
    return any(getattr(user, name) != value for name, value in _given(event).items())


def _no_user(name: str) -> RequestRejected:
    return RequestRejected(Code.NOT_FOUND, f"there is no user {name!r}; `fs3 user list` shows them")


def _ending(key: SealingKey, ends_ms: int) -> SealingKey:
    return key if key.ends_ms else msgspec.structs.replace(key, ends_ms=ends_ms)
