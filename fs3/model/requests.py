"""One request to the metadata service as a record, so that requests can be put in a list and sent as one batch.

A record is a `Request` of what it is answered with: `Rename` is a `Request[Inode]`. It says as well whether it changes anything,
and which path its errors are about. Its fields and their defaults are spelled here, once for clients, wire and operations;
`fs3.core.meta.operations` has the operation of each.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar, Final, Generic, TypeVar

import msgspec

from fs3.base.ids import ClientId, InodeId, SessionId
from fs3.base.status import Code
from fs3.model.check import CheckPage, Inspection, Problem, RepairResult, RowTable
from fs3.model.inode import Dirent, Inode, InodeType, Layout, User
from fs3.model.namespace import FileSystemSpace, Listing, OpenResult, PathRef, RemoveKind, RenameMode

TIME_NOW: Final = -(1 << 63)
"""As a time: the server's clock. A writer of the file may set it so without owning the file (UTIME_NOW)."""

R = TypeVar("R")


class Caller(msgspec.Struct, frozen=True):
    """Who sends a request, and which of its requests it is."""

    client: ClientId
    user: User
    """Whom permissions are checked for."""
    request_seq: int = 0
    """With `client` it names a request that changes something, for ever. 0: nothing has to be remembered."""
    repeated: bool = False
    """The client has sent this request before, and that sending may still arrive somewhere."""
    open_contents: tuple[InodeId, ...] = ()
    """What the client has open for reading, with a request that may take the last name of a content."""
    owner: str = ""
    """Whose the client is, as its connection has proved; never what a request says. "": in a cluster without security."""


class Request(msgspec.Struct, Generic[R], frozen=True):
    """Any of the records below; `R` is what it is answered with."""

    mutates: ClassVar[bool] = True
    """It changes the namespace, so it carries a number by which a repetition is recognised."""

    @property
    def may_give_up(self) -> bool:
        """It may take the last name of a file, or of its bytes."""
        return False

    may_use_reserve: ClassVar[bool] = False
    """It removes more than it adds, so on a full disk it may use what the store has in reserve."""

    @property
    def error_path(self) -> str:
        """The path an error of this request is about; empty when it names an inode by its id."""
        return ""


class PathRequest(Request[R], Generic[R], frozen=True):
    """A request about what a path names."""

    path: PathRef

    @property
    def error_path(self) -> str:
        return self.path.path


class Lookup(PathRequest[Dirent], frozen=True):
    """Inode id and type of a directory entry, a symlink in the last component not followed."""

    mutates: ClassVar[bool] = False


class Stat(PathRequest[Inode], frozen=True):
    """Attributes and layout."""

    mutates: ClassVar[bool] = False
    follow: bool = True
    """Follow a symlink in the last component."""


class List(PathRequest[Listing], frozen=True):
    """One page of a directory, in name order; a page may end early, `Listing.more` says whether."""

    mutates: ClassVar[bool] = False
    after: str = ""
    """Continue behind this name."""
    limit: int = 0
    """At most this many entries; 0: as many as one page may have."""
    with_inodes: bool = False
    raw_names: bool = True
    """The caller takes names that are not UTF-8."""


class Open(PathRequest[OpenResult], frozen=True):
    """Open a file, or create it. See `fs3.core.meta.ops.open`."""

    write: bool = False
    create: bool = False
    exclusive: bool = False
    truncate: bool = False
    unnamed: bool = False
    """Create a file that gets its name when it is closed, below the directory `path`."""
    mode: int = 0o644
    layout: Layout | None = None
    """Of a new file; fields of 0 are inherited."""
    append: bool = False
    """With `write`: the session appends, and does nothing else."""
    want_data: bool = False
    """Of an inline file that is opened for reading: its bytes come with the answer."""
    parents_mode: int | None = None
    """With `create`: missing directories above the file are made with this mode (`unnamed`: `path`, and those above). None: they
    are not."""
    umask: int = 0
    """Taken off both modes, unless the directory has a default ACL, which then says what may be had."""

    @property
    def mutates(self) -> bool:  # type: ignore[override]
        """A read open changes nothing."""
        return self.write or self.create or self.truncate or self.unnamed

    @property
    def may_give_up(self) -> bool:
        return self.truncate

    @property
    def may_use_reserve(self) -> bool:  # type: ignore[override]
        """A file is opened for writing before it is cut by its path; the session goes again."""
        return self.write and not self.create and not self.unnamed


