"""Bytes of requests as arguments, answers as bytes.

A request that does not have the length of its kind, or a name without an end, is EINVAL for the one who sent it: the kernel does
neither, but a test and a fuzzer do.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from typing import Any

from fs3.base.units import SECOND
from fs3.drivers.fuse import protocol
from fs3.drivers.fuse.protocol import SetAttr
from fs3.drivers.fuse.records import (
    TIME_IS_NOW,
    AttributesReply,
    Changes,
    Created,
    DirectoryEntry,
    KernelAttributes,
    KernelLock,
    KernelRequest,
    LookupReply,
    Opened,
    Space,
)

Arguments = tuple[Any, ...]
Parse = Callable[[memoryview], Arguments]
Encode = Callable[[Any], bytes]

_IN_HEADER = protocol.IN_HEADER
_PADDING = bytes(8)


def parse_header(data: memoryview) -> KernelRequest:
    """The header of a request. OSError EINVAL when it is shorter, or says another length than it has."""
    if len(data) < _IN_HEADER.size:
        raise malformed("a request", f"{len(data)} bytes are no header")
    length, opcode, unique, node, uid, gid, pid, _, _ = _IN_HEADER.unpack_from(data)
    if length != len(data):
        raise malformed("a request", f"it says {length} bytes and has {len(data)}")
    return KernelRequest(opcode, unique, node, uid, gid, pid)


def malformed(what: str, why: str) -> OSError:
    """The error of a request that is none."""
    return OSError(errno.EINVAL, f"{what} is malformed: {why}")


def _need(body: memoryview, size: int) -> None:
    if len(body) < size:
        raise malformed("a request", f"{len(body)} bytes of arguments, {size} are needed")


def _names(body: memoryview, count: int) -> list[bytes]:
    """So many texts, each with a NUL behind it, and nothing else."""
    parts = bytes(body).split(b"\0")
    if len(parts) != count + 1 or parts[-1]:
        raise malformed("a request", f"{count} texts that end in NUL were expected")
    return parts[:-1]


# --- requests --------------------------------------------------------------------------------------------------------


def parse_nothing(body: memoryview) -> Arguments:
    """No arguments; what is there is left alone."""
    return ()


def parse_name(body: memoryview) -> Arguments:
    """(name)."""
    return tuple(_names(body, 1))


def parse_symlink(body: memoryview) -> Arguments:
    """(name, target)."""
    return tuple(_names(body, 2))


def parse_getattr(body: memoryview) -> Arguments:
    """(handle or None)."""
    _need(body, protocol.GETATTR_IN.size)
    flags, _, handle = protocol.GETATTR_IN.unpack_from(body)
    return (handle if flags & protocol.GETATTR_FH else None,)


def parse_statx(body: memoryview) -> Arguments:
    """(handle or None)."""
    _need(body, protocol.STATX_IN.size)
    flags, _, handle, _, _ = protocol.STATX_IN.unpack_from(body)
    return (handle if flags & protocol.GETATTR_FH else None,)


def parse_setattr(body: memoryview) -> Arguments:
    """(changes)."""
    _need(body, protocol.SETATTR_IN.size)
    (valid, _, handle, size, _, atime, mtime, _, atime_nsec, mtime_nsec, _, mode, _, uid, gid, _) = (
        protocol.SETATTR_IN.unpack_from(body)
    )
    return (
        Changes(
            mode=mode & 0o7777 if valid & SetAttr.MODE else None,
            uid=uid if valid & SetAttr.UID else None,
            gid=gid if valid & SetAttr.GID else None,
            size=size if valid & SetAttr.SIZE else None,
            atime_ns=_time(valid, SetAttr.ATIME, SetAttr.ATIME_NOW, atime, atime_nsec),
            mtime_ns=_time(valid, SetAttr.MTIME, SetAttr.MTIME_NOW, mtime, mtime_nsec),
            handle=handle if valid & SetAttr.FH else None,
            drops_set_ids=bool(valid & SetAttr.KILL_SUIDGID),
        ),
    )


def _time(valid: int, given: SetAttr, now: SetAttr, seconds: int, nanoseconds: int) -> int | None:
    if not valid & given:
        return None
    if valid & now:
        return TIME_IS_NOW
    return (seconds - (1 << 64) if seconds >> 63 else seconds) * SECOND + nanoseconds


def parse_mknod(body: memoryview) -> Arguments:
    """(name, mode with type, device number, umask)."""
    _need(body, protocol.MKNOD_IN.size)
    mode, rdev, umask, _ = protocol.MKNOD_IN.unpack_from(body)
    return _names(body[protocol.MKNOD_IN.size :], 1)[0], mode, rdev, umask & 0o777


def parse_mkdir(body: memoryview) -> Arguments:
    """(name, mode, umask)."""
    _need(body, protocol.MKDIR_IN.size)
    mode, umask = protocol.MKDIR_IN.unpack_from(body)
    return _names(body[protocol.MKDIR_IN.size :], 1)[0], mode & 0o7777, umask & 0o777


def parse_rename(body: memoryview) -> Arguments:
    """(name, new directory, new name, flags)."""
    _need(body, protocol.RENAME_IN.size)
    (directory,) = protocol.RENAME_IN.unpack_from(body)
    name, target = _names(body[protocol.RENAME_IN.size :], 2)
    return name, directory, target, 0


def parse_rename2(body: memoryview) -> Arguments:
    """(name, new directory, new name, flags)."""
    _need(body, protocol.RENAME2_IN.size)
    directory, flags, _ = protocol.RENAME2_IN.unpack_from(body)
    name, target = _names(body[protocol.RENAME2_IN.size :], 2)
    return name, directory, target, flags


def parse_link(body: memoryview) -> Arguments:
    """(inode that gets another name, name)."""
    _need(body, protocol.LINK_IN.size)
    (node,) = protocol.LINK_IN.unpack_from(body)
    return node, _names(body[protocol.LINK_IN.size :], 1)[0]


def parse_open(body: memoryview) -> Arguments:
    """(flags of open(2), set-ids go)."""
    _need(body, protocol.OPEN_IN.size)
    flags, how = protocol.OPEN_IN.unpack_from(body)
    return flags, bool(how & protocol.OPEN_KILL_SUIDGID)


def parse_create(body: memoryview) -> Arguments:
    """(name, flags of open(2), mode, umask)."""
    _need(body, protocol.CREATE_IN.size)
    flags, mode, umask, _ = protocol.CREATE_IN.unpack_from(body)
    return _names(body[protocol.CREATE_IN.size :], 1)[0], flags, mode & 0o7777, umask & 0o777


def parse_read(body: memoryview) -> Arguments:
    """(handle, offset, size)."""
    _need(body, protocol.READ_IN.size)
    handle, offset, size, _, _, _, _ = protocol.READ_IN.unpack_from(body)
    return handle, offset, size


def parse_write(body: memoryview) -> Arguments:
    """(handle, offset, bytes, flags of the open file, set-ids go). The bytes are where they arrived."""
    _need(body, protocol.WRITE_IN.size)
    handle, offset, size, how, _, flags, _ = protocol.WRITE_IN.unpack_from(body)
    data = body[protocol.WRITE_IN.size :]
    if len(data) != size:
        raise malformed("a write", f"it says {size} bytes and has {len(data)}")
    return handle, offset, data, flags, bool(how & protocol.WRITE_KILL_SUIDGID)


def parse_release(body: memoryview) -> Arguments:
    """(handle, lock owner; None: its locks stay)."""
    _need(body, protocol.RELEASE_IN.size)
    handle, _, how, owner = protocol.RELEASE_IN.unpack_from(body)
    return handle, owner if how & protocol.RELEASE_FLOCK_UNLOCK else None


def parse_flush(body: memoryview) -> Arguments:
    """(handle, lock owner)."""
    _need(body, protocol.FLUSH_IN.size)
    handle, _, _, owner = protocol.FLUSH_IN.unpack_from(body)
    return handle, owner


def parse_fsync(body: memoryview) -> Arguments:
    """(handle, data only)."""
    _need(body, protocol.FSYNC_IN.size)
    handle, how, _ = protocol.FSYNC_IN.unpack_from(body)
    return handle, bool(how & protocol.FSYNC_DATA)


def parse_access(body: memoryview) -> Arguments:
    """(wanted permissions)."""
    _need(body, protocol.ACCESS_IN.size)
    mask, _ = protocol.ACCESS_IN.unpack_from(body)
    return (mask,)


def parse_lock(body: memoryview) -> Arguments:
    """(handle, owner, lock, it is one of flock(2))."""
    _need(body, protocol.LK_IN.size)
    handle, owner, start, end, kind, pid, flags, _ = protocol.LK_IN.unpack_from(body)
    return handle, owner, KernelLock(start, end, kind, pid), bool(flags & protocol.LOCK_FLOCK)


def parse_getxattr(body: memoryview) -> Arguments:
    """(name, room for the value; 0: only its size is asked for)."""
    _need(body, protocol.GETXATTR_IN.size)
    size, _ = protocol.GETXATTR_IN.unpack_from(body)
    return _names(body[protocol.GETXATTR_IN.size :], 1)[0], size


def parse_listxattr(body: memoryview) -> Arguments:
    """(room for the names; 0: only their size is asked for)."""
    _need(body, protocol.GETXATTR_IN.size)
    size, _ = protocol.GETXATTR_IN.unpack_from(body)
    return (size,)


def parse_setxattr(body: memoryview) -> Arguments:
    """(name, value, flags of setxattr(2))."""
    _need(body, protocol.SETXATTR_IN.size)
    size, flags = protocol.SETXATTR_IN.unpack_from(body)
    rest = bytes(body[protocol.SETXATTR_IN.size :])
    name, separator, value = rest.partition(b"\0")
    if not separator or len(value) != size:
        raise malformed("a setxattr", f"it says {size} bytes of value and has {len(value)}")
    return name, value, flags


def parse_fallocate(body: memoryview) -> Arguments:
    """(handle, offset, length, mode)."""
    _need(body, protocol.FALLOCATE_IN.size)
    handle, offset, length, mode, _ = protocol.FALLOCATE_IN.unpack_from(body)
    return handle, offset, length, mode


def parse_lseek(body: memoryview) -> Arguments:
    """(handle, offset, whence)."""
    _need(body, protocol.LSEEK_IN.size)
    handle, offset, whence, _ = protocol.LSEEK_IN.unpack_from(body)
    return handle, offset, whence


def parse_copy_file_range(body: memoryview) -> Arguments:
    """(handle, offset, target inode, target handle, target offset, length)."""
    _need(body, protocol.COPY_FILE_RANGE_IN.size)
    *arguments, _ = protocol.COPY_FILE_RANGE_IN.unpack_from(body)
    return tuple(arguments)


def parse_forget(node: int, body: memoryview) -> list[tuple[int, int]]:
    """(inode, look-ups that are forgotten)."""
    _need(body, protocol.FORGET_IN.size)
    (count,) = protocol.FORGET_IN.unpack_from(body)
    return [(node, count)]


def parse_batch_forget(body: memoryview) -> list[tuple[int, int]]:
    """(inode, look-ups that are forgotten) of many."""
    _need(body, protocol.BATCH_FORGET_IN.size)
    count, _ = protocol.BATCH_FORGET_IN.unpack_from(body)
    rest = body[protocol.BATCH_FORGET_IN.size :]
    _need(rest, count * protocol.FORGET_ONE.size)
    return list(protocol.FORGET_ONE.iter_unpack(rest[: count * protocol.FORGET_ONE.size]))


def parse_interrupt(body: memoryview) -> int:
    """The request that is interrupted."""
    _need(body, protocol.INTERRUPT_IN.size)
    (unique,) = protocol.INTERRUPT_IN.unpack_from(body)
    return int(unique)


# --- answers ---------------------------------------------------------------------------------------------------------


def encode_attributes(found: KernelAttributes) -> bytes:
    """fuse_attr."""
    atime, atime_nsec = divmod(found.atime_ns, SECOND)
    mtime, mtime_nsec = divmod(found.mtime_ns, SECOND)
    ctime, ctime_nsec = divmod(found.ctime_ns, SECOND)
    mask = (1 << 64) - 1
    return protocol.ATTR.pack(
        found.ino,
        found.size,
        found.blocks,
        atime & mask,
        mtime & mask,
        ctime & mask,
        atime_nsec,
        mtime_nsec,
        ctime_nsec,
        found.mode,
        found.nlink,
        found.uid,
        found.gid,
        found.rdev,
        found.block_size,
        0,
    )


def encode_entry(entry: LookupReply) -> bytes:
    """fuse_entry_out."""
    name_s, name_ns = divmod(entry.entry_valid_ns, SECOND)
    attributes_s, attributes_ns = divmod(entry.attributes_valid_ns, SECOND)
    head = protocol.ENTRY_OUT.pack(entry.node, 0, name_s, attributes_s, name_ns, attributes_ns)
    return head + encode_attributes(entry.attributes)


def encode_attributes_reply(reply: AttributesReply) -> bytes:
    """fuse_attr_out."""
    seconds, nanoseconds = divmod(reply.valid_ns, SECOND)
    return protocol.ATTR_OUT.pack(seconds, nanoseconds, 0) + encode_attributes(reply.attributes)


_STATX_BASIC = 0x7FF
_STATX_BTIME = 0x800


def encode_statx(reply: AttributesReply) -> bytes:
    """fuse_statx_out: the same with the time of birth."""
    found = reply.attributes
    times: list[int] = []
    for moment in (found.atime_ns, found.birth_ns, found.ctime_ns, found.mtime_ns):
        times += [*divmod(moment, SECOND), 0]
    seconds, nanoseconds = divmod(reply.valid_ns, SECOND)
    return protocol.STATX_OUT.pack(seconds, nanoseconds, 0) + protocol.STATX.pack(
        _STATX_BASIC | _STATX_BTIME,
        found.block_size,
        0,
        found.nlink,
        found.uid,
        found.gid,
        found.mode,
        0,
        found.ino,
        found.size,
        found.blocks,
        0,
        *times,
        found.rdev >> 8 & 0xFFF,
        found.rdev & 0xFF | found.rdev >> 12 & 0xFFF00,
        0,
        0,
    )


def encode_opened(opened: Opened) -> bytes:
    """fuse_open_out."""
    return protocol.OPEN_OUT.pack(opened.handle, opened.flags, 0)


def encode_created(created: Created) -> bytes:
    """fuse_entry_out and fuse_open_out."""
    return encode_entry(created.entry) + encode_opened(created.opened)


def encode_bytes(data: bytes) -> bytes:
    """As they are: a symlink's target, the value of an attribute."""
    return data


