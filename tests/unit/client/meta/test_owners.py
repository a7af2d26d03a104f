"""Which directory a request is about, and which service has it."""

from __future__ import annotations

from collections import Counter

import pytest

from fs3.base.ids import InodeId, NodeId, SessionId
from fs3.client.meta.owners import directory_of, rank_owner, session_of
from fs3.model.lock import Lock, LockStep
from fs3.model.namespace import PathRef, RemoveKind
from fs3.model.requests import (
    Append,
    AppendStep,
    BatchStat,
    Close,
    KeepAlive,
    Link,
    List,
    Lookup,
    Mkdir,
    Open,
    Put,
    Remove,
    Rename,
    Stat,
    StatFs,
)
from fs3.model.routing import Node, Role

ENTRY = PathRef.of("/a/b/name")
SESSION, CONTENT = SessionId(5), InodeId(9)


@pytest.mark.parametrize(
    ("request_", "directory"),
    [
        (Open(ENTRY, create=True, write=True), (1, "a/b")),
        (Put(PathRef.of("a/b/name/"), b""), (1, "a/b")),
        (Mkdir(ENTRY), (1, "a/b")),
        (Stat(ENTRY), (1, "a/b")),
        (Stat(PathRef.of("/")), (1, "")),
        (Remove(PathRef(InodeId(0), "x"), RemoveKind.FILE), (1, "")),
        (Lookup(PathRef(InodeId(7), "x")), (7, "")),
        (Stat(PathRef(InodeId(7))), (7, "")),
        (List(PathRef.of("/a/b/")), (1, "a/b")),
        (Open(PathRef.of("/a/b"), write=True, unnamed=True), (1, "a/b")),
        (Rename(ENTRY, PathRef.of("/c/name")), (1, "a/b")),
        (Link(PathRef.of("/c/name"), ENTRY), (1, "a/b")),
        (BatchStat(InodeId(1), ["a/b/name", "c"]), (1, "a/b")),
        (Close(CONTENT, SESSION, publish=ENTRY), (1, "a/b")),
        (Close(CONTENT, SESSION), (9, "")),
        (Lock(CONTENT, LockStep.RELEASE_CLIENT), (9, "")),
        (Lock(InodeId(0), LockStep.RELEASE_CLIENT), None),
        (BatchStat(InodeId(1), []), None),
        (KeepAlive(), None),
        (StatFs(), None),
    ],
)
def test_the_directory_of_a_request(request_, directory):
    assert directory_of(request_) == directory


def test_what_belongs_to_a_session():
    assert session_of(Append(CONTENT, SESSION, AppendStep.TAKE)) == SESSION
    assert session_of(Stat(ENTRY)) is None


def nodes(*ids):
    return [Node(NodeId(each), f"meta-{each}", Role.META, (), "h", 1, alive=True) for each in ids]


def owner(directory, among):
    return max(among, key=lambda node: rank_owner(directory, node)).id


def test_each_service_owns_its_share_and_loses_nothing_to_those_that_stay():
    directories = [(1, f"data/{number}") for number in range(3000)] + [(number, "") for number in range(3000)]
    four, three = nodes(1, 2, 3, 4), nodes(1, 2, 4)
    owned = Counter(owner(each, four) for each in directories)
    assert min(owned.values()) > 0.85 * 1500
    for each in directories:
        before = owner(each, four)
        assert before == 3 or owner(each, three) == before
