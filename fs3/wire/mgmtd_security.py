"""Logins, users, tokens, keys and revocations, to and from protobuf, and their verbs.

What arrives is not trusted: `*_from_pb` of requests raise InvalidArgument naming the malformed field.
"""

from __future__ import annotations

from typing import Any

from fs3.base.limits import name_bytes_max, nodes_max, user_certificates_max, user_groups_max
from fs3.core.security.login import NONCE_BYTES, PROOF_BYTES
from fs3.model.security import (
    Account,
    AddUserToken,
    BeginLogin,
    Challenge,
    Claimant,
    ListUsers,
    Login,
    LoginKind,
    NodeKey,
    NodeSecurity,
    PutUser,
    RemoveUser,
    RevokeUser,
    RotateKeys,
    SealingKey,
    SecurityPhase,
    SecurityStatus,
    SetSecurity,
    UserPage,
    UserToken,
)
from fs3.wire.malformed import malformed
from fs3.wire.methods import MGMTD
from fs3.wire.mgmtd import EncodedRouting, enum_from_pb, name_from_pb
from fs3.wire.mgmtd_verb import MgmtdVerb
from fs3.wire.pb import mgmtd_pb2 as pb

_DIGEST_BYTES = 32
_SERVER_NONCE_BYTES_MAX = 128

# --- logins ----------------------------------------------------------------------------------------------------------


def _claimant_to_pb(claimant: Claimant) -> pb.Claimant:
    return pb.Claimant(kind=int(claimant.kind), identity=claimant.identity, node=claimant.node)  # type: ignore[arg-type]


def _claimant_from_pb(message: pb.Claimant, field: str) -> Claimant:
    kind = enum_from_pb(LoginKind, message.kind, f"{field}.kind")
    for name, text in (("identity", message.identity), ("node", message.node)):
        if len(text.encode()) > name_bytes_max:
            raise malformed(f"{field}.{name}", f"longer than {name_bytes_max} bytes")
    return Claimant(kind, message.identity, message.node)


def _nonce_from_pb(nonce: bytes, field: str) -> bytes:
    if len(nonce) != NONCE_BYTES:
        raise malformed(field, f"{len(nonce)} bytes, must be {NONCE_BYTES}")
    return nonce


def begin_login_to_pb(request: BeginLogin) -> pb.BeginLoginRequest:
    """The request of BeginLogin."""
    return pb.BeginLoginRequest(claimant=_claimant_to_pb(request.claimant), client_nonce=request.client_nonce)


def begin_login_from_pb(message: pb.BeginLoginRequest) -> BeginLogin:
    """The request of BeginLogin."""
    claimant = _claimant_from_pb(message.claimant, "BeginLoginRequest.claimant")
    return BeginLogin(claimant, _nonce_from_pb(message.client_nonce, "BeginLoginRequest.client_nonce"))


def challenge_to_pb(challenge: Challenge) -> pb.BeginLoginReply:
    """The answer to BeginLogin."""
    return pb.BeginLoginReply(cluster_id=challenge.cluster, server_nonce=challenge.server_nonce)


def challenge_from_pb(message: pb.BeginLoginReply) -> Challenge:
    """The answer to BeginLogin."""
    return Challenge(message.cluster_id, message.server_nonce)


def login_to_pb(request: Login) -> pb.LoginRequest:
    """The request of Login."""
    return pb.LoginRequest(
        claimant=_claimant_to_pb(request.claimant),
        client_nonce=request.client_nonce,
        server_nonce=request.server_nonce,
        proof=request.proof,
    )


def login_from_pb(message: pb.LoginRequest) -> Login:
    """The request of Login; what proves another request has the same form."""
    claimant = _claimant_from_pb(message.claimant, "LoginRequest.claimant")
    if claimant.kind is LoginKind.CERTIFICATE:
        return Login(claimant, b"", b"", b"")
    if len(message.server_nonce) > _SERVER_NONCE_BYTES_MAX:
        raise malformed("LoginRequest.server_nonce", f"longer than {_SERVER_NONCE_BYTES_MAX} bytes")
    if len(message.proof) != PROOF_BYTES:
        raise malformed("LoginRequest.proof", f"{len(message.proof)} bytes, must be {PROOF_BYTES}")
    nonce = _nonce_from_pb(message.client_nonce, "LoginRequest.client_nonce")
    return Login(claimant, nonce, message.server_nonce, message.proof)


def grant_to_pb(grant: bytes) -> pb.LoginReply:
    """The answer to Login."""
    return pb.LoginReply(grant=grant)


def grant_from_pb(message: pb.LoginReply) -> bytes:
    """The answer to Login."""
    return message.grant


# --- users -----------------------------------------------------------------------------------------------------------


