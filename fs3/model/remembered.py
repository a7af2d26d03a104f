"""Which answers a client may remember, which inodes they are about, and what it drops: rules of both client and service."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from fs3.base.ids import ROOT_INODE, InodeId
from fs3.model.inode import Inode
from fs3.model.namespace import Listing, OpenResult, PathRef, RemoveKind
from fs3.model.requests import List, Remove, Request, Stat

REMEMBERED: Final = (Stat, List)
"""Requests whose answers may be remembered."""


def name_of(path: str) -> str | None:
    """The name, where a path is one name in its directory; "" where it is the directory itself; None for any other path."""
    return None if "/" in path or path in (".", "..") else path


def directory_of(path: PathRef) -> InodeId:
    """Where a path starts."""
    return path.parent or ROOT_INODE


def inodes_told(request: Request[Any], answer: Any) -> Iterable[InodeId]:
    """What the client is told of. The change of one of these is what makes the answer another one. Empty: nothing that may be
    remembered."""
    if isinstance(request, Stat):
        name = name_of(request.path.path)
        if name is None or request.follow:
            return ()
        return (answer.id, directory_of(request.path)) if name else (answer.id,)
    if isinstance(request, List) and isinstance(answer, Listing) and request.with_inodes and not request.path.path:
        return (directory_of(request.path), *(entry.inode_id for entry in answer.entries))
    return ()


def paths_of(request: Request[Any]) -> Iterable[PathRef]:
    """The paths that a request names."""
    return (value for name in request.__struct_fields__ if isinstance(value := getattr(request, name), PathRef))


def inodes_dropped(request: Request[Any], answer: Any) -> set[InodeId] | None:
    """What the client that asked for a change drops by itself when it is answered, and need not hear of soon; None: everything.
    What else a change concerns the client may know by numbers that the request does not name."""
    if isinstance(request, Remove) and request.kind is RemoveKind.TREE:
        return None
    dropped = set()
    for path in paths_of(request):
        if path.path and not name_of(path.path):
            return None
        dropped.add(directory_of(path))
    inode = answer.inode if isinstance(answer, OpenResult) else answer
    if isinstance(inode, Inode):
        dropped.add(inode.id)
    return dropped
