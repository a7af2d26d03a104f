"""Which metadata service a request is best sent to, where several write to one remote engine.

Transactions of two services meet only when they commit; two that change one directory at the same time make one of them run
again. So each directory has an owner among the services, by rendezvous hashing, and clients send what is about its entries there.
That is a hint: any service answers any request, and clients that name one directory in different ways may choose differently.
"""

from __future__ import annotations

from typing import Any

from fs3.base.checksum import crc32c
from fs3.base.ids import ROOT_INODE, SessionId
from fs3.base.names import to_bytes
from fs3.base.prng import Prng
from fs3.model.lock import GetLock, Lock
from fs3.model.namespace import PathRef
from fs3.model.requests import Append, BatchStat, Close, Hold, Link, List, Open, PathRequest, Rename, Request, Sync, Truncate
from fs3.model.routing import Node

Directory = tuple[int, str]
"""The inode a path starts at, and the path of the directory below it."""


def directory_of(request: Request[Any]) -> Directory | None:
    """The directory that a request changes or looks into; None when it does not say."""
    match request:
        case List(path=path) | Open(unnamed=True, path=path):
            return _start(path), path.path.strip("/")
        case PathRequest(path=path) | Rename(source=path) | Link(target=path) | Close(publish=PathRef() as path):
            return _start(path), path.path.strip("/").rpartition("/")[0]
        case BatchStat(parent=parent, paths=[first, *_]):
            return parent or ROOT_INODE, first.strip("/").rpartition("/")[0]
        case Close(content=content) | Sync(content=content) | Append(content=content):
            return content, ""
        case Truncate(content=inode) | Hold(content=inode) | Lock(inode=inode) | GetLock(inode=inode):
            return (inode, "") if inode else None
    return None


def _start(path: PathRef) -> int:
    return path.parent or ROOT_INODE


def session_of(request: Request[Any]) -> SessionId | None:
    """The write session that a request is about: it is best sent to where that was opened."""
    return request.session if isinstance(request, Close | Sync | Append) else None


def rank_owner(directory: Directory, node: Node) -> int:
    """The node of the highest rank owns a directory: one that comes or goes takes over, or leaves, its own share only."""
    start, path = directory
    return Prng(crc32c(to_bytes(path), crc32c(start.to_bytes(8, "big"))) << 32 | node.id).next()
