"""One request to the metadata service as a record, so that requests can be put in a list and sent as one batch.

Each record says what it answers, whether it changes anything, and which path its errors are about.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from fs3.base.ids import InodeId, SessionId
from fs3.model.inode import Layout
from fs3.model.namespace import PathRef, RemoveKind, RenameMode


class Request(msgspec.Struct, frozen=True):
    """Any of the records below."""

    mutates: ClassVar[bool] = True
    """It changes the namespace, so it carries a number by which a repetition is recognised."""

    @property
    def error_path(self) -> str:
        """The path an error of this request is about; empty when it names an inode by its id."""
        return ""


class PathRequest(Request, frozen=True):
    """A request about what a path names."""

    path: PathRef

    @property
    def error_path(self) -> str:
        return self.path.path


class Lookup(PathRequest, frozen=True):
    """-> Dirent: inode id and type, a symlink in the last component not followed."""

    mutates: ClassVar[bool] = False


class Stat(PathRequest, frozen=True):
    """-> Inode."""

    mutates: ClassVar[bool] = False
    follow: bool = True
    """Follow a symlink in the last component."""


class List(PathRequest, frozen=True):
    """-> Listing: one page of a directory."""

    mutates: ClassVar[bool] = False
    after: str = ""
    """Continue behind this name."""
    limit: int = 0
    """At most this many entries; 0: as many as one page may have."""
    with_inodes: bool = False


class Open(PathRequest, frozen=True):
    """-> Opened. See `fs3.core.meta.ops.open`."""

    write: bool = False
    create: bool = False
    exclusive: bool = False
    truncate: bool = False
    unnamed: bool = False
    mode: int = 0o644
    """The client has applied its umask."""
    layout: Layout | None = None
    """Of a new file; fields of 0 are inherited."""

    @property
    def mutates(self) -> bool:  # type: ignore[override]
        """A read open changes nothing."""
        return self.write or self.create or self.truncate or self.unnamed


class Close(Request, frozen=True):
    """-> Inode. Ends a session; publishes an unnamed file."""

    inode: InodeId
    session: SessionId
    length: int | None = None
    """Largest end offset the writer had acknowledged."""
    modified: bool = False
    publish: PathRef | None = None
    """Unnamed files: the name; None discards the file."""
    exclusive: bool = False
    discard: bool = False
    truncations: int | None = None
    """Of the inode, as far as the writer knows; None when it does not care."""

    @property
    def error_path(self) -> str:
        return self.publish.path if self.publish else ""


class Sync(Request, frozen=True):
    """-> Inode. Publishes length and times of an open file."""

    inode: InodeId
    session: SessionId
    length: int | None = None
    modified: bool = False
    truncations: int | None = None


class Mkdir(PathRequest, frozen=True):
    """-> Inode."""

    mode: int = 0o755
    parents: bool = False
    """Create missing parents, and be content with an existing directory."""
    layout: Layout | None = None
    """What files below get; fields of 0 are inherited."""


class Remove(PathRequest, frozen=True):
    """-> InodeId of what had the name."""

    kind: RemoveKind = RemoveKind.FILE


class Rename(Request, frozen=True):
    """-> Inode that was moved."""

    source: PathRef
    target: PathRef
    mode: RenameMode = RenameMode.REPLACE

    @property
    def error_path(self) -> str:
        return self.source.path


class Symlink(PathRequest, frozen=True):
    """-> Inode of the link."""

    target: str


class Link(Request, frozen=True):
    """-> Inode of the file."""

    source: PathRef
    target: PathRef

    @property
    def error_path(self) -> str:
        return self.target.path


class SetAttributes(PathRequest, frozen=True):
    """-> Inode. What is None stays."""

    follow: bool = True
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    atime_ns: int | None = None
    """`fs3.core.meta.ops.setattr.TIME_NOW`: the server's clock."""
    mtime_ns: int | None = None
    layout: Layout | None = None
    """Directories: what files created below from now on get."""


class Truncate(Request, frozen=True):
    """-> Inode. The client has cut the chunks beyond the new length already."""

    inode: InodeId
    length: int


class FileSystemSpace(msgspec.Struct, frozen=True):
    """The answer to statfs."""

    total_bytes: int
    free_bytes: int
    inodes: int
    garbage: int
    """Files whose chunks wait to be reclaimed, removed directories that wait to be dismantled."""