def encode_written(count: int) -> bytes:
    """fuse_write_out."""
    return protocol.WRITE_OUT.pack(count, 0)


def encode_nothing(_: object) -> bytes:
    """No answer but that it is done."""
    return b""


def encode_size(count: int) -> bytes:
    """fuse_getxattr_out."""
    return protocol.GETXATTR_OUT.pack(count, 0)


def encode_lock(lock: KernelLock) -> bytes:
    """fuse_lk_out."""
    return protocol.LK_OUT.pack(lock.start, lock.end, lock.type, lock.pid)


def encode_offset(offset: int) -> bytes:
    """fuse_lseek_out."""
    return protocol.LSEEK_OUT.pack(offset)


def encode_space(space: Space) -> bytes:
    """fuse_statfs_out."""
    return protocol.STATFS_OUT.pack(
        space.blocks,
        space.blocks_free,
        space.blocks_free,
        space.files,
        space.files_free,
        space.block_size,
        space.name_bytes_max,
        space.block_size,
        0,
    )


def encode_directory(entries: Iterable[DirectoryEntry], room: int, *, plus: bool) -> bytes:
    """As many entries as fit; with `plus` each with what a look-up of it would answer."""
    out = bytearray()
    for one in entries:
        size = len(one.name) + protocol.DIRENT.size
        padding = -size % 8
        head = b""
        if plus:
            head = encode_entry(one.entry or LookupReply(0, KernelAttributes(one.ino, one.type_bits)))
        if len(out) + len(head) + size + padding > room:
            break
        out += head
        out += protocol.DIRENT.pack(one.ino, one.next_offset, len(one.name), one.type_bits >> 12)
        out += one.name
        out += _PADDING[:padding]
    return bytes(out)
