"""Inodes, directory entries, layouts and sessions."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import msgspec

from fs3.base.ids import ChainId, ClientId, InodeId, SessionId, TableId
from fs3.base.names import to_text


class InodeType(IntEnum):
    """Numbers as on the wire and in rows."""

    FILE = 1
    DIRECTORY = 2
    SYMLINK = 3
    FIFO = 4
    SOCKET = 5
    BLOCK_DEVICE = 6
    CHARACTER_DEVICE = 7
    OTHER = 255
    """What a newer service has and this software does not know. In answers only: no row says so."""


DEVICES: Final = frozenset((InodeType.BLOCK_DEVICE, InodeType.CHARACTER_DEVICE))
"""They have a device number, `Inode.rdev`."""
SPECIAL_FILES: Final = DEVICES | {InodeType.FIFO, InodeType.SOCKET}
"""They have no bytes: the kernel of the machine that has the file system mounted opens them."""


class Layout(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How the bytes of a file map to chunks: chunk i is on chains[i % len(chains)]. Immutable once a file has it.

    Of a directory: what its new files get; `chains` is empty and 0 means "inherit" or, at the root, the cluster's default.
    """

    table: TableId
    chunk_size: int
    stripe: int
    chains: tuple[ChainId, ...] = ()


NO_LAYOUT = Layout(TableId(0), 0, 0)
"""Of symlinks, and of directories that leave everything to the cluster's defaults."""

MODE_BITS: Final = 0o7777
"""Permissions, set-user-id, set-group-id and sticky: all that a mode may have."""


class Trim(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The part of a truncation that is still to be done: chunks may hold bytes behind `start` that are from before it."""

    serial: int
    """`Inode.truncations` with this truncation counted."""
    start: int
    """Bytes: where the file ended when it was truncated."""


class AppendTurn(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who may write behind the end of a file, so that it becomes longer by what was appended and by nothing else."""

    serial: int
    """Of the turns on this file; it orders the updates of chunks that appenders send."""
    session: SessionId
    """The appender's."""
    renewals: int = 0
    """How often its holder said that it goes on."""


class Grants(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Extended attributes that give rights, as the kernel writes each; b"": there is none. The service acts on them, so they are
    a part of the inode; all others are rows beside it."""

    access_acl: bytes = b""
    default_acl: bytes = b""
    """Directories: what is created in them gets it."""
    capability: bytes = b""


class Inode(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One row of the inode table. New fields go at the end with a default, so that older rows stay readable."""

    id: InodeId
    type: InodeType
    mode: int
    uid: int
    gid: int
    nlink: int
    length: int
    """Files: bytes. Symlinks: bytes of the target. Directories: number of entries."""
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    birth_ns: int
    change: int
    """Rises with every change of content or attributes."""
    parent: InodeId
    """Directories: the directory they are in. Else 0."""
    layout: Layout
    target: str = ""
    """Symlinks: what they point to, if that is UTF-8; see `link_target`."""
    dirent_serial: int = 0
    """Directories: counts creations, so that new files rotate over the chains of the table."""
    truncations: int = 0
    """Files: how often what lies behind an end was cut away, whether the recorded length shrank or not. A length that a writer
    was acknowledged before says nothing afterwards."""
    trim: Trim | None = None
    """Files: the newest truncation, until storage has cut all chunks. Meanwhile the length may not grow."""
    append: AppendTurn | None = None
    """Files: the append that is under way. Whatever moves the end takes the turn away."""
    appends: int = 0
    """Files: turns that were given so far."""
    content: InodeId = InodeId(0)
    """Files: which bytes they have, 0 those of their own id; see `content_id`."""
    inline: bool = False
    """Files: the bytes are a row beside this one, and no chunk has any of them. See `fs3.core.meta.inline`."""
    moving: bool = False
    """Inline files: storage gets the bytes at this moment, and meanwhile they do not change."""
    rdev: int = 0
    """Devices: which one, as `os.makedev` makes the number."""
    raw_target: bytes = b""
    """Symlinks: what they point to, if that is not UTF-8."""
    xattr_bytes: int = 0
    """Names and values of all extended attributes, those of `grants` among them; 0: it has none."""
    grants: Grants | None = None
    """Known to services; clients ask for the attributes by their names."""
    queued_ns: int | None = None
    """Files without a name: since when they wait to be reclaimed, which names the row of the queue. None: they do not, or older
    software has queued them."""
    mtime_set_ns: int = 0
    """Files: the service's wall clock when `mtime_ns` was set by a request for just that; 0: it never was."""
    has_holes: bool = False
    """Files: there may be holes before the end, so that only storage knows how many bytes are stored. Files from before there was
    this field do not say."""

    @property
    def content_id(self) -> InodeId:
        """Names the bytes of a file: its chunks, its sessions and its appends. It is drawn like an inode id and never used again.
        Publishing a file over another one gives the inode that is there the new bytes, so the two may differ."""
        return self.content or self.id

    @property
    def link_target(self) -> str:
        """Symlinks: what they point to. Bytes that are not UTF-8 are surrogates in it (`fs3.base.names`)."""
        return to_text(self.raw_target) if self.raw_target else self.target


class Dirent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """(parent, name) -> inode."""

    inode: InodeId
    type: InodeType


class FileSession(msgspec.Struct, frozen=True, array_like=True):
    """A writer's open of a file: of the bytes that it has then, which another file may take the place of. Or a reader's, of bytes
    that have no name any more."""

    id: SessionId
    content: InodeId
    client: ClientId
    opened_ns: int
    unnamed: bool = False
    """The file has no name yet; closing the session publishes or discards it."""
    parent: InodeId = InodeId(0)
    """Unnamed: the directory it was created for."""
    append: bool = False
    """It appends, and what it was acknowledged is published already: storage may have more, which counts for nothing."""
    reader: bool = False
    """It only keeps the bytes from being reclaimed."""


class User(msgspec.Struct, frozen=True):
    """Who asks."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