def _user_to_pb(user: Account) -> pb.User:
    return pb.User(
        name=user.name,
        uid=user.uid,
        gid=user.gid,
        groups=user.groups,
        tenant=user.tenant,
        admin=user.is_admin,
        service=user.is_service,
        acts_for_others=user.acts_for_others,
        disabled=user.is_disabled,
        certificates=user.certificates,
        tokens=[
            pb.UserToken(id=each.id, name=each.name, made_ms=each.made_ms, expires_ms=each.expires_ms, revoked=each.revoked)
            for each in user.tokens
        ],
        reads_metrics=user.reads_metrics,
    )


def _user_from_pb(message: pb.User) -> Account:
    tokens = (UserToken(each.id, b"", each.name, each.made_ms, each.expires_ms, each.revoked) for each in message.tokens)
    return Account(
        message.name,
        message.uid,
        message.gid,
        tuple(message.groups),
        message.tenant,
        message.admin,
        message.service,
        message.acts_for_others,
        message.disabled,
        tuple(message.certificates),
        tuple(tokens),
        reads_metrics=message.reads_metrics,
    )


def _user_answer_to_pb(user: Account, routing: EncodedRouting | None) -> pb.UserReply:
    return pb.UserReply(user=_user_to_pb(user))


def _user_answer_from_pb(message: pb.UserReply) -> Account:
    return _user_from_pb(message.user)


def _put_user_to_pb(request: PutUser) -> pb.PutUserRequest:
    wanted: dict[str, Any] = {
        "uid": request.uid,
        "gid": request.gid,
        "tenant": request.tenant,
        "admin": request.is_admin,
        "service": request.is_service,
        "acts_for_others": request.acts_for_others,
        "disabled": request.is_disabled,
        "reads_metrics": request.reads_metrics,
    }
    return pb.PutUserRequest(
        name=request.name,
        must_be_new=request.must_be_new,
        sets_groups=request.groups is not None,
        groups=request.groups or (),
        sets_certificates=request.certificates is not None,
        certificates=request.certificates or (),
        **{field: value for field, value in wanted.items() if value is not None},
    )


def _put_user_from_pb(message: pb.PutUserRequest) -> PutUser:
    def given(field: str) -> Any:
        return getattr(message, field) if message.HasField(field) else None

    if len(message.groups) > user_groups_max:
        raise malformed("PutUserRequest.groups", f"{len(message.groups)} groups, at most {user_groups_max} are allowed")
    if len(message.certificates) > user_certificates_max:
        told = f"{len(message.certificates)} certificates, at most {user_certificates_max} are allowed"
        raise malformed("PutUserRequest.certificates", told)
    return PutUser(
        name_from_pb(message.name, "PutUserRequest.name"),
        message.must_be_new,
        uid=given("uid"),
        gid=given("gid"),
        groups=tuple(message.groups) if message.sets_groups else None,
        tenant=given("tenant"),
        is_admin=given("admin"),
        is_service=given("service"),
        acts_for_others=given("acts_for_others"),
        is_disabled=given("disabled"),
        certificates=tuple(message.certificates) if message.sets_certificates else None,
        reads_metrics=given("reads_metrics"),
    )


def _remove_user_to_pb(request: RemoveUser) -> pb.RemoveUserRequest:
    return pb.RemoveUserRequest(name=request.name)


def _remove_user_from_pb(message: pb.RemoveUserRequest) -> RemoveUser:
    return RemoveUser(name_from_pb(message.name, "RemoveUserRequest.name"))


def _add_token_to_pb(request: AddUserToken) -> pb.AddUserTokenRequest:
    return pb.AddUserTokenRequest(
        user=request.user, id=request.id, digest=request.digest, name=request.name, lifetime_ms=request.lifetime_ms
    )


def _add_token_from_pb(message: pb.AddUserTokenRequest) -> AddUserToken:
    if len(message.digest) != _DIGEST_BYTES:
        raise malformed("AddUserTokenRequest.digest", f"{len(message.digest)} bytes, must be {_DIGEST_BYTES}")
    if len(message.id) != 8 or set(message.id) - set("0123456789abcdef"):
        raise malformed("AddUserTokenRequest.id", "must be 8 hexadecimal digits")
    if len(message.name.encode()) > name_bytes_max:
        raise malformed("AddUserTokenRequest.name", f"longer than {name_bytes_max} bytes")
    user = name_from_pb(message.user, "AddUserTokenRequest.user")
    return AddUserToken(user, message.id, message.digest, message.name, message.lifetime_ms)


def _revoke_to_pb(request: RevokeUser) -> pb.RevokeUserRequest:
    return pb.RevokeUserRequest(name=request.name, token=request.token, node=request.is_node)


def _revoke_from_pb(message: pb.RevokeUserRequest) -> RevokeUser:
    if len(message.token) > name_bytes_max:
        raise malformed("RevokeUserRequest.token", f"longer than {name_bytes_max} bytes")
    return RevokeUser(name_from_pb(message.name, "RevokeUserRequest.name"), message.token, message.node)


def _epoch_to_pb(epoch: int, routing: EncodedRouting | None) -> pb.RevokeUserReply:
    return pb.RevokeUserReply(epoch=epoch)


