"""Namespace records to protobuf and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs3.base.errors import FS3Error, InvalidArgument, error
from fs3.base.ids import InodeId
from fs3.base.limits import batch_items_max, frame_header_bytes_max
from fs3.base.names import to_text
from fs3.base.status import Code
from fs3.model.capabilities import GetCapabilities, WantedCapability
from fs3.model.check import CheckPage, Inspection, Problem, ProblemKind, RepairResult, RowTable
from fs3.model.inode import AppendTurn, Dirent, Inode, InodeType, Layout, User
from fs3.model.lock import FoundLock, GetLock, Lock, LockAnswer, LockKind, LockOwner, LockStep
from fs3.model.namespace import Entry, FileSystemSpace, Listing, OpenResult, PathRef, RemoveKind, RenameMode
from fs3.model.requests import (
    Append,
    AppendStep,
    BatchStat,
    Caller,
    CheckRows,
    Close,
    GetXattr,
    Hold,
    InspectInodes,
    KeepAlive,
    Link,
    List,
    ListXattr,
    Lookup,
    Mkdir,
    Mknod,
    Open,
    Put,
    Remove,
    RemoveXattr,
    Rename,
    Repair,
    Request,
    SetAttributes,
    SetXattr,
    Stat,
    StatFs,
    Symlink,
    Sync,
    Truncate,
    XattrMode,
)
from fs3.model.watch import Watch, WatchNews
from fs3.wire.meta import caller_from_pb, caller_to_pb, fill_inode, inode_bytes_max, inode_from_pb
from fs3.wire.meta_batch import (
    VERB_OF_ITEM,
    BatchedRequest,
    batch_from_pb,
    batch_reply_from_pb,
    batch_reply_to_pb,
    batch_to_pb,
    item_to_pb,
    outcome_from_pb,
)
from fs3.wire.meta_verbs import REPLY_BYTES_MAX, VERBS, verb_of
from fs3.wire.methods import META
from fs3.wire.pb import common_pb2
from fs3.wire.pb import meta_pb2 as pb

U32 = st.integers(0, (1 << 32) - 1)
U64 = st.integers(0, (1 << 64) - 1)
S64 = st.integers(-(1 << 63), (1 << 63) - 1)
ID = st.integers(1, (1 << 56) - 1)
UTF8 = st.text(st.characters(codec="utf-8"), max_size=30)
TEXT = UTF8 | st.binary(max_size=30).map(to_text)
"""What a name or path may be."""
MODE = st.integers(0, 0o7777)
FLAG = st.booleans()
LAYOUT = st.builds(Layout, U32, U32, U32, st.lists(U32, max_size=12).map(tuple))
PATH = st.builds(PathRef, ID, TEXT)
TYPE = st.sampled_from(InodeType)


def maybe(strategy):
    return st.none() | strategy


TURN = st.builds(AppendTurn, U64, U64, U64)
INODE = st.builds(
    Inode,
    ID,
    TYPE,
    U32,
    U32,
    U32,
    U32,
    U64,
    S64,
    S64,
    S64,
    S64,
    U64,
    U64,
    LAYOUT,
    UTF8,
    truncations=U64,
    append=maybe(TURN),
    content=ID,
    inline=FLAG,
    rdev=U64,
    xattr_bytes=U32,
    has_holes=FLAG,
)
ENTRY = st.builds(Entry, TEXT, ID, TYPE)
ENTRY_WITH_INODE = st.builds(lambda name, inode: Entry(name, inode.id, inode.type, inode), TEXT, INODE)

TOLD_OF_WRITES = {"keep_mtime": FLAG, "written_ago_ns": maybe(U64), "leaves_holes": FLAG}

REQUESTS = {
    Lookup: st.builds(Lookup, PATH),
    Stat: st.builds(Stat, PATH, FLAG),
    List: st.builds(List, PATH, TEXT, U32, FLAG, FLAG),
    Open: st.builds(Open, PATH, FLAG, FLAG, FLAG, FLAG, FLAG, MODE, maybe(LAYOUT), FLAG, FLAG),
    Put: st.builds(Put, PATH, st.binary(max_size=9), MODE, maybe(LAYOUT), FLAG, maybe(MODE)),
    Close: st.builds(Close, ID, U64, maybe(U64), FLAG, maybe(PATH.filter(lambda path: path.path)), FLAG, FLAG, **TOLD_OF_WRITES),
    Sync: st.builds(Sync, ID, U64, maybe(U64), FLAG, **TOLD_OF_WRITES),
    Mkdir: st.builds(Mkdir, PATH, MODE, FLAG, maybe(LAYOUT)),
    Remove: st.builds(Remove, PATH, st.sampled_from(RemoveKind)),
    Rename: st.builds(Rename, PATH, PATH, st.sampled_from(RenameMode)),
    Symlink: st.builds(Symlink, PATH, TEXT),
    Link: st.builds(Link, PATH, PATH, U64),
    SetAttributes: st.builds(
        SetAttributes, PATH, FLAG, maybe(MODE), maybe(U32), maybe(U32), maybe(S64), maybe(S64), maybe(LAYOUT), FLAG
    ),
    Truncate: st.builds(Truncate, ID, U64),
    Hold: st.builds(Hold, ID),
}
NAME = st.binary(max_size=9)
LOCK_FIELDS = (st.sampled_from(LockKind), U64, FLAG, FLAG, U64, U64)
LOCK_OWNER = st.builds(LockOwner, st.binary(min_size=16, max_size=16), U64, FLAG)
PROBLEM = st.builds(Problem, st.sampled_from(ProblemKind), ID, ID, st.binary(max_size=9), st.binary(max_size=9), U32)
ALONE = {
    Append: st.builds(Append, ID, U64, st.sampled_from(AppendStep), U64, U64, U64, st.binary(max_size=9), FLAG),
    SetXattr: st.builds(SetXattr, PATH, NAME, st.binary(max_size=9), st.sampled_from(XattrMode), FLAG),
    GetXattr: st.builds(GetXattr, PATH, NAME, FLAG),
    ListXattr: st.builds(ListXattr, PATH, FLAG),
    RemoveXattr: st.builds(RemoveXattr, PATH, NAME, FLAG),
    Lock: st.builds(Lock, ID, st.sampled_from(LockStep), *LOCK_FIELDS, U64, st.integers(1, 1 << 63), U64)
    | st.builds(Lock, ID, st.just(LockStep.TRY), wait=st.just(1), process=st.integers(1, (1 << 32) - 1), pid_space=U64),
    GetLock: st.builds(GetLock, ID, *LOCK_FIELDS, U64, U64),
    BatchStat: st.builds(BatchStat, ID, st.lists(TEXT, max_size=4), FLAG),
    StatFs: st.just(StatFs()),
    KeepAlive: st.builds(KeepAlive, st.lists(ID, max_size=4).map(tuple)),
    Watch: st.builds(Watch, U64, U64),
    Mknod: st.builds(Mknod, PATH, TYPE, MODE, U64),
    CheckRows: st.builds(CheckRows, st.sampled_from(RowTable), st.binary(max_size=9)),
    InspectInodes: st.builds(InspectInodes, st.lists(ID, max_size=4), FLAG),
    Repair: st.builds(Repair, PROBLEM),
    GetCapabilities: st.builds(
        GetCapabilities,
        st.lists(st.builds(WantedCapability, ID, st.integers(1, 3), st.binary(max_size=9)), max_size=4).map(tuple),
    ),
}
"""Requests that are in no batch."""
CALLER = Caller(b"sixteen bytes id", User(1, 2, (3,)), 0)
ANSWERS = {
    "inode": INODE,
    "open": st.builds(OpenResult, INODE, U64, maybe(st.binary(max_size=9)), st.binary(max_size=9)),
    "remove": ID,
    "lookup": st.builds(Dirent, ID, TYPE),
    "list": st.builds(Listing, st.lists(ENTRY, max_size=4) | st.lists(ENTRY_WITH_INODE, max_size=4), FLAG),
}
ANSWERS_ALONE = {
    Append: INODE,
    SetXattr: INODE,
    GetXattr: st.binary(max_size=9),
    ListXattr: st.lists(NAME, max_size=4),
    RemoveXattr: INODE,
    Lock: st.builds(LockAnswer, U64),
    GetLock: maybe(st.builds(FoundLock, st.sampled_from(LockKind), LOCK_OWNER, U64, U64, FLAG, st.just(0), U32)),
    BatchStat: st.lists(INODE | st.sampled_from([Code.NOT_FOUND, Code.ACCESS]), max_size=4),
    StatFs: st.builds(FileSystemSpace, U64, U64, U64, U64),
    KeepAlive: st.lists(ID, max_size=4),
    Watch: st.builds(WatchNews, U64, U64, st.lists(ID, max_size=4).map(tuple), FLAG, U64),
    Mknod: INODE,
    CheckRows: st.builds(
        CheckPage, st.binary(max_size=9), U32, st.lists(PROBLEM, max_size=2), *[st.lists(U32, max_size=2)] * 3,
        st.lists(st.integers(0, 1), max_size=2), st.lists(st.binary(max_size=9), max_size=2), st.just([]),
    ),
    InspectInodes: st.builds(Inspection, U64, st.just([])),
    Repair: st.builds(RepairResult, FLAG, UTF8),
    GetCapabilities: st.lists(st.binary(max_size=9) | st.sampled_from([Code.NOT_FOUND, Code.ACCESS, Code.BUSY]), max_size=4),
}  # fmt: skip


def test_every_verb_is_tested_and_in_the_table():
    assert {**REQUESTS, **ALONE}.keys() == VERBS.keys()
    assert ALONE.keys() == ANSWERS_ALONE.keys()
    assert set(REQUESTS) == {verb.record for verb in VERBS.values() if verb.item}
    assert {verb.method for verb in VERBS.values()} == set(META.methods) - {META.Batch}
    assert {field.name for field in pb.BatchResult.DESCRIPTOR.oneofs[0].fields} == set(ANSWERS)


@given(st.one_of(*REQUESTS.values(), *ALONE.values()), U64)
def test_requests_survive_the_wire(request, seq):
    verb = verb_of(request)
    message = verb.request_to_pb(request, caller_to_pb(CALLER.client, CALLER.user), seq)
    arrived = verb.method.request.FromString(message.SerializeToString())
    assert verb.request_from_pb(arrived) == request
    assert caller_from_pb(arrived.caller) == Caller(CALLER.client, CALLER.user, seq)


@given(st.one_of(*REQUESTS.values()))
def test_requests_survive_a_batch(request):
    item = item_to_pb(request, 7)
    assert VERB_OF_ITEM[item.WhichOneof("request")] is verb_of(request)
    message = batch_to_pb([item, pb.BatchItem()], caller_to_pb(CALLER.client, CALLER.user))
    arrived, unknown = batch_from_pb(pb.BatchRequest.FromString(message.SerializeToString()))
    assert arrived == BatchedRequest(request, 7 if request.mutates else 0)
    assert isinstance(unknown, InvalidArgument)


@given(st.data(), st.sampled_from(list(REQUESTS)))
def test_answers_survive_the_wire_and_a_batch(data, record):
    verb = VERBS[record]
    answer = data.draw(ANSWERS[verb.answer.field])
    message = verb.reply_to_pb(answer)
    assert verb.answer.from_pb(verb.method.reply.FromString(message.SerializeToString())) == answer
    request = data.draw(REQUESTS[record])
    refusal = error(Code.ACCESS, "no")
    reply = batch_reply_to_pb([BatchedRequest(request, 0), refusal], [answer, refusal])
    arrived, refused = batch_reply_from_pb([request, request], pb.BatchReply.FromString(reply.SerializeToString()))
    assert arrived == answer
    assert refused.code is Code.ACCESS


@given(st.data(), st.sampled_from(list(ALONE)))
def test_other_answers_survive_the_wire(data, record):
    verb = VERBS[record]
    answer = data.draw(ANSWERS_ALONE[record])
    message = verb.reply_to_pb(answer)
    assert verb.answer.from_pb(verb.method.reply.FromString(message.SerializeToString())) == answer


def test_what_does_not_fit_into_a_reply_is_cut():
    layout = Layout(1, 65536, 500, tuple(range((1 << 32) - 500, 1 << 32)))
    inode = Inode(5, InodeType.FILE, 0o644, 1, 2, 1, 3, 4, 5, 6, 7, 8, 0, layout)
    count = batch_items_max
    stats = VERBS[BatchStat].reply_to_pb([Code.NOT_FOUND, *[inode] * count])
    assert stats.ByteSize() <= REPLY_BYTES_MAX
    assert len(stats.codes) == len(stats.inodes) + 1 < count
    reply = batch_reply_to_pb([BatchedRequest(Stat(PathRef()), 0)] * count, [inode] * count)
    assert reply.ByteSize() <= frame_header_bytes_max
    answers = batch_reply_from_pb([Stat(PathRef())] * count, reply)
    assert answers[0] == inode
    assert answers[-1].code is Code.TOO_LARGE
    with pytest.raises(FS3Error, match="results"):
        batch_reply_from_pb([Stat(PathRef())], reply)


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


def test_a_type_of_a_newer_server_is_some_other_type_and_none_is_nonsense():
    assert inode_from_pb(pb.Inode(id=7, type=77)).type is InodeType.OTHER
    with pytest.raises(FS3Error, match="no type") as raised:
        inode_from_pb(pb.Inode(id=7))
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
    assert caller_from_pb(message) == Caller(client, user)


def test_what_a_caller_reads_survives_the_wire_as_far_as_one_request_may_tell():
    message = caller_to_pb(CALLER.client, CALLER.user)
    message.open_contents.extend(range(1, 513))
    assert caller_from_pb(message).open_contents == tuple(range(1, 513))
    message.open_contents.append(9)
    with pytest.raises(InvalidArgument, match="open_contents"):
        caller_from_pb(message)


@pytest.mark.parametrize(
    ("record", "message", "field"),
    [
        (Mkdir, pb.MkdirRequest(mode=0o10000), "mode"),
        (Open, pb.OpenRequest(mode=1 << 31), "mode"),
        (SetAttributes, pb.SetAttrRequest(mode=1 << 31), "mode"),
        *[
            (record, message(parents_mode=0o10000), "mode")
            for record, message in ((Mkdir, pb.MkdirRequest), (Open, pb.OpenRequest), (Rename, pb.RenameRequest))
        ],
        (Remove, pb.RemoveRequest(kind=9), "kind"),
        (Rename, pb.RenameRequest(mode=9), "mode"),
        (Close, pb.CloseRequest(), "content_id"),
        (Sync, pb.SyncRequest(), "content_id"),
        (Truncate, pb.TruncateRequest(), "content_id"),
        (List, pb.ListRequest(after="é" * 200), "after"),
        (Hold, pb.HoldRequest(), "content_id"),
        (KeepAlive, pb.KeepAliveRequest(open_contents=[7] * 513), "open_contents"),
        (KeepAlive, pb.KeepAliveRequest(open_contents=[7, 0]), "open_contents"),
    ],
)
def test_malformed_fields_are_named(record, message, field):
    with pytest.raises(InvalidArgument, match=field):
        VERBS[record].request_from_pb(message)


def test_what_changes_something_needs_a_number():
    reads = {record for record in VERBS if record is not Open and not record.mutates}
    assert reads == {Lookup, Stat, List, *ALONE} - {Repair, Append, Mknod, SetXattr, RemoveXattr, Lock}
    assert not Open(PathRef()).mutates
    for flag in ("write", "create", "truncate", "unnamed"):
        assert Open(PathRef(), **{flag: True}).mutates
    assert Request.mutates


@pytest.mark.parametrize(
    "request_",
    [
        Stat(PathRef.of("\udcff")),
        Symlink(PathRef.of("s"), "\udcff"),
        List(PathRef(), "\udcff"),
        BatchStat(InodeId(1), ["a", "\udcff"]),
    ],
    ids=lambda request: type(request).__name__,
)
def test_a_service_that_knows_only_strings_refuses_other_names(request_):
    message = verb_of(request_).request_to_pb(request_, caller_to_pb(CALLER.client, CALLER.user), 0)
    strings = [getattr(message, name, "") for name in ("target", "after")] + list(getattr(message, "paths", []))
    strings.append(getattr(message.path, "path", "") if hasattr(message, "path") else "")
    assert "\0" in strings, "no path may contain it, and the empty path would be another one"


def test_an_old_client_does_not_ask_for_raw_names():
    assert not VERBS[List].request_from_pb(pb.ListRequest()).raw_names
