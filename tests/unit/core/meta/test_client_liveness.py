"""Signs of life: who is presumed dead, and how a client that was merely silent gets out of it."""

import pytest

from fs3.base.limits import requests_remembered_ns
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.core.meta.client_liveness import (
    ClientFailureDetector,
    ClientRecord,
    find_owner,
    forget_client,
    is_presumed_dead,
    list_clients,
    presume_dead,
    record_heartbeats,
)
from fs3.core.meta.errors import LengthUnknown, MetaError
from fs3.core.meta.ops.close import close_file
from fs3.core.meta.ops.open import open_file
from fs3.core.meta.ops.remove import remove
from fs3.core.meta.ops.sync import sync
from fs3.core.meta.ops.truncate import truncate
from fs3.core.meta.sessions import find_or_revive, forget_pruned, list_sessions, prune
from fs3.model.namespace import PathRef, RemoveKind

PATIENCE = 60 * SECOND
A, B = b"a" * 16, b"b" * 16


def names(dead):
    return [client for client, _ in dead]


def test_silence_is_counted_from_the_first_look():
    silence = ClientFailureDetector(PATIENCE)
    assert silence.observe(1_000 * SECOND, [(A, ClientRecord(7))]) == []
    for at in range(10, 60, 10):
        assert silence.observe((1_000 + at) * SECOND, [(A, ClientRecord(7))]) == []
    assert names(silence.observe(1_060 * SECOND, [(A, ClientRecord(7))])) == [A]


