"""Which request is which method, how its arguments are read, and how what it answers is written."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, NamedTuple

from fs3.drivers.fuse import codec
from fs3.drivers.fuse.operations import Operations
from fs3.drivers.fuse.protocol import Opcode
from fs3.drivers.fuse.records import KernelRequest

Buffer = bytes | bytearray | memoryview


class RequestKind(NamedTuple):
    """One kind of request."""

    parse: codec.Parse
    method: str
    """Of `Operations`."""
    encode: Callable[[Any, Any], Buffer]
    """(what the method answered, the arguments) to bytes."""


def _simple(parse: codec.Parse, method: str, encode: codec.Encode) -> RequestKind:
    return RequestKind(parse, method, lambda answer, _: encode(answer))


def _sized(answer: bytes, room: int) -> bytes:
    """The value of an attribute, or only its size. ERANGE when there is less room than it needs."""
    if not room:
        return codec.encode_size(len(answer))
    if len(answer) > room:
        raise OSError(errno.ERANGE, f"{len(answer)} bytes do not fit into {room}")
    return answer


REQUEST_KINDS: dict[int, RequestKind] = {
    Opcode.LOOKUP: _simple(codec.parse_name, "lookup", codec.encode_entry),
    Opcode.GETATTR: _simple(codec.parse_getattr, "getattr", codec.encode_attributes_reply),
    Opcode.STATX: _simple(codec.parse_statx, "getattr", codec.encode_statx),
    Opcode.SETATTR: _simple(codec.parse_setattr, "setattr", codec.encode_attributes_reply),
    Opcode.READLINK: _simple(codec.parse_nothing, "readlink", codec.encode_bytes),
    Opcode.SYMLINK: _simple(codec.parse_symlink, "symlink", codec.encode_entry),
    Opcode.MKNOD: _simple(codec.parse_mknod, "mknod", codec.encode_entry),
    Opcode.MKDIR: _simple(codec.parse_mkdir, "mkdir", codec.encode_entry),
    Opcode.UNLINK: _simple(codec.parse_name, "unlink", codec.encode_nothing),
    Opcode.RMDIR: _simple(codec.parse_name, "rmdir", codec.encode_nothing),
    Opcode.RENAME: _simple(codec.parse_rename, "rename", codec.encode_nothing),
    Opcode.RENAME2: _simple(codec.parse_rename2, "rename", codec.encode_nothing),
    Opcode.LINK: _simple(codec.parse_link, "link", codec.encode_entry),
    Opcode.OPEN: _simple(codec.parse_open, "open", codec.encode_opened),
    Opcode.CREATE: _simple(codec.parse_create, "create", codec.encode_created),
    Opcode.TMPFILE: _simple(codec.parse_create, "tmpfile", codec.encode_created),
    Opcode.READ: _simple(codec.parse_read, "read", codec.encode_bytes),
    Opcode.WRITE: _simple(codec.parse_write, "write", codec.encode_written),
    Opcode.FLUSH: _simple(codec.parse_flush, "flush", codec.encode_nothing),
    Opcode.RELEASE: _simple(codec.parse_release, "release", codec.encode_nothing),
    Opcode.FSYNC: _simple(codec.parse_fsync, "fsync", codec.encode_nothing),
    Opcode.OPENDIR: _simple(codec.parse_open, "opendir", codec.encode_opened),
    Opcode.RELEASEDIR: _simple(codec.parse_release, "releasedir", codec.encode_nothing),
    Opcode.FSYNCDIR: _simple(codec.parse_fsync, "fsyncdir", codec.encode_nothing),
    Opcode.STATFS: _simple(codec.parse_nothing, "statfs", codec.encode_space),
    Opcode.ACCESS: _simple(codec.parse_access, "access", codec.encode_nothing),
    Opcode.GETXATTR: RequestKind(codec.parse_getxattr, "getxattr", lambda answer, arguments: _sized(answer, arguments[1])),
    Opcode.LISTXATTR: RequestKind(
        codec.parse_listxattr,
        "listxattr",
        lambda answer, arguments: _sized(b"".join(name + b"\0" for name in answer), arguments[0]),
    ),
    Opcode.SETXATTR: _simple(codec.parse_setxattr, "setxattr", codec.encode_nothing),
    Opcode.REMOVEXATTR: _simple(codec.parse_name, "removexattr", codec.encode_nothing),
    Opcode.GETLK: _simple(codec.parse_lock, "getlk", codec.encode_lock),
    Opcode.SETLK: _simple(codec.parse_lock, "setlk", codec.encode_nothing),
    Opcode.SETLKW: _simple(codec.parse_lock, "setlkw", codec.encode_nothing),
    Opcode.FALLOCATE: _simple(codec.parse_fallocate, "fallocate", codec.encode_nothing),
    Opcode.LSEEK: _simple(codec.parse_lseek, "lseek", codec.encode_offset),
    Opcode.COPY_FILE_RANGE: _simple(codec.parse_copy_file_range, "copy_file_range", codec.encode_written),
    Opcode.READDIR: RequestKind(
        lambda body: (*codec.parse_read(body), False),
        "readdir",
        lambda answer, arguments: codec.encode_directory(answer, arguments[2], plus=False),
    ),
    Opcode.READDIRPLUS: RequestKind(
        lambda body: (*codec.parse_read(body), True),
        "readdir",
        lambda answer, arguments: codec.encode_directory(answer, arguments[2], plus=True),
    ),
}
"""By opcode. What is not here, the session answers itself or with ENOSYS."""

_NO_ROOM = {"getxattr": 1, "listxattr": 0, "readdir": 2}
"""Methods that are not told how much room the caller has: the argument that says so."""


class BoundKind(NamedTuple):
    """One kind of request, of one file system."""

    parse: codec.Parse
    method: Callable[..., Any]
    encode: Callable[[Any, Any], Buffer]
    room: int | None
    """The argument that the method is not told; None: it is told all."""

    def call(self, request: KernelRequest, arguments: codec.Arguments) -> Any:
        """The answer of the method, or what has to be waited for."""
        room = self.room
        if room is None:
            return self.method(request, *arguments)
        return self.method(request, *arguments[:room], *arguments[room + 1 :])


def bind(operations: Operations) -> dict[int, BoundKind]:
    """The methods of a file system by opcode."""
    return {
        opcode: BoundKind(kind.parse, getattr(operations, kind.method), kind.encode, _NO_ROOM.get(kind.method))
        for opcode, kind in REQUEST_KINDS.items()
    }
