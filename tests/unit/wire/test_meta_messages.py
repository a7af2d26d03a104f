"""Namespace records to protobuf and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs3.base.errors import FS3Error, InvalidArgument
from fs3.base.status import Code
from fs3.model.inode import Dirent, Inode, InodeType, Layout, User
from fs3.model.namespace import Entry, Listing, OpenResult, PathRef, RemoveKind, RenameMode
from fs3.model.requests import (
    Close,
    Link,
    List,
    Lookup,
    Mkdir,
    Open,
    Remove,
    Rename,
    Request,
    SetAttributes,
    Stat,
    Symlink,
    Sync,
    Truncate,
)
from fs3.wire.meta import caller_from_pb, caller_to_pb, fill_inode, inode_bytes_max, inode_from_pb
from fs3.wire.meta_verbs import VERB_OF_ITEM, VERBS, outcome_from_pb
from fs3.wire.methods import META
from fs3.wire.pb import common_pb2
from fs3.wire.pb import meta_pb2 as pb

U32 = st.integers(0, (1 << 32) - 1)
U64 = st.integers(0, (1 << 64) - 1)
S64 = st.integers(-(1 << 63), (1 << 63) - 1)
ID = st.integers(1, (1 << 56) - 1)
TEXT = st.text(st.characters(codec="utf-8"), max_size=30)
MODE = st.integers(0, 0o7777)
FLAG = st.booleans()
LAYOUT = st.builds(Layout, U32, U32, U32, st.lists(U32, max_size=12).map(tuple))
PATH = st.builds(PathRef, ID, TEXT)
TYPE = st.sampled_from(InodeType)
INODE = st.builds(Inode, ID, TYPE, U32, U32, U32, U32, U64, S64, S64, S64, S64, U64, U64, LAYOUT, TEXT)


def maybe(strategy):
    return st.none() | strategy


REQUESTS = {
    Lookup: st.builds(Lookup, PATH),
    Stat: st.builds(Stat, PATH, FLAG),
    List: st.builds(List, PATH, TEXT, U32, FLAG),
    Open: st.builds(Open, PATH, FLAG, FLAG, FLAG, FLAG, FLAG, MODE, maybe(LAYOUT)),
    Close: st.builds(Close, ID, U64, maybe(U64), FLAG, maybe(PATH.filter(lambda path: path.path)), FLAG, FLAG),
    Sync: st.builds(Sync, ID, U64, maybe(U64), FLAG),
    Mkdir: st.builds(Mkdir, PATH, MODE, FLAG, maybe(LAYOUT)),
    Remove: st.builds(Remove, PATH, st.sampled_from(RemoveKind)),
    Rename: st.builds(Rename, PATH, PATH, st.sampled_from(RenameMode)),
    Symlink: st.builds(Symlink, PATH, TEXT),
    Link: st.builds(Link, PATH, PATH),
    SetAttributes: st.builds(
        SetAttributes, PATH, FLAG, maybe(MODE), maybe(U32), maybe(U32), maybe(S64), maybe(S64), maybe(LAYOUT)
    ),
    Truncate: st.builds(Truncate, ID, U64),
}
ANSWERS = {
    "inode": INODE,
    "open": st.builds(OpenResult, INODE, U64),
    "remove": ID,
    "lookup": st.builds(Dirent, ID, TYPE),
    "list": st.builds(Listing, st.lists(st.builds(Entry, TEXT, ID, TYPE, maybe(INODE)), max_size=4), FLAG),
}


def test_every_verb_is_tested_and_in_the_table():
    assert set(REQUESTS) == set(VERBS)
    beside = {META.StatFs, META.BatchStat, META.Batch, META.KeepAlive, META.CheckPage, META.Inspect, META.Repair}
    assert {verb.method for verb in VERBS.values()} == set(META.methods) - beside
    assert {field.name for field in pb.BatchResult.DESCRIPTOR.oneofs[0].fields} == set(ANSWERS)


@given(st.one_of(*REQUESTS.values()))
def test_requests_survive_the_wire(request):
    verb = VERBS[type(request)]
    message = verb.method.request()
    verb.fill_request(message, request)
    assert verb.request_from(verb.method.request.FromString(message.SerializeToString())) == request


@given(st.one_of(*REQUESTS.values()))
def test_requests_survive_a_batch(request):
    verb = VERBS[type(request)]
    item = pb.BatchItem()
    message = getattr(item, verb.item)
    message.SetInParent()
    verb.fill_request(message, request)
    arrived = pb.BatchItem.FromString(item.SerializeToString())
    field = arrived.WhichOneof("request")
    assert VERB_OF_ITEM[field] is verb
    assert verb.request_from(getattr(arrived, field)) == request


@given(st.data(), st.sampled_from(list(VERBS)))
def test_answers_survive_the_wire_and_a_batch(data, record):
    verb = VERBS[record]
    answer = data.draw(ANSWERS[verb.reply])
    message = verb.method.reply()
    verb.fill_reply(message, answer)
    assert verb.reply_from(verb.method.reply.FromString(message.SerializeToString())) == answer
    result = pb.BatchResult()
    getattr(result, verb.reply).SetInParent()
    verb.fill_reply(getattr(result, verb.reply), answer)
    assert outcome_from_pb(verb, pb.BatchResult.FromString(result.SerializeToString()), "") == answer


@given(INODE)
def test_inodes_are_no_larger_than_said(inode):
    message = pb.Inode()
    fill_inode(message, inode)
    assert message.ByteSize() <= inode_bytes_max(inode)


def test_the_serial_of_a_directory_stays_at_home():
    layout = Layout(1, 65536, 2)
    inode = Inode(5, InodeType.DIRECTORY, 0o755, 1, 2, 2, 3, 4, 5, 6, 7, 8, 1, layout, "", 99)
    message = pb.Inode()
    fill_inode(message, inode)
    assert inode_from_pb(message).dirent_serial == 0


def test_a_type_of_a_newer_server_is_named():
    with pytest.raises(FS3Error, match="not know") as raised:
        inode_from_pb(pb.Inode(id=7, type=0))
    assert raised.value.code is Code.PROTOCOL


def test_results_of_a_batch_that_are_not_answers():
    verb = VERBS[Stat]
    refused = outcome_from_pb(verb, pb.BatchResult(code=Code.NOT_FOUND, message="no such file"), "a/b")
    assert isinstance(refused, FileNotFoundError)
    assert refused.filename == "a/b"
    assert outcome_from_pb(verb, pb.BatchResult(), "a").code is Code.PROTOCOL
    assert outcome_from_pb(verb, pb.BatchResult(remove=pb.RemoveReply(inode_id=1)), "a").code is Code.PROTOCOL
    assert outcome_from_pb(verb, pb.BatchResult(code=59_999), "a").code is Code.INTERNAL
    assert outcome_from_pb(verb, pb.BatchResult(inode=pb.InodeReply()), "a").code is Code.PROTOCOL


@given(st.builds(User, U32, U32, st.lists(U32, max_size=20).map(tuple)), st.binary(min_size=16, max_size=16))
def test_callers_survive_the_wire(user, client):
    message = common_pb2.Caller.FromString(caller_to_pb(client, user).SerializeToString())
    assert caller_from_pb(message) == (client, user)


@pytest.mark.parametrize(
    ("record", "message", "field"),
    [
        (Mkdir, pb.MkdirRequest(mode=0o10000), "mode"),
        (Open, pb.OpenRequest(mode=1 << 31), "mode"),
        (SetAttributes, pb.SetAttrRequest(mode=1 << 31), "mode"),
        (Remove, pb.RemoveRequest(kind=9), "kind"),
        (Rename, pb.RenameRequest(mode=9), "mode"),
        (Close, pb.CloseRequest(), "inode_id"),
        (Sync, pb.SyncRequest(), "inode_id"),
        (Truncate, pb.TruncateRequest(), "inode_id"),
        (List, pb.ListRequest(after="é" * 200), "after"),
    ],
)
def test_malformed_fields_are_named(record, message, field):
    with pytest.raises(InvalidArgument, match=field):
        VERBS[record].request_from(message)


def test_what_changes_something_needs_a_number():
    assert [record.__name__ for record in VERBS if record not in (Open,) and not record.mutates] == ["Lookup", "Stat", "List"]
    assert not Open(PathRef()).mutates
    for flag in ("write", "create", "truncate", "unnamed"):
        assert Open(PathRef(), **{flag: True}).mutates
    assert Request.mutates
