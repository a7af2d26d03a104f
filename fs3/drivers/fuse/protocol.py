"""Numbers and structures of the FUSE protocol, version 7.38 of the kernel's interface (Linux 6.x speaks it and newer ones).

Everything is in the byte order of the machine. A structure is named as the kernel names it; the fields are in the order of the
comment behind it.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from struct import Struct
from typing import Final

MAJOR: Final = 7
MINOR: Final = 38
MINOR_MIN: Final = 31
"""Linux 5.4: older kernels do not know 1 MiB requests and explicit invalidation."""
ROOT_NODE: Final = 1


class Opcode(IntEnum):
    """What a request asks for."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    GETLK = 31
    SETLK = 32
    SETLKW = 33
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    IOCTL = 39
    POLL = 40
    BATCH_FORGET = 42
    FALLOCATE = 43
    READDIRPLUS = 44
    RENAME2 = 45
    LSEEK = 46
    COPY_FILE_RANGE = 47
    SYNCFS = 50
    TMPFILE = 51
    STATX = 52


class InitFlag(IntFlag):
    """What the two sides of a mount agree on when it begins. Those above 1 << 31 travel as `flags2`."""

    ASYNC_READ = 1 << 0
    POSIX_LOCKS = 1 << 1
    ATOMIC_O_TRUNC = 1 << 3
    EXPORT_SUPPORT = 1 << 4
    BIG_WRITES = 1 << 5
    DONT_MASK = 1 << 6
    FLOCK_LOCKS = 1 << 10
    AUTO_INVAL_DATA = 1 << 12
    DO_READDIRPLUS = 1 << 13
    READDIRPLUS_AUTO = 1 << 14
    ASYNC_DIO = 1 << 15
    WRITEBACK_CACHE = 1 << 16
    PARALLEL_DIROPS = 1 << 18
    HANDLE_KILLPRIV = 1 << 19
    POSIX_ACL = 1 << 20
    ABORT_ERROR = 1 << 21
    MAX_PAGES = 1 << 22
    CACHE_SYMLINKS = 1 << 23
    EXPLICIT_INVAL_DATA = 1 << 25
    HANDLE_KILLPRIV_V2 = 1 << 28
    INIT_EXT = 1 << 30
    DIRECT_IO_ALLOW_MMAP = 1 << 36
    HAS_RESEND = 1 << 39


class OpenFlag(IntFlag):
    """What the answer to an open says of the handle."""

    DIRECT_IO = 1 << 0
    KEEP_CACHE = 1 << 1
    CACHE_DIR = 1 << 3
    PARALLEL_DIRECT_WRITES = 1 << 6


class SetAttr(IntFlag):
    """Which fields of a SETATTR count."""

    MODE = 1 << 0
    UID = 1 << 1
    GID = 1 << 2
    SIZE = 1 << 3
    ATIME = 1 << 4
    MTIME = 1 << 5
    FH = 1 << 6
    ATIME_NOW = 1 << 7
    MTIME_NOW = 1 << 8
    KILL_SUIDGID = 1 << 11


OPEN_KILL_SUIDGID: Final = 1 << 0
WRITE_CACHE: Final = 1 << 0
"""The bytes come from a shared mapping; the handle is any one that may write."""
WRITE_KILL_SUIDGID: Final = 1 << 2
GETATTR_FH: Final = 1 << 0
FSYNC_DATA: Final = 1 << 0
LOCK_FLOCK: Final = 1 << 0
RELEASE_FLOCK_UNLOCK: Final = 1 << 1

NOTIFY_INVAL_INODE: Final = 2
NOTIFY_INVAL_ENTRY: Final = 3
NOTIFY_RESEND: Final = 7
UNIQUE_RESEND: Final = 1 << 63
"""In the number of a request: it was read before, maybe by another process, and was not answered."""

