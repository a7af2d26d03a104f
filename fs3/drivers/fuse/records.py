"""What a file system answers, and who asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class KernelRequest(NamedTuple):
    """The header of a request."""

    opcode: int
    unique: int
    """Names the request until it is answered."""
    node: int
    """The inode it is about, or the directory of the name it is about."""
    uid: int
    gid: int
    pid: int
    """The thread that asks, as the mount's pid namespace calls it; 0 when the kernel asks on its own."""


class KernelAttributes(NamedTuple):
    """Of one inode; times in nanoseconds since the epoch."""

    ino: int
    mode: int
    """Type and permissions."""
    nlink: int = 1
    uid: int = 0
    gid: int = 0
    size: int = 0
    blocks: int = 0
    """Of 512 bytes."""
    atime_ns: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    birth_ns: int = 0
    rdev: int = 0
    block_size: int = 4096
    """What programs like to read and write at once."""


class AttributesReply(NamedTuple):
    """The answer to GETATTR and SETATTR."""

    attributes: KernelAttributes
    valid_ns: int = 0
    """How long the kernel answers from memory."""


class LookupReply(NamedTuple):
    """The answer to a look-up, and to what makes a name. Node 0: nothing has the name, which the kernel may remember."""

    node: int
    attributes: KernelAttributes
    entry_valid_ns: int = 0
    attributes_valid_ns: int = 0


NO_ENTRY = LookupReply(0, KernelAttributes(0, 0))


class Opened(NamedTuple):
    """The answer to OPEN and OPENDIR."""

    handle: int
    flags: int = 0
    """Of `OpenFlag`."""


class Created(NamedTuple):
    """The answer to CREATE."""

    entry: LookupReply
    opened: Opened


class DirectoryEntry(NamedTuple):
    """One name of a directory. `entry`: for READDIRPLUS; None: the kernel learns only name and type ("." and ".." always so)."""

    name: bytes
    ino: int
    type_bits: int
    """Of the mode."""
    next_offset: int
    """Where a listing goes on behind it."""
    entry: LookupReply | None = None


class Space(NamedTuple):
    """The answer to STATFS."""

    blocks: int
    blocks_free: int
    files: int
    files_free: int
    block_size: int
    name_bytes_max: int


class KernelLock(NamedTuple):
    """A lock on a range of bytes, or of a whole file."""

    start: int
    end: int
    """The last byte."""
    type: int
    """F_RDLCK, F_WRLCK or F_UNLCK."""
    pid: int


class Changes(NamedTuple):
    """The attributes that a SETATTR sets; None stays. Times in nanoseconds, `TIME_IS_NOW` for the clock of the file system."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None
    handle: int | None = None
    """The open file it is asked through."""
    drops_set_ids: bool = False
    """Set-user-id and set-group-id go."""


TIME_IS_NOW = -(1 << 63)


@dataclass(frozen=True, slots=True)
class MountOptions:
    """How a mount looks to the kernel."""

    source: str = "fs3"
    """Shown in the table of mounts."""
    subtype: str = "fs3"
    allow_other: bool = False
    """Other users than the one that mounts may use it."""
    read_only: bool = False
    max_read_bytes: int = 1 << 20
    root_mode: int = 0o040000


@dataclass(frozen=True, slots=True)
class InitOptions:
    """What a file system wants of the kernel; see `InitFlag`."""

    flags: int = 0
    """Asked for where the kernel has them."""
    max_write_bytes: int = 1 << 20
    max_readahead_bytes: int = 1 << 20
    max_background: int = 64
    """Requests that the kernel has under way on its own: reads ahead, and direct IO."""


@dataclass(slots=True)
class Negotiated:
    """What was agreed on."""

    major: int = 0
    minor: int = 0
    flags: int = 0
    max_write_bytes: int = 0
