"""Inodes as the kernel wants them, and names as we want them."""

from __future__ import annotations

import errno
import stat

from fs3.api.fuse.options import FuseOptions, directory_valid_ns, lookup_valid_ns
from fs3.base.limits import name_bytes_max
from fs3.base.names import to_text
from fs3.base.units import KIB
from fs3.drivers.fuse.records import KernelAttributes, LookupReply
from fs3.model.inode import Inode, InodeType

preferred_io_bytes = 128 * KIB
"""What programs like `cp` and buffered readers ask for at once."""

TYPE_BITS = {
    InodeType.FILE: stat.S_IFREG,
    InodeType.DIRECTORY: stat.S_IFDIR,
    InodeType.SYMLINK: stat.S_IFLNK,
    InodeType.FIFO: stat.S_IFIFO,
    InodeType.SOCKET: stat.S_IFSOCK,
    InodeType.BLOCK_DEVICE: stat.S_IFBLK,
    InodeType.CHARACTER_DEVICE: stat.S_IFCHR,
    InodeType.OTHER: stat.S_IFREG,
}
"""Of each type. What a newer service has and this software does not know looks like a file that cannot be opened."""


def attributes_of(inode: Inode, length: int | None = None, stored: int | None = None) -> KernelAttributes:
    """All attributes; `length` where it is known better, `stored` bytes where there are holes."""
    size = inode.length if length is None else length
    return KernelAttributes(
        ino=inode.id,
        mode=TYPE_BITS[inode.type] | inode.mode,
        nlink=inode.nlink,
        uid=inode.uid,
        gid=inode.gid,
        size=size,
        blocks=-(-(size if stored is None else stored) // 512),
        atime_ns=inode.atime_ns,
        mtime_ns=inode.mtime_ns,
        ctime_ns=inode.ctime_ns,
        birth_ns=inode.birth_ns,
        rdev=inode.rdev,
        block_size=preferred_io_bytes,
    )


def valid_ns(inode: Inode, options: FuseOptions) -> int:
    """How long name and attributes may be answered from memory."""
    return options.cache_ns or (directory_valid_ns if inode.type is InodeType.DIRECTORY else 0)


def entry_of(inode: Inode, options: FuseOptions, length: int | None = None, stored: int | None = None) -> LookupReply:
    """What a look-up answers; as `attributes_of`."""
    valid = valid_ns(inode, options)
    # Where there are holes, storage knows st_blocks: a call that wants attributes asks for them, and others do not wait for it.
    valid_attributes = 0 if stored is None and has_uncounted_holes(inode) else valid or lookup_valid_ns
    return LookupReply(inode.id, attributes_of(inode, length, stored), valid, valid_attributes)


def has_uncounted_holes(inode: Inode) -> bool:
    """Only storage knows how many bytes are stored."""
    return inode.has_holes and inode.type is InodeType.FILE and not inode.inline


def text_of(name: bytes) -> str:
    """A name. ENAMETOOLONG beyond any name's length."""
    if len(name) > name_bytes_max:
        raise OSError(errno.ENAMETOOLONG, f"a name is longer than {name_bytes_max} bytes")
    return to_text(name)