class Put(PathRequest[Inode], frozen=True):
    """Create a small file with all its bytes, or give them to the file that has the name. See `fs3.core.meta.ops.put`."""

    data: bytes
    mode: int = 0o644
    layout: Layout | None = None
    """Of a new file, once it has grown; fields of 0 are inherited."""
    exclusive: bool = False
    parents_mode: int | None = None
    """Missing directories are made with this mode. None: they are not."""
    change: int = 0
    """Of a file that is named by its inode alone: it is still inline, and at this `Inode.change`. 0: however it is."""
    umask: int = 0
    """As in `Open`."""

    @property
    def may_give_up(self) -> bool:
        return not self.exclusive


class Close(Request[Inode], frozen=True):
    """End a write session; publish an unnamed file."""

    content: InodeId
    """`Inode.content_id` of the file as the session was opened on it."""
    session: SessionId
    length: int | None = None
    """Largest end offset the writer had acknowledged."""
    modified: bool = False
    publish: PathRef | None = None
    """Unnamed files: the name; None discards the file."""
    exclusive: bool = False
    discard: bool = False
    truncations: int | None = None
    """Of the inode as the writer was answered last: a length from before another client made the file shorter then counts only as
    far as storage has the bytes. None: the writer does not care."""
    parents_mode: int | None = None
    """With `publish`: missing directories are made with this mode. None: they are not."""
    keep_mtime: bool = False
    """The writer set the mtime after what it wrote, so it stays."""
    umask: int = 0
    """As in `Open`."""
    written_ago_ns: int | None = None
    """From the end of the writer's last write to this request: an mtime that was set since then, by any client, stays. None: it
    does not."""
    leaves_holes: bool = False
    """There may be a hole before the end, which was none when the writer told of its writes last."""

    @property
    def may_give_up(self) -> bool:
        return self.publish is not None

    @property
    def may_use_reserve(self) -> bool:  # type: ignore[override]
        """The session goes. A file that gets a name is one more."""
        return self.publish is None

    @property
    def error_path(self) -> str:
        return self.publish.path if self.publish else ""


class Sync(Request[Inode], frozen=True):
    """Publish length and times of a file that stays open; fields as in `Close`."""

    content: InodeId
    session: SessionId
    length: int | None = None
    modified: bool = False
    truncations: int | None = None
    keep_mtime: bool = False
    written_ago_ns: int | None = None
    leaves_holes: bool = False


class AppendStep(IntEnum):
    """What an appender wants. Numbers as on the wire."""

    TAKE = 1
    """The turn: the answer's `length` is where the bytes go, its `append.serial` names the turn."""
    RENEW = 2
    """The turn is used still."""
    PUBLISH = 3
    """The bytes are durable: the file becomes longer by them, and the turn ends."""
    GIVE_UP = 4
    """The turn ends without them."""
    INLINE = 5
    """No turn: the bytes are in the request, and are appended to a file that is inline and stays so."""


class Append(Request[Inode], frozen=True):
    """A step of an append. See `fs3.core.meta.ops.append`."""

    content: InodeId
    session: SessionId
    step: AppendStep
    serial: int = 0
    """The caller's turn. TAKE: the turn of another one that was silent for long, and may be taken over; 0: none."""
    renewals: int = 0
    """TAKE: of that turn, as the caller saw them last."""
    length: int = 0
    """PUBLISH: where the file ends then."""
    data: bytes = b""
    """INLINE: the bytes."""
    unnamed: bool = False
    """Also to a file that has no name (any more)."""


class Hold(Request[OpenResult], frozen=True):
    """Keep a content that the client reads and that has no name any more. See `fs3.core.meta.ops.hold`."""

    content: InodeId


class Mkdir(PathRequest[Inode], frozen=True):
    """Create a directory."""

    mode: int = 0o755
    parents: bool = False
    """Create missing parents, and be content with an existing directory."""
    layout: Layout | None = None
    """What files below get; fields of 0 are inherited."""
    parents_mode: int | None = None
    """Without `parents`: missing directories above are made with this mode. None: they are not."""
    umask: int = 0
    """As in `Open`."""


class Remove(PathRequest[InodeId], frozen=True):
    """Remove a file, an empty directory or a tree; the answer is the id of what had the name."""

    may_use_reserve: ClassVar[bool] = True
    kind: RemoveKind = RemoveKind.FILE

    @property
    def may_give_up(self) -> bool:
        return True


class Rename(Request[Inode], frozen=True):
    """Move an entry; the answer is what was moved."""

    source: PathRef
    target: PathRef
    mode: RenameMode = RenameMode.REPLACE
    parents_mode: int | None = None
    """Missing directories above the target are made with this mode. None: they are not."""
    umask: int = 0
    """As in `Open`."""

    @property
    def may_give_up(self) -> bool:
        return self.mode is RenameMode.REPLACE

    @property
    def error_path(self) -> str:
        return self.source.path


