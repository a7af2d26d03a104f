"""etcd's API: requests as a member reads them, replies as they are read here."""

import pytest

from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.wire import etcd
from fs3.wire.pb import etcd_pb2 as pb


def test_a_transaction_compares_then_writes_or_reads() -> None:
    request = pb.TxnRequest.FromString(
        etcd.encode_txn(
            [etcd.EtcdCondition(b"a", 7), etcd.EtcdCondition(b"b", 9, b"c")],
            {b"k": b"v"},
            [b"gone"],
            leased=(b"own", b"3", 77),
            traced=(b"mark", b""),
            otherwise=[etcd.EtcdRange(b"mark")],
        )
    )
    one, many = request.compare
    assert (one.result, one.target, one.key, one.range_end, one.mod_revision) == (0, pb.Compare.MOD, b"a", b"", 7)
    assert (many.result, many.key, many.range_end, many.mod_revision) == (pb.Compare.LESS, b"b", b"c", 9)
    mark, own, put, delete = request.success
    assert mark.request_put.prev_kv
    assert (own.request_put.key, own.request_put.lease) == (b"own", 77)
    assert (put.request_put.key, put.request_put.value) == (b"k", b"v")
    assert delete.request_delete_range.key == b"gone"
    assert [each.request_range.key for each in request.failure] == [b"mark"]


def test_the_reply_of_a_transaction() -> None:
    row = pb.KeyValue(key=b"k", value=b"v", mod_revision=5)
    reply = pb.TxnResponse(
        header=pb.ResponseHeader(revision=9),
        succeeded=True,
        responses=[
            pb.ResponseOp(response_put=pb.PutResponse(prev_kv=pb.KeyValue(key=b"mark", mod_revision=8))),
            pb.ResponseOp(response_put=pb.PutResponse()),
            pb.ResponseOp(response_range=pb.RangeResponse(kvs=[row])),
        ],
    )
    decoded = etcd.decode_txn(reply.SerializeToString())
    assert decoded == etcd.EtcdTxnReply(9, True, ((etcd.EtcdRow(b"k", b"v", 5),),), 8)


def test_reads_are_never_answered_by_a_member_that_is_behind() -> None:
    check = pb.TxnRequest.FromString(etcd.encode_check([etcd.EtcdCondition(b"a", 0)], [etcd.EtcdRange(b"m")]))
    assert not check.success[0].request_range.serializable
    assert check.failure[0].request_range.key == b"m"
    plain = pb.RangeRequest.FromString(etcd.encode_range(etcd.EtcdRange(b"a", b"b", 3, True), 12))
    assert (plain.limit, plain.revision, plain.sort_order, plain.serializable) == (3, 12, pb.RangeRequest.DESCEND, False)
    with pytest.raises(AssertionError):
        etcd.encode_check([], [])


def test_a_probe_of_limits_has_the_size_and_the_conditions() -> None:
    assert len(pb.TxnRequest.FromString(etcd.encode_limit_probe(b"k", 4096, 0)).compare) == 4096
    assert abs(len(etcd.encode_limit_probe(b"k", 1, 1 << 20)) - (1 << 20)) < 128


def test_changes_of_a_watch() -> None:
    event = pb.Event(type=pb.Event.DELETE, kv=pb.KeyValue(key=b"b", mod_revision=4))
    put = pb.Event(kv=pb.KeyValue(key=b"a", value=b"1", mod_revision=3))
    message = pb.WatchResponse(events=[put, event]).SerializeToString()
    assert etcd.decode_watch(message, event.kv.mod_revision).changes == ()
    reply = etcd.decode_watch(message, event.kv.mod_revision - 1)
    assert reply.changes == (etcd.EtcdChange(b"a", b"1", 3), etcd.EtcdChange(b"b", None, 4))
    ended = etcd.decode_watch(pb.WatchResponse(canceled=True, compact_revision=8, cancel_reason="why").SerializeToString())
    assert (ended.is_canceled, ended.compact_revision, ended.reason) == (True, 8, "why")


def test_leases_members_and_status() -> None:
    assert pb.LeaseGrantRequest.FromString(etcd.encode_lease_grant(60)).TTL == 60
    assert etcd.decode_lease_grant(pb.LeaseGrantResponse(ID=5).SerializeToString()) == 5
    assert pb.LeaseKeepAliveRequest.FromString(etcd.encode_lease_keep_alive(5)).ID == 5
    assert etcd.decode_lease_keep_alive(pb.LeaseKeepAliveResponse(TTL=0).SerializeToString()) == 0
    assert pb.LeaseRevokeRequest.FromString(etcd.encode_lease_revoke(5)).ID == 5
    member = pb.Member(ID=3, name="m", clientURLs=["http://h:1"])
    listed = pb.MemberListResponse(members=[member]).SerializeToString()
    assert etcd.decode_members(listed) == (etcd.EtcdMember(3, "m", ("http://h:1",)),)
    status = pb.StatusResponse(version="3.5.1", leader=1, dbSize=10, dbSizeInUse=4, errors=["NOSPACE"])
    assert etcd.decode_status(status.SerializeToString()) == etcd.EtcdStatus(0, "3.5.1", 1, 10, 4, ("NOSPACE",))


@pytest.mark.parametrize("decode", [etcd.decode_txn, etcd.decode_range, etcd.decode_watch, etcd.decode_status])
def test_bytes_that_are_no_reply_are_refused(decode) -> None:
    with pytest.raises(FS3Error) as refused:
        decode(b"\xff\xff\xff")
    assert refused.value.code is Code.PROTOCOL
