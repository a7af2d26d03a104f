"""Calls of etcd's API, version 3: names, and requests and replies to and from bytes.

Only what a transactional store needs of it: reads of several ranges at one revision, transactions that compare before they write,
a watch, a lease, and what an operator asks of a member.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from google.protobuf.message import DecodeError

from fs3.base.errors import error
from fs3.base.status import Code
from fs3.wire.pb import etcd_pb2 as pb

RANGE: Final = "/etcdserverpb.KV/Range"
TXN: Final = "/etcdserverpb.KV/Txn"
WATCH: Final = "/etcdserverpb.Watch/Watch"
LEASE_GRANT: Final = "/etcdserverpb.Lease/LeaseGrant"
LEASE_REVOKE: Final = "/etcdserverpb.Lease/LeaseRevoke"
LEASE_KEEP_ALIVE: Final = "/etcdserverpb.Lease/LeaseKeepAlive"
MEMBER_LIST: Final = "/etcdserverpb.Cluster/MemberList"
AUTHENTICATE: Final = "/etcdserverpb.Auth/Authenticate"
STATUS: Final = "/etcdserverpb.Maintenance/Status"


class EtcdRow(NamedTuple):
    """A key as a member has it."""

    key: bytes
    value: bytes
    mod_revision: int
    """Of its last change."""


class EtcdRange(NamedTuple):
    """Keys to read."""

    begin: bytes
    end: bytes = b""
    """Exclusive; empty: the one key `begin`."""
    limit: int = 0
    """0: all of them."""
    reverse: bool = False


class EtcdCondition(NamedTuple):
    """What must hold when a transaction takes place."""

    key: bytes
    mod_revision: int
    """Of the key, 0 when it is to be absent."""
    end: bytes = b""
    """Not empty: of all keys in [key, end), which must have been changed *before* `mod_revision`."""


class EtcdReadReply(NamedTuple):
    """What was read."""

    revision: int
    """Of the store, when it was read."""
    ranges: tuple[tuple[EtcdRow, ...], ...]
    """The rows of each range."""


class EtcdTxnReply(NamedTuple):
    """What became of a transaction."""

    revision: int
    """Of the store: of the transaction, when it has written."""
    succeeded: bool
    """Every condition held."""
    ranges: tuple[tuple[EtcdRow, ...], ...]
    """What its reads found, in their order."""
    replaced: int
    """Revision of what its first write with `prev_kv` has replaced; 0: nothing."""


class EtcdChange(NamedTuple):
    """One key was changed."""

    key: bytes
    value: bytes | None
    """None: deleted."""
    mod_revision: int


class EtcdWatchReply(NamedTuple):
    """One message of a watch. All changes of one revision are in one message."""

    changes: tuple[EtcdChange, ...]
    is_canceled: bool
    compact_revision: int
    """Not 0: the revisions asked for are compacted away up to this one."""
    reason: str
    """Of the cancellation."""


class EtcdMember(NamedTuple):
    """A member as the others know it."""

    id: int
    name: str
    client_urls: tuple[str, ...]


class EtcdStatus(NamedTuple):
    """What a member says of itself."""

    member: int
    version: str
    leader: int
    """0: it knows none."""
    db_bytes: int
    db_bytes_in_use: int
    errors: tuple[str, ...]
    """Alarms, and that there is no leader."""
    quota_bytes: int = 0
    """0: it does not say."""


def encode_range(wanted: EtcdRange, revision: int = 0) -> bytes:
    """A `RANGE`, linearizable; 0: at the newest revision."""
    request = _range(wanted)
    request.revision = revision
    return request.SerializeToString()


def decode_range(data: bytes) -> EtcdReadReply:
    """The reply of `RANGE`. FS3Error PROTOCOL for bytes that are none."""
    reply = _parse(pb.RangeResponse, data)
    return EtcdReadReply(reply.header.revision, (_rows(reply),))


def encode_read(ranges: Iterable[EtcdRange]) -> bytes:
    """A `TXN` that reads, linearizably and all at one revision."""
    return pb.TxnRequest(success=_reads(ranges)).SerializeToString()


def encode_txn(
    conditions: Iterable[EtcdCondition],
    puts: Mapping[bytes, bytes],
    deletes: Sequence[bytes],
    *,
    leased: tuple[bytes, bytes, int] | None = None,
    traced: tuple[bytes, bytes] | None = None,
    otherwise: Iterable[EtcdRange] = (),
) -> bytes:
    """A `TXN` that writes when all conditions hold, and else reads what `otherwise` names.

    `leased`: a row (key, value, lease) that goes with its lease. `traced`: a row of which `EtcdTxnReply.replaced` tells what it
    was.
    """
    request = pb.TxnRequest()
    add = request.compare.add
    for key, mod_revision, end in conditions:
        if end:
            add(result=pb.Compare.LESS, target=pb.Compare.MOD, key=key, range_end=end, mod_revision=mod_revision)
        else:
            add(result=pb.Compare.EQUAL, target=pb.Compare.MOD, key=key, mod_revision=mod_revision)
    success = request.success
    if traced is not None:
        success.add(request_put=pb.PutRequest(key=traced[0], value=traced[1], prev_kv=True))
    if leased is not None:
        success.add(request_put=pb.PutRequest(key=leased[0], value=leased[1], lease=leased[2]))
    for key, value in puts.items():
        success.add(request_put=pb.PutRequest(key=key, value=value))
    for key in deletes:
        success.add(request_delete_range=pb.DeleteRangeRequest(key=key))
    request.failure.extend(_reads(otherwise))
    return request.SerializeToString()


def encode_check(conditions: Iterable[EtcdCondition], reads: Sequence[EtcdRange]) -> bytes:
    """A `TXN` that writes nothing: do all conditions hold now? `reads`: at least one, since a member answers a transaction
    without any from what it has, however old that is."""
    assert reads
    ranges = _reads(reads)
    request = pb.TxnRequest.FromString(encode_txn(conditions, {}, ()))
    request.success.extend(ranges)
    request.failure.extend(ranges)
    return request.SerializeToString()


def encode_limit_probe(key: bytes, conditions: int, request_bytes: int) -> bytes:
    """A `TXN` that changes nothing, with so many conditions and of that size: is it admitted?"""
    request = pb.TxnRequest(success=_reads([EtcdRange(key)]))
    for _ in range(conditions - 1):
        request.compare.add(result=pb.Compare.GREATER, target=pb.Compare.VERSION, key=key, version=-1)
    value = bytes(max(request_bytes - request.ByteSize() - 64, 0))
    request.compare.add(result=pb.Compare.NOT_EQUAL, target=pb.Compare.VALUE, key=key, value=value)
    return request.SerializeToString()


def decode_txn(data: bytes) -> EtcdTxnReply:
    """The reply of `TXN`. FS3Error PROTOCOL for bytes that are none."""
    reply = _parse(pb.TxnResponse, data)
    ranges = []
    replaced = 0
    for response in reply.responses:
        if response.HasField("response_range"):
            ranges.append(_rows(response.response_range))
        elif response.HasField("response_put") and response.response_put.HasField("prev_kv"):
            replaced = replaced or response.response_put.prev_kv.mod_revision
    return EtcdTxnReply(reply.header.revision, reply.succeeded, tuple(ranges), replaced)


def encode_watch(begin: bytes, end: bytes, start_revision: int) -> bytes:
    """The request of `WATCH`: every change of a key in [begin, end) from a revision on."""
    create = pb.WatchCreateRequest(key=begin, range_end=end, start_revision=start_revision)
    return pb.WatchRequest(create_request=create).SerializeToString()


def decode_watch(data: bytes, known: int = 0) -> EtcdWatchReply:
    """A message of `WATCH`. FS3Error PROTOCOL for bytes that are none. `known`: of a message whose changes are all of revisions
    up to here nothing is read."""
    reply = _parse(pb.WatchResponse, data)
    events = reply.events
    if events and events[-1].kv.mod_revision <= known:
        return EtcdWatchReply((), reply.canceled, reply.compact_revision, reply.cancel_reason)
    deleted = pb.Event.DELETE
    changes = tuple(
        EtcdChange(event.kv.key, None if event.type == deleted else event.kv.value, event.kv.mod_revision) for event in events
    )
    return EtcdWatchReply(changes, reply.canceled, reply.compact_revision, reply.cancel_reason)


def encode_lease_grant(seconds: int) -> bytes:
    """The request of `LEASE_GRANT`."""
    return pb.LeaseGrantRequest(TTL=seconds).SerializeToString()


def decode_lease_grant(data: bytes) -> int:
    """The id of a granted lease. FS3Error PROTOCOL for bytes that are none."""
    return int(_parse(pb.LeaseGrantResponse, data).ID)


def encode_lease_revoke(lease: int) -> bytes:
    """The request of `LEASE_REVOKE`."""
    return pb.LeaseRevokeRequest(ID=lease).SerializeToString()


def encode_lease_keep_alive(lease: int) -> bytes:
    """A request of `LEASE_KEEP_ALIVE`."""
    return pb.LeaseKeepAliveRequest(ID=lease).SerializeToString()


def decode_lease_keep_alive(data: bytes) -> int:
    """Seconds the lease has from now on; 0: it is over. FS3Error PROTOCOL for bytes that are none."""
    return int(_parse(pb.LeaseKeepAliveResponse, data).TTL)


def encode_authenticate(user: str, password: str) -> bytes:
    """The request of `AUTHENTICATE`."""
    return pb.AuthenticateRequest(name=user, password=password).SerializeToString()


def decode_authenticate(data: bytes) -> str:
    """The token that says who one is. FS3Error PROTOCOL for bytes that are none."""
    return str(_parse(pb.AuthenticateResponse, data).token)


def encode_nothing() -> bytes:
    """The request of `MEMBER_LIST` and of `STATUS`."""
    return b""


def decode_members(data: bytes) -> tuple[EtcdMember, ...]:
    """The reply of `MEMBER_LIST`. FS3Error PROTOCOL for bytes that are none."""
    members = _parse(pb.MemberListResponse, data).members
    return tuple(EtcdMember(member.ID, member.name, tuple(member.clientURLs)) for member in members)


def decode_status(data: bytes) -> EtcdStatus:
    """The reply of `STATUS`. FS3Error PROTOCOL for bytes that are none."""
    reply = _parse(pb.StatusResponse, data)
    size, used, errors = reply.dbSize, reply.dbSizeInUse, tuple(reply.errors)
    return EtcdStatus(reply.header.member_id, reply.version, reply.leader, size, used, errors, reply.dbSizeQuota)


def _range(wanted: EtcdRange) -> pb.RangeRequest:
    order = pb.RangeRequest.DESCEND if wanted.reverse else pb.RangeRequest.NONE
    return pb.RangeRequest(key=wanted.begin, range_end=wanted.end, limit=wanted.limit, sort_order=order)


def _reads(ranges: Iterable[EtcdRange]) -> list[pb.RequestOp]:
    return [pb.RequestOp(request_range=_range(wanted)) for wanted in ranges]


def _rows(reply: pb.RangeResponse) -> tuple[EtcdRow, ...]:
    return tuple(EtcdRow(row.key, row.value, row.mod_revision) for row in reply.kvs)


def _parse(kind: Any, data: bytes) -> Any:
    try:
        return kind.FromString(data)
    except DecodeError as why:
        raise error(Code.PROTOCOL, f"a reply of etcd cannot be read as {kind.DESCRIPTOR.name}: {why}") from why
