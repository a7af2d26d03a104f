"""Machines, join tokens and settings, to and from protobuf.

What arrives is not trusted: `*_from_pb` of requests raise InvalidArgument naming the malformed field.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from fs3.base.limits import machine_addresses_max, machine_key_bytes, name_bytes_max, settings_max
from fs3.model.cluster import NodeSettings
from fs3.model.machine import (
    JoinAck,
    JoinCluster,
    JoinToken,
    Machine,
    MachineList,
    MachineProof,
    MakeToken,
    RemoveMachine,
    RevokeToken,
)
from fs3.model.settings import SetSettings, SettingsHistory, SettingsVersion, SettingValue
from fs3.wire.malformed import malformed
from fs3.wire.mgmtd import EncodedRouting, name_from_pb
from fs3.wire.pb import mgmtd_pb2 as pb

_DIGEST_BYTES = 32
_TOKEN_BYTES_MAX = 256
_VALUE_BYTES_MAX = 64

# --- machines and tokens ---------------------------------------------------------------------------------------------


def _key_from_pb(key: bytes, field: str) -> bytes:
    if len(key) != machine_key_bytes:
        raise malformed(field, f"{len(key)} bytes, must be {machine_key_bytes}")
    return key


def addresses_from_pb(addresses: Sequence[str], field: str) -> tuple[str, ...]:
    """Names and addresses; whether they are any is looked at where they are used."""
    if len(addresses) > machine_addresses_max:
        raise malformed(field, f"{len(addresses)} of them, at most {machine_addresses_max} are allowed")
    if any(len(each.encode()) > name_bytes_max for each in addresses):
        raise malformed(field, f"one is longer than {name_bytes_max} bytes")
    return tuple(addresses)


def proof_to_pb(proof: MachineProof) -> pb.MachineProof:
    """What shows that a request comes from a machine that has joined."""
    return pb.MachineProof(machine=proof.machine, key=proof.key)


def proof_from_pb(message: pb.MachineProof, field: str) -> MachineProof:
    """The same."""
    return MachineProof(name_from_pb(message.machine, f"{field}.machine"), _key_from_pb(message.key, f"{field}.key"))


def join_to_pb(request: JoinCluster) -> pb.JoinClusterRequest:
    """The request of JoinCluster."""
    return pb.JoinClusterRequest(token=request.token, machine=request.machine, key=request.key)


def join_from_pb(message: pb.JoinClusterRequest) -> JoinCluster:
    """The request of JoinCluster."""
    if len(message.token.encode()) > _TOKEN_BYTES_MAX:
        raise malformed("JoinClusterRequest.token", f"longer than {_TOKEN_BYTES_MAX} bytes")
    machine = name_from_pb(message.machine, "JoinClusterRequest.machine")
    return JoinCluster(message.token, machine, _key_from_pb(message.key, "JoinClusterRequest.key"))


def join_ack_to_pb(ack: JoinAck, routing: EncodedRouting | None) -> pb.JoinClusterReply:
    """The answer to JoinCluster."""
    return pb.JoinClusterReply(cluster_id=ack.cluster, cluster_name=ack.name)


def join_ack_from_pb(message: pb.JoinClusterReply) -> JoinAck:
    """The answer to JoinCluster."""
    return JoinAck(message.cluster_id, message.cluster_name)


def token_to_pb(token: JoinToken) -> pb.JoinToken:
    """A token, without its digest."""
    return pb.JoinToken(
        id=token.id,
        uses_max=token.uses_max,
        expires_ms=token.expires_ms,
        made_ms=token.made_ms,
        used_by=token.used_by,
        revoked=token.revoked,
        addresses=token.addresses,
    )


def token_from_pb(message: pb.JoinToken) -> JoinToken:
    """The same."""
    return JoinToken(
        message.id,
        message.digest,
        message.uses_max,
        message.expires_ms,
        message.made_ms,
        tuple(message.used_by),
        message.revoked,
        tuple(message.addresses),
    )


def make_token_to_pb(request: MakeToken) -> pb.MakeTokenRequest:
    """The request of MakeToken."""
    return pb.MakeTokenRequest(
        proof=proof_to_pb(request.proof),
        id=request.id,
        digest=request.digest,
        uses_max=request.uses_max,
        lifetime_ms=request.lifetime_ms,
        addresses=request.addresses,
    )


def make_token_from_pb(message: pb.MakeTokenRequest, proof: MachineProof | None = None) -> MakeToken:
    """The request of MakeToken. `proof`: what was proved, where the message does not show it; so of the next two."""
    if len(message.digest) != _DIGEST_BYTES:
        raise malformed("MakeTokenRequest.digest", f"{len(message.digest)} bytes, must be {_DIGEST_BYTES}")
    return MakeToken(
        proof or proof_from_pb(message.proof, "MakeTokenRequest.proof"),
        _token_id_from_pb(message.id, "MakeTokenRequest.id"),
        message.digest,
        message.uses_max,
        message.lifetime_ms,
        addresses=addresses_from_pb(message.addresses, "MakeTokenRequest.addresses"),
    )


def _token_id_from_pb(text: str, field: str) -> str:
    if len(text) != 8 or set(text) - set("0123456789abcdef"):
        raise malformed(field, "must be 8 hexadecimal digits")
    return text


def made_token_to_pb(token: JoinToken, routing: EncodedRouting | None) -> pb.MakeTokenReply:
    """The answer to MakeToken."""
    return pb.MakeTokenReply(token=token_to_pb(token))


def revoke_token_to_pb(request: RevokeToken) -> pb.RevokeTokenRequest:
    """The request of RevokeToken."""
    return pb.RevokeTokenRequest(proof=proof_to_pb(request.proof), id=request.id)


def revoke_token_from_pb(message: pb.RevokeTokenRequest, proof: MachineProof | None = None) -> RevokeToken:
    """The request of RevokeToken."""
    number = _token_id_from_pb(message.id, "RevokeTokenRequest.id")
    return RevokeToken(proof or proof_from_pb(message.proof, "RevokeTokenRequest.proof"), number)


def revoked_token_to_pb(token: JoinToken, routing: EncodedRouting | None) -> pb.RevokeTokenReply:
    """The answer to RevokeToken."""
    return pb.RevokeTokenReply(token=token_to_pb(token))


def token_answer_from_pb(message: pb.MakeTokenReply | pb.RevokeTokenReply) -> JoinToken:
    """The answer to MakeToken and RevokeToken."""
    return token_from_pb(message.token)


def remove_machine_to_pb(request: RemoveMachine) -> pb.RemoveMachineRequest:
    """The request of RemoveMachine."""
    return pb.RemoveMachineRequest(proof=proof_to_pb(request.proof), machine=request.machine, comes_back=request.comes_back)


def remove_machine_from_pb(message: pb.RemoveMachineRequest, proof: MachineProof | None = None) -> RemoveMachine:
    """The request of RemoveMachine."""
    machine = name_from_pb(message.machine, "RemoveMachineRequest.machine")
    proof = proof or proof_from_pb(message.proof, "RemoveMachineRequest.proof")
    return RemoveMachine(proof, machine, message.comes_back)


def removed_machine_to_pb(_: int, routing: EncodedRouting | None) -> pb.RemoveMachineReply:
    """The answer to RemoveMachine."""
    return pb.RemoveMachineReply()


def removed_machine_from_pb(_: pb.RemoveMachineReply) -> None:
    """The answer to RemoveMachine."""
    return None


def list_machines_to_pb() -> pb.ListMachinesRequest:
    """The question which machines have joined."""
    return pb.ListMachinesRequest()


def machines_to_pb(found: MachineList) -> pb.ListMachinesReply:
    """The answer to ListMachines."""
    machines = [
        pb.Machine(name=each.name, joined_ms=each.joined_ms, token_id=each.token_id, addresses=each.addresses)
        for each in found.machines
    ]
    return pb.ListMachinesReply(machines=machines, tokens=[token_to_pb(each) for each in found.tokens], closed=found.is_closed)


def machines_from_pb(message: pb.ListMachinesReply) -> MachineList:
    """The answer to ListMachines."""
    machines = tuple(Machine(each.name, b"", each.joined_ms, each.token_id, tuple(each.addresses)) for each in message.machines)
    return MachineList(machines, tuple(token_from_pb(each) for each in message.tokens), message.closed)


# --- settings --------------------------------------------------------------------------------------------------------


def set_settings_to_pb(request: SetSettings) -> pb.SetSettingsRequest:
    """The request of SetSettings."""
    return pb.SetSettingsRequest(
        changes=_values_to_pb(request.changes), expected_version=request.expected_version, author=request.author
    )


def set_settings_from_pb(message: pb.SetSettingsRequest) -> SetSettings:
    """The request of SetSettings. Which keys there are is looked at later."""
    if len(message.changes) > settings_max:
        raise malformed("SetSettingsRequest.changes", f"{len(message.changes)} changes, at most {settings_max} are allowed")
    if len(message.author.encode()) > name_bytes_max:
        raise malformed("SetSettingsRequest.author", f"longer than {name_bytes_max} bytes")
    changes = {
        change.key: _value_from_pb(change.value, f"SetSettingsRequest.changes[{index}].value") if change.value else None
        for index, change in enumerate(message.changes)
    }
    return SetSettings(changes, message.expected_version, message.author)


def settings_version_to_pb(version: int, routing: EncodedRouting | None) -> pb.SetSettingsReply:
    """The answer to SetSettings."""
    return pb.SetSettingsReply(version=version)


def settings_version_from_pb(message: pb.SetSettingsReply) -> int:
    """The answer to SetSettings."""
    return message.version


def get_settings_to_pb() -> pb.GetSettingsRequest:
    """The question which settings there are."""
    return pb.GetSettingsRequest()


def settings_history_to_pb(history: SettingsHistory) -> pb.GetSettingsReply:
    """The answer to GetSettings."""
    versions = [
        pb.SettingsVersion(
            version=each.version, made_ms=each.made_ms, author=each.author, values=_values_to_pb(dict(each.values))
        )
        for each in history.versions
    ]
    return pb.GetSettingsReply(versions=versions, started_with=_values_to_pb(dict(history.started_with)))


def settings_history_from_pb(message: pb.GetSettingsReply) -> SettingsHistory:
    """The answer to GetSettings."""
    versions = tuple(
        SettingsVersion(each.version, each.made_ms, each.author, _values_from_pb(each.values, f"GetSettingsReply.versions[{at}]"))
        for at, each in enumerate(message.versions)
    )
    return SettingsHistory(versions, _values_from_pb(message.started_with, "GetSettingsReply.started_with"))


def _values_to_pb(values: dict[str, SettingValue | None]) -> list[pb.Setting]:
    return [pb.Setting(key=key, value="" if value is None else json.dumps(value)) for key, value in values.items()]


def _values_from_pb(messages: Any, field: str) -> dict[str, SettingValue]:
    return {each.key: _value_from_pb(each.value, f"{field}.{each.key}") for each in messages}


def _value_from_pb(text: str, field: str) -> SettingValue:
    try:
        value = json.loads(text) if len(text) <= _VALUE_BYTES_MAX else None
    except ValueError:
        value = None
    if not isinstance(value, bool | int | float):
        raise malformed(field, f"{text[:_VALUE_BYTES_MAX]!r} is neither a number nor true or false")
    return value


def node_settings_to_pb(settings: NodeSettings) -> pb.NodeSettings:
    """How far the configuration is on a node."""
    return pb.NodeSettings(config_version=settings.version, newest_version=settings.newest_version, problem=settings.problem)


def node_settings_from_pb(message: pb.NodeSettings) -> NodeSettings:
    """The same."""
    return NodeSettings(message.config_version, message.newest_version, message.problem)
