"""What a client drops by itself when a change of its own is answered."""

from __future__ import annotations

from typing import Any

import pytest

from fs3.base.ids import ROOT_INODE, InodeId, SessionId
from fs3.model.inode import NO_LAYOUT, Inode, InodeType
from fs3.model.namespace import OpenResult, PathRef, RemoveKind
from fs3.model.remembered import inodes_dropped
from fs3.model.requests import Close, Link, Open, Put, Remove, Rename, Request, SetAttributes, Truncate

FILE = Inode(InodeId(5), InodeType.FILE, 0o644, 0, 0, 1, 0, 0, 0, 0, 0, 7, InodeId(0), NO_LAYOUT)
HERE = PathRef(InodeId(5), "")
NAME = PathRef(InodeId(8), "name")


@pytest.mark.parametrize(
    ("request_", "answer", "dropped"),
    [
        (Open(NAME, write=True, create=True), OpenResult(FILE, SessionId(1)), {8, 5}),
        (Put(HERE, b"", change=7), FILE, {5}),
        (Put(PathRef(ROOT_INODE, "name"), b""), FILE, {ROOT_INODE, 5}),
        (SetAttributes(HERE, mode=0), FILE, {5}),
        (Truncate(InodeId(4), 0), FILE, {5}),
        (Close(InodeId(4), SessionId(1)), FILE, {5}),
        (Close(InodeId(4), SessionId(1), publish=NAME), FILE, {8, 5}),
        (Rename(NAME, PathRef(InodeId(9), "other")), FILE, {8, 9, 5}),
        (Link(HERE, NAME), FILE, {8, 5}),
        (Remove(NAME, RemoveKind.FILE), None, {8}),
        (Remove(NAME, RemoveKind.TREE), None, None),
        (SetAttributes(PathRef.of("/a/b"), mode=0), FILE, None),
        (Open(PathRef(InodeId(8), ".."), write=True), OpenResult(FILE, SessionId(1)), None),
    ],
)
def test_what_the_request_names_and_the_answer_has(request_: Request[Any], answer: Any, dropped: set[int] | None) -> None:
    assert inodes_dropped(request_, answer) == dropped