def test_any_beat_starts_the_count_anew():
    silence = ClientFailureDetector(PATIENCE)
    for at in range(0, 300, 20):
        assert silence.observe(at * SECOND, [(A, ClientRecord(at // 40)), (B, ClientRecord(at))]) == []
    for at in range(300, 340, 20):
        silence.observe(at * SECOND, [(A, ClientRecord(7)), (B, ClientRecord(at))])
    assert names(silence.observe(340 * SECOND, [(A, ClientRecord(7)), (B, ClientRecord(340))])) == [A]


def test_whoever_did_not_look_for_long_presumes_nobody_dead():
    silence = ClientFailureDetector(PATIENCE)
    silence.observe(0, [(A, ClientRecord(1))])
    silence.observe(20 * SECOND, [(A, ClientRecord(1))])
    assert silence.observe(500 * SECOND, [(A, ClientRecord(1))]) == [], "it was stopped itself, perhaps"
    assert silence.observe(520 * SECOND, [(A, ClientRecord(1))]) == []
    assert silence.observe(540 * SECOND, [(A, ClientRecord(1))]) == []
    assert names(silence.observe(560 * SECOND, [(A, ClientRecord(1))])) == [A]


def test_who_was_marked_is_dead_for_whoever_looks():
    assert names(ClientFailureDetector(PATIENCE).observe(0, [(A, ClientRecord(3, True)), (B, ClientRecord(3))])) == [A]


def test_a_row_is_made_by_the_first_session_and_beats_count_only_for_those(space):
    assert space.raw(lambda txn: list_clients(txn, None, 10)) == []
    assert space.raw(lambda txn: record_heartbeats(txn, [space.client, space.other])) == 0
    space.do(open_file, PathRef(path="f"), write=True, create=True)
    space.do(open_file, PathRef(path="f"), write=True)
    assert space.raw(lambda txn: list_clients(txn, None, 10)) == [(space.client, ClientRecord(1))]
    assert space.raw(lambda txn: record_heartbeats(txn, [space.client, space.other])) == 1
    assert space.raw(lambda txn: list_clients(txn, None, 10)) == [(space.client, ClientRecord(2))]


@pytest.mark.parametrize("sign", ["beat", "open", "revive"])
def test_a_sign_of_life_takes_the_mark_away(space, sign):
    opened = space.do(open_file, PathRef(path="f"), write=True, create=True)
    ((client, life),) = space.raw(lambda txn: list_clients(txn, None, 10))
    assert not space.raw(lambda txn: presume_dead(txn, client, ClientRecord(5)))
    assert space.raw(lambda txn: presume_dead(txn, client, life))
    assert space.raw(lambda txn: is_presumed_dead(txn, client, life.heartbeats))
    if sign == "beat":
        space.raw(lambda txn: record_heartbeats(txn, [client]))
    elif sign == "open":
        space.do(open_file, PathRef(path="f"), write=True)
    else:
        (session,) = space.raw(lambda txn: list_sessions(txn, None, 10))
        assert space.do(prune, session, None)
        space.do(find_or_revive, opened.inode.id, opened.session)
    assert not space.raw(lambda txn: is_presumed_dead(txn, client, life.heartbeats))
    assert not space.raw(lambda txn: forget_client(txn, client, life.heartbeats))


def dead_writer(space, path="f", **options):
    opened = space.do(open_file, PathRef(path=path), write=True, create=True, **options)
    session = next(each for each in space.raw(lambda txn: list_sessions(txn, None, 100)) if each.id == opened.session)
    return opened, session


def test_a_pruned_session_gives_the_file_the_length_that_storage_has(space):
    opened, session = dead_writer(space)
    after = space.do(prune, session, 4711, opened.inode.truncations)
    assert after.length == 4711
    assert space.stat("f").length == 4711
    assert space.raw(lambda txn: list_sessions(txn, None, 10)) == []
    assert space.do(prune, session, 5000, 0) is None, "it has ended already"
    assert space.problems() == []


@pytest.mark.parametrize("how", [close_file, sync])
def test_a_writer_that_was_merely_silent_has_its_later_writes_counted(space, how):
    opened, session = dead_writer(space)
    space.do(prune, session, 1000, 0)
    after = space.do(how, opened.inode.id, opened.session, length=3000, modified=True, truncations=0)
    assert after.length == 3000
    left = space.raw(lambda txn: list_sessions(txn, None, 10))
    assert [each.id for each in left] == ([] if how is close_file else [opened.session])
    assert space.problems() == []
    if how is sync:
        assert space.do(close_file, opened.inode.id, opened.session, length=4000).length == 4000
    space.refused(Code.NO_SESSION, close_file, opened.inode.id, opened.session, length=9999)


def test_what_a_silent_writer_tells_does_not_make_a_file_shorter(space):
    opened, session = dead_writer(space)
    space.do(prune, session, 3000, 0)
    assert space.do(close_file, opened.inode.id, opened.session, length=1000).length == 3000


def test_nobody_else_takes_up_a_session_that_was_ended(space):
    opened, session = dead_writer(space)
    space.do(prune, session, None, 0)
    space.refused(Code.NO_SESSION, close_file, opened.inode.id, opened.session, length=1, client=space.other)


def test_files_without_a_name_are_given_up(space):
    opened, session = dead_writer(space, path="", unnamed=True)
    space.do(prune, session, None, 0)
    with pytest.raises(MetaError, match="silent too long; its file was never named") as raised:
        space.do(close_file, opened.inode.id, opened.session, publish=PathRef(path="late"))
    assert raised.value.code is Code.NO_SESSION
    removed, session = dead_writer(space, path="r")
    space.do(remove, PathRef(path="r"), RemoveKind.FILE)
    space.do(prune, session, None, 0)
    with pytest.raises(MetaError, match="its file was removed or replaced"):
        space.do(close_file, removed.inode.id, removed.session, length=1)
    assert space.problems() == []


def test_ended_sessions_are_forgotten_after_a_while(space):
    opened, session = dead_writer(space)
    space.do(prune, session, 5, 0)
    assert space.raw(lambda txn: forget_pruned(txn, space.wall, b"", 10)) == (None, 0)
    assert space.raw(lambda txn: forget_pruned(txn, space.wall + requests_remembered_ns, b"", 10)) == (None, 1)
    space.refused(Code.NO_SESSION, close_file, opened.inode.id, opened.session, length=9)


@pytest.mark.parametrize("how", [close_file, sync])
def test_a_length_from_before_a_truncation_is_not_believed(space, how):
    opened = space.do(open_file, PathRef(path="f"), write=True, create=True)
    space.do(sync, opened.inode.id, opened.session, length=1000)
    cut = space.do(truncate, opened.inode.id, 10)
    assert cut.truncations == 1
    space.finish_trim(cut)
    with pytest.raises(LengthUnknown):
        space.do(how, opened.inode.id, opened.session, length=1000, truncations=0)
    assert space.do(sync, opened.inode.id, opened.session, length=10, truncations=0).length == 10, "nothing would rise"
    assert space.do(how, opened.inode.id, opened.session, length=1000, truncations=1).length == 1000, "it knows of it"


def test_whatever_cuts_counts(space):
    opened = space.do(open_file, PathRef(path="f"), write=True, create=True)
    assert space.do(truncate, opened.inode.id, 50).truncations == 0, "growing cuts nothing"
    assert space.do(truncate, opened.inode.id, 50).truncations == 1, "there may be bytes behind it that nobody has told of"
    assert space.do(truncate, opened.inode.id, 49).truncations == 2


def test_a_dead_writers_length_from_before_a_truncation_is_not_believed(space):
    opened, session = dead_writer(space)
    space.do(sync, opened.inode.id, opened.session, length=1000)
    space.finish_trim(space.do(truncate, opened.inode.id, 10))
    with pytest.raises(LengthUnknown):
        space.do(prune, session, 1000, 0)
    assert space.do(prune, session, 10, 1).length == 10


def owner(space):
    return space.raw(lambda txn: find_owner(txn, space.client))


def test_a_client_is_its_owners_until_it_is_forgotten(space):
    assert owner(space) == ""
    space.owner = "ann"
    opened = space.do(open_file, PathRef(path="f"), write=True, create=True)
    assert owner(space) == "ann"
    space.owner = "bob"
    refusal = space.refused(Code.PERMISSION, open_file, PathRef(path="f"), write=True)
    assert space.client.hex() in str(refusal)
    # What is noted of it in between does not say whose it is, and takes nothing away.
    space.raw(lambda txn: record_heartbeats(txn, [space.client]))
    ((client, life),) = space.raw(lambda txn: list_clients(txn, None, 10))
    assert life == ClientRecord(2, owner="ann")
    assert space.raw(lambda txn: presume_dead(txn, client, life))
    space.refused(Code.PERMISSION, open_file, PathRef(path="f"), write=True)
    (session,) = space.raw(lambda txn: list_sessions(txn, None, 10))
    assert session.id == opened.session
    space.do(prune, session, None)
    assert space.raw(lambda txn: forget_client(txn, client, life.heartbeats))
    assert owner(space) == ""
    space.do(open_file, PathRef(path="f"), write=True)
    assert owner(space) == "bob"


def test_a_client_from_before_there_was_security_is_the_first_ones(space):
    space.do(open_file, PathRef(path="f"), write=True, create=True)
    assert owner(space) == ""
    space.owner = "ann"
    space.do(open_file, PathRef(path="f"), write=True)
    assert owner(space) == "ann"
    space.owner = ""
    space.do(open_file, PathRef(path="f"), write=True)
    assert owner(space) == "ann", "in a cluster that is open again, everything is everybody's, and nothing is forgotten"