class Symlink(PathRequest[Inode], frozen=True):
    """Create a symbolic link at `path` that says `target`."""

    target: str


class Mknod(PathRequest[Inode], frozen=True):
    """Create a special file, or an empty regular one, without opening it."""

    type: InodeType
    mode: int = 0o644
    rdev: int = 0
    """Devices: which one."""
    umask: int = 0
    """As in `Open`."""


class Link(Request[Inode], frozen=True):
    """Make `target` another name of the file `source`."""

    source: PathRef
    target: PathRef
    session: SessionId = SessionId(0)
    """With the inode id of a file that was created without a name as `source`: the session that it was created with. 0: the file
    has a name."""

    @property
    def error_path(self) -> str:
        return self.target.path


class SetAttributes(PathRequest[Inode], frozen=True):
    """Change attributes; what is None stays."""

    follow: bool = True
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    atime_ns: int | None = None
    """`TIME_NOW`: the server's clock."""
    mtime_ns: int | None = None
    layout: Layout | None = None
    """Directories: what files created below from now on get."""
    accessed: bool = False
    """Nothing else is asked for: the content was read, and atime becomes the server's clock when it is due. See
    `fs3.core.meta.access_time`."""


class XattrMode(IntEnum):
    """What may be there when an extended attribute is set. Numbers as on the wire, and as in setxattr(2)."""

    SET = 0
    CREATE = 1
    """EXISTS when it is there."""
    REPLACE = 2
    """NO_ATTRIBUTE when it is not."""


class SetXattr(PathRequest[Inode], frozen=True):
    """Set an extended attribute. See `fs3.core.meta.ops.set_xattr`."""

    name: bytes
    """With its namespace: b"user.color"."""
    value: bytes
    mode: XattrMode = XattrMode.SET
    follow: bool = True


class GetXattr(PathRequest[bytes], frozen=True):
    """The value of an extended attribute; NO_ATTRIBUTE when there is none of that name."""

    mutates: ClassVar[bool] = False
    name: bytes
    follow: bool = True


class ListXattr(PathRequest[list[bytes]], frozen=True):
    """The names of all extended attributes that the caller may know of."""

    mutates: ClassVar[bool] = False
    follow: bool = True


class RemoveXattr(PathRequest[Inode], frozen=True):
    """Remove an extended attribute; NO_ATTRIBUTE when there is none of that name."""

    may_use_reserve: ClassVar[bool] = True
    name: bytes
    follow: bool = True


class Truncate(Request[Inode], frozen=True):
    """Set the length of a file that has this content. It is answered when the chunks beyond it are cut."""

    may_use_reserve: ClassVar[bool] = True
    content: InodeId
    length: int


# --- many, or all ----------------------------------------------------------------------------------------------------


class BatchStat(Request[list[Inode | Code]], frozen=True):
    """Per path below one directory its inode, or why there is none. A reply that is full answers the first paths only."""

    mutates: ClassVar[bool] = False
    parent: InodeId
    paths: list[str]
    follow: bool = True

    @property
    def error_path(self) -> str:
        return self.paths[0] if self.paths else ""


class StatFs(Request[FileSystemSpace], frozen=True):
    """Space and inode counts."""

    mutates: ClassVar[bool] = False


class KeepAlive(Request[list[InodeId]], frozen=True):
    """The client is still there: it has open sessions, or reads files. The answer: which of these contents have no name any
    more."""

    mutates: ClassVar[bool] = False
    open_contents: tuple[InodeId, ...] = ()
    """What it reads, at most `open_contents_per_request_max`."""


# --- of administrators: root and the owner of the root directory -----------------------------------------------------


class CheckRows(Request[CheckPage], frozen=True):
    """A look at some rows of a table, from the key `begin` on; empty: from the first one."""

    mutates: ClassVar[bool] = False
    table: RowTable
    begin: bytes = b""


class InspectInodes(Request[Inspection], frozen=True):
    """Facts about inodes as they are now."""

    mutates: ClassVar[bool] = False
    inodes: list[int]
    """At most `inspect_inodes_max`."""
    contents: bool = False
    """The ids are those of contents: what is asked for are the inodes that have them."""


class Repair(Request[RepairResult], frozen=True):
    """Repair one problem of the namespace, if it is still one."""

    may_use_reserve: ClassVar[bool] = True
    problem: Problem
