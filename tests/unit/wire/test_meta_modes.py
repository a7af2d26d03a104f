"""Modes of new files and directories on the wire: services that know nothing of default ACLs go by what they always went by."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs3.base.errors import InvalidArgument
from fs3.model.inode import User
from fs3.model.namespace import PathRef
from fs3.model.requests import Close, Mkdir, Open, Put, Rename, SetXattr
from fs3.wire.meta import caller_to_pb
from fs3.wire.meta_verbs import verb_of
from fs3.wire.pb import meta_pb2 as pb

MODE = st.integers(0, 0o7777)
UMASK = st.integers(0, 0o777)
PATH = PathRef(path="a/b")
CALLER = caller_to_pb(b"sixteen bytes id", User(1, 2))


def sent(request):
    verb = verb_of(request)
    return verb, verb.method.request.FromString(verb.request_to_pb(request, CALLER, 1).SerializeToString())


@given(MODE, st.none() | MODE, UMASK, st.sampled_from([Open, Put, Mkdir]))
def test_both_modes_travel_with_the_umask_taken_off_and_come_whole(mode, parents_mode, umask, record):
    data = {"data": b""} if record is Put else {}
    verb, message = sent(record(PATH, mode=mode, parents_mode=parents_mode, umask=umask, **data))
    assert message.mode == mode & ~umask
    assert not message.HasField("parents_mode") or message.parents_mode == parents_mode & ~umask
    arrived = verb.request_from_pb(message)
    assert (arrived.mode, arrived.parents_mode) == (mode, parents_mode)
    for asked in (mode, parents_mode or 0):
        assert asked & ~arrived.umask == asked & ~umask
    assert arrived.umask & ~umask == 0


@given(MODE, UMASK)
def test_modes_of_directories_on_the_way_come_whole(parents_mode, umask):
    for request in (
        Close(5, 6, publish=PATH, parents_mode=parents_mode, umask=umask),
        Rename(PATH, PATH, parents_mode=parents_mode, umask=umask),
    ):
        verb, message = sent(request)
        assert message.parents_mode == parents_mode & ~umask
        arrived = verb.request_from_pb(message)
        assert arrived.parents_mode == parents_mode
        assert parents_mode & ~arrived.umask == parents_mode & ~umask


def test_what_an_older_client_sends_is_taken_as_it_is():
    arrived = verb_of(Mkdir(PATH)).request_from_pb(pb.MkdirRequest(mode=0o750, parents_mode=0o700))
    assert (arrived.mode, arrived.parents_mode, arrived.umask) == (0o750, 0o700, 0)


def test_bits_that_no_mode_has_are_refused():
    for message in (
        pb.MkdirRequest(mode=0o755, mode_masked=1 << 14),
        pb.MkdirRequest(parents_mode=0, parents_mode_masked=1 << 20),
    ):
        with pytest.raises(InvalidArgument, match="permission bits"):
            verb_of(Mkdir(PATH)).request_from_pb(message)


def test_an_unknown_way_to_set_an_attribute_is_refused():
    with pytest.raises(InvalidArgument, match="mode: 7"):
        verb_of(SetXattr(PATH, b"user.a", b"")).request_from_pb(pb.SetXattrRequest(mode=7))
