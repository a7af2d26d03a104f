"""INIT: what the kernel and the file system agree on when a mount begins."""

from __future__ import annotations

import errno

from fs3.drivers.fuse import protocol
from fs3.drivers.fuse.codec import malformed
from fs3.drivers.fuse.protocol import InitFlag
from fs3.drivers.fuse.records import InitOptions, Negotiated

ALWAYS = (
    InitFlag.ASYNC_READ
    | InitFlag.ATOMIC_O_TRUNC
    | InitFlag.BIG_WRITES
    | InitFlag.DONT_MASK
    | InitFlag.DO_READDIRPLUS
    | InitFlag.READDIRPLUS_AUTO
    | InitFlag.ASYNC_DIO
    | InitFlag.PARALLEL_DIROPS
    | InitFlag.ABORT_ERROR
    | InitFlag.MAX_PAGES
    | InitFlag.EXPLICIT_INVAL_DATA
    | InitFlag.HANDLE_KILLPRIV_V2
    | InitFlag.INIT_EXT
    | InitFlag.DIRECT_IO_ALLOW_MMAP
    | InitFlag.HAS_RESEND
)
"""Asked for by every mount. Never `WRITEBACK_CACHE`: with it the kernel decides the length and the times of a file, and another
client that wrote it is not seen. Not `AUTO_INVAL_DATA`: it asks for the attributes at every read. `DONT_MASK`: the umask comes
beside the mode, since a default ACL is used in its place."""

_PAGE_BYTES = 4096
_PAGES_MAX = 256
TIME_GRAIN_NS = 1


def negotiate(body: memoryview, options: InitOptions) -> tuple[Negotiated, bytes]:
    """What was agreed on, and the answer to INIT. OSError EPROTO for a kernel that is too old.

    A kernel of another major version is answered with ours, and asks again: then nothing is agreed on yet (major 0)."""
    if len(body) < protocol.INIT_IN.size:
        raise malformed("an init", f"{len(body)} bytes")
    major, minor, readahead, flags = protocol.INIT_IN.unpack_from(body)
    if major > protocol.MAJOR:
        return Negotiated(), _answer(0, 0, 0, options)
    if major < protocol.MAJOR or minor < protocol.MINOR_MIN:
        raise OSError(errno.EPROTO, f"the kernel speaks FUSE {major}.{minor}; 7.{protocol.MINOR_MIN} is needed")
    if flags & InitFlag.INIT_EXT and len(body) >= protocol.INIT_IN.size + protocol.INIT_IN_FLAGS2.size:
        flags |= protocol.INIT_IN_FLAGS2.unpack_from(body, protocol.INIT_IN.size)[0] << 32
    agreed = flags & (ALWAYS | options.flags)
    if not agreed & InitFlag.MAX_PAGES:
        options = InitOptions(options.flags, min(options.max_write_bytes, 32 * _PAGE_BYTES), options.max_readahead_bytes)
    answer = _answer(minor, agreed, min(readahead, options.max_readahead_bytes), options)
    return Negotiated(major, min(minor, protocol.MINOR), int(agreed), options.max_write_bytes), answer


def _answer(minor: int, flags: int, readahead: int, options: InitOptions) -> bytes:
    pages = min(_PAGES_MAX, -(-options.max_write_bytes // _PAGE_BYTES))
    return protocol.INIT_OUT.pack(
        protocol.MAJOR,
        min(minor, protocol.MINOR) if minor else protocol.MINOR,
        readahead,
        flags & 0xFFFF_FFFF,
        options.max_background,
        options.max_background * 3 // 4,
        options.max_write_bytes,
        TIME_GRAIN_NS,
        pages,
        0,
        flags >> 32,
        0,
        0,
    )
