"""Which answers a client may remember, and which inodes they are about: client and service go by the same rule."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from fs3.base.ids import ROOT_INODE, InodeId
from fs3.model.namespace import Listing, PathRef
from fs3.model.requests import List, Request, Stat

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