def _epoch_from_pb(message: pb.RevokeUserReply) -> int:
    return message.epoch


def list_users_to_pb(request: ListUsers) -> pb.ListUsersRequest:
    """The request of ListUsers."""
    return pb.ListUsersRequest(after=request.after, limit=request.limit)


def list_users_from_pb(message: pb.ListUsersRequest) -> ListUsers:
    """The request of ListUsers."""
    return ListUsers(message.after, message.limit)


def user_page_to_pb(page: UserPage) -> pb.ListUsersReply:
    """The answer to ListUsers."""
    return pb.ListUsersReply(users=[_user_to_pb(user) for user in page.users], has_more=page.has_more)


def user_page_from_pb(message: pb.ListUsersReply) -> UserPage:
    """The answer to ListUsers."""
    return UserPage(tuple(_user_from_pb(user) for user in message.users), message.has_more)


# --- the cluster's security ------------------------------------------------------------------------------------------


def _set_security_to_pb(request: SetSecurity) -> pb.SetSecurityRequest:
    return pb.SetSecurityRequest(
        on=request.phase is SecurityPhase.ON,
        node_keys=[pb.NodeKey(name=each.name, digest=each.digest) for each in request.node_keys],
        unready=request.unready,
        keeps_phase=request.keeps_phase,
    )


def _set_security_from_pb(message: pb.SetSecurityRequest) -> SetSecurity:
    if len(message.node_keys) > nodes_max:
        raise malformed("SetSecurityRequest.node_keys", f"{len(message.node_keys)} keys, at most {nodes_max} are allowed")
    keys = []
    for index, each in enumerate(message.node_keys):
        field = f"SetSecurityRequest.node_keys[{index}]"
        if len(each.digest) != _DIGEST_BYTES:
            raise malformed(f"{field}.digest", f"{len(each.digest)} bytes, must be {_DIGEST_BYTES}")
        keys.append(NodeKey(name_from_pb(each.name, f"{field}.name"), each.digest))
    phase = SecurityPhase.ON if message.on else SecurityPhase.OFF
    return SetSecurity(phase, tuple(keys), message.keeps_phase, message.unready)


def _rotate_to_pb(request: RotateKeys) -> pb.RotateKeysRequest:
    return pb.RotateKeysRequest(at_once=request.at_once)


def _rotate_from_pb(message: pb.RotateKeysRequest) -> RotateKeys:
    return RotateKeys(message.at_once)


def get_security_to_pb() -> pb.GetSecurityRequest:
    """The question what the cluster's security is at."""
    return pb.GetSecurityRequest()


def security_status_to_pb(status: SecurityStatus, routing: EncodedRouting | None = None) -> pb.SecurityStatus:
    """What the cluster's security is at."""
    return pb.SecurityStatus(
        on=status.phase is SecurityPhase.ON,
        version=status.version,
        epoch=status.epoch,
        cluster_ms=status.now_ms,
        keys=[pb.SealingKey(id=key.id, made_ms=key.made_ms, ends_ms=key.ends_ms) for key in status.keys],
        newest_key=status.newest,
        nodes=[pb.NodeSecurity(name=node.name, alive=node.is_alive, version=node.version) for node in status.nodes],
        users=status.users,
        other_keys=status.other_keys,
    )


def security_status_from_pb(message: pb.SecurityStatus) -> SecurityStatus:
    """The same."""
    return SecurityStatus(
        SecurityPhase.ON if message.on else SecurityPhase.OFF,
        message.version,
        message.epoch,
        message.cluster_ms,
        tuple(SealingKey(key.id, b"", key.made_ms, key.ends_ms) for key in message.keys),
        message.newest_key,
        tuple(NodeSecurity(node.name, node.alive, node.version) for node in message.nodes),
        message.users,
        tuple(message.other_keys),
    )


SECURITY_VERBS: dict[type[Any], MgmtdVerb] = {
    PutUser: MgmtdVerb(MGMTD.PutUser, _put_user_to_pb, _put_user_from_pb, _user_answer_to_pb, _user_answer_from_pb),
    RemoveUser: MgmtdVerb(MGMTD.RemoveUser, _remove_user_to_pb, _remove_user_from_pb, _user_answer_to_pb, _user_answer_from_pb),
    AddUserToken: MgmtdVerb(MGMTD.AddUserToken, _add_token_to_pb, _add_token_from_pb, _user_answer_to_pb, _user_answer_from_pb),
    RevokeUser: MgmtdVerb(MGMTD.RevokeUser, _revoke_to_pb, _revoke_from_pb, _epoch_to_pb, _epoch_from_pb),
    SetSecurity: MgmtdVerb(
        MGMTD.SetSecurity, _set_security_to_pb, _set_security_from_pb, security_status_to_pb, security_status_from_pb
    ),
    RotateKeys: MgmtdVerb(MGMTD.RotateKeys, _rotate_to_pb, _rotate_from_pb, security_status_to_pb, security_status_from_pb),
}
"""Type of the request -> how it is written."""