IN_HEADER: Final = Struct("=IIQQIIIHH")  # len opcode unique nodeid uid gid pid total_extlen padding
OUT_HEADER: Final = Struct("=IiQ")  # len error unique
INIT_IN: Final = Struct("=IIII")  # major minor max_readahead flags
INIT_IN_FLAGS2: Final = Struct("=I")
INIT_OUT: Final = Struct("=IIIIHHIIHHIIH22x")
# major minor max_readahead flags max_background congestion_threshold max_write time_gran max_pages map_alignment flags2
# max_stack_depth request_timeout
ATTR: Final = Struct("=QQQQQQIIIIIIIIII")
# ino size blocks atime mtime ctime atimensec mtimensec ctimensec mode nlink uid gid rdev blksize flags
ENTRY_OUT: Final = Struct("=QQQQII")  # nodeid generation entry_valid attr_valid entry_valid_nsec attr_valid_nsec, then ATTR
ATTR_OUT: Final = Struct("=QII")  # attr_valid attr_valid_nsec dummy, then ATTR
GETATTR_IN: Final = Struct("=IIQ")  # getattr_flags dummy fh
SETATTR_IN: Final = Struct("=IIQQQQQQIIIIIIII")
# valid padding fh size lock_owner atime mtime ctime atimensec mtimensec ctimensec mode unused4 uid gid unused5
MKNOD_IN: Final = Struct("=IIII")  # mode rdev umask padding
MKDIR_IN: Final = Struct("=II")  # mode umask
RENAME_IN: Final = Struct("=Q")  # newdir
RENAME2_IN: Final = Struct("=QII")  # newdir flags padding
LINK_IN: Final = Struct("=Q")  # oldnodeid
OPEN_IN: Final = Struct("=II")  # flags open_flags
CREATE_IN: Final = Struct("=IIII")  # flags mode umask open_flags
OPEN_OUT: Final = Struct("=QIi")  # fh open_flags backing_id
READ_IN: Final = Struct("=QQIIQII")  # fh offset size read_flags lock_owner flags padding
WRITE_IN: Final = Struct("=QQIIQII")  # fh offset size write_flags lock_owner flags padding
WRITE_OUT: Final = Struct("=II")  # size padding
RELEASE_IN: Final = Struct("=QIIQ")  # fh flags release_flags lock_owner
FLUSH_IN: Final = Struct("=QIIQ")  # fh unused padding lock_owner
FSYNC_IN: Final = Struct("=QII")  # fh fsync_flags padding
STATFS_OUT: Final = Struct("=QQQQQIIII24x")  # blocks bfree bavail files ffree bsize namelen frsize padding
FORGET_IN: Final = Struct("=Q")  # nlookup
BATCH_FORGET_IN: Final = Struct("=II")  # count dummy
FORGET_ONE: Final = Struct("=QQ")  # nodeid nlookup
INTERRUPT_IN: Final = Struct("=Q")  # unique
ACCESS_IN: Final = Struct("=II")  # mask padding
LK_IN: Final = Struct("=QQQQIIII")  # fh owner start end type pid lk_flags padding
LK_OUT: Final = Struct("=QQII")  # start end type pid
GETXATTR_IN: Final = Struct("=II")  # size padding
GETXATTR_OUT: Final = Struct("=II")  # size padding
SETXATTR_IN: Final = Struct("=II")  # size flags
FALLOCATE_IN: Final = Struct("=QQQII")  # fh offset length mode padding
LSEEK_IN: Final = Struct("=QQII")  # fh offset whence padding
LSEEK_OUT: Final = Struct("=Q")  # offset
COPY_FILE_RANGE_IN: Final = Struct("=QQQQQQQ")  # fh_in off_in nodeid_out fh_out off_out len flags
STATX_IN: Final = Struct("=IIQII")  # getattr_flags reserved fh sx_flags sx_mask
STATX_OUT: Final = Struct("=QII16x")  # attr_valid attr_valid_nsec flags, then STATX
STATX: Final = Struct("=IIQIIIHHQQQQqIiqIiqIiqIiIIII112x")
# mask blksize attributes nlink uid gid mode spare0 ino size blocks attributes_mask, then atime btime ctime mtime as
# (seconds nanoseconds reserved) each, rdev_major rdev_minor dev_major dev_minor
DIRENT: Final = Struct("=QQII")  # ino off namelen type, then the name, padded to 8 bytes
INVAL_INODE_OUT: Final = Struct("=Qqq")  # ino off len
INVAL_ENTRY_OUT: Final = Struct("=QII")  # parent namelen flags, then the name and NUL
