"""What callers of the namespace say and are told: paths, kinds of removal and renaming, listings."""

from __future__ import annotations

from enum import IntEnum

import msgspec

from fs3.base.ids import ROOT_INODE, InodeId, SessionId
from fs3.model.inode import Inode, InodeType


class PathRef(msgspec.Struct, frozen=True):
    """Names an inode: a starting inode and a slash-separated path below it.

    "." and empty components are skipped, ".." goes to the parent and stops at the root. An empty path is the starting inode
    itself, which only then may be something else than a directory. A trailing slash says "and it must be a directory". Names
    are bytes; those that are not UTF-8 are surrogates in the text (`fs3.base.names`).
    """

    parent: InodeId = ROOT_INODE
    """0 means the root as well."""
    path: str = ""

    @classmethod
    def of(cls, path: str | PathRef) -> PathRef:
        """A text is a path below the root."""
        return cls(ROOT_INODE, path) if isinstance(path, str) else path


class RemoveKind(IntEnum):
    """What a removal may remove. Numbers as on the wire."""

    FILE = 0
    """Anything but a directory."""
    DIRECTORY = 1
    """An empty directory."""
    TREE = 2
    """Whatever is there, with all below it."""


class RenameMode(IntEnum):
    """What a rename does about its target. Numbers as on the wire."""

    REPLACE = 0
    NOREPLACE = 1
    EXCHANGE = 2


class OpenResult(msgspec.Struct, frozen=True, array_like=True):
    """The answer to an open."""

    inode: Inode
    session: SessionId
    """The write session; 0 for a read open."""
    data: bytes | None = None
    """The bytes of an inline file, when they were asked for."""
    capability: bytes = b""
    """For storage nodes (`fs3.core.security.capability`). Added when it is answered, and never stored."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One entry of a listing."""

    name: str
    inode_id: InodeId
    type: InodeType
    inode: Inode | None = None
    """When asked for."""


class Listing(msgspec.Struct, frozen=True):
    """One page of a directory, in the order of the names' bytes."""

    entries: list[Entry]
    more: bool
    """There are further entries; continue after the last name."""


class Counts(msgspec.Struct, frozen=True):
    """How much the namespace holds."""

    inodes: int
    garbage: int
    """Files whose chunks wait to be reclaimed, and removed directories that wait to be dismantled."""


class FileSystemSpace(msgspec.Struct, frozen=True):
    """The answer to statfs."""

    total_bytes: int
    free_bytes: int
    inodes: int
    garbage: int
    """Files whose chunks wait to be reclaimed, removed directories that wait to be dismantled."""
