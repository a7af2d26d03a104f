"""Result codes: what happened, what the caller should do about it, and which errno it is.

The number travels on the wire and in rows, so it never changes and is never reused. Bands: 0 OK · 1xx transport and
service · 2xx namespace (250 and above: later additions of every kind) · 3xx storage · 4xx management.
"""

from __future__ import annotations

import errno
from enum import Enum, IntEnum


class Retry(Enum):
    """What a caller may do with a failed request."""

    NEVER = "never"
    """The answer stands; asking again gives the same."""
    BACKOFF = "backoff"
    """Nothing happened; ask again later."""
    REFRESH = "refresh"
    """Nothing happened; get newer routing, then ask again."""
    MAYBE = "maybe"
    """It may have happened; only a request that is recognised when repeated may be sent again."""


class Code(IntEnum):
    """One result. `Code.retry` and `Code.errno` say what to do and what POSIX calls it."""

    OK = 0

    CANCELLED = 101
    DEADLINE = 102
    UNAVAILABLE = 103
    DISCONNECTED = 104
    BUSY = 105
    INVALID = 106
    UNSUPPORTED = 107
    INTERNAL = 108
    PROTOCOL = 109
    TOO_LARGE = 110
    SHUTTING_DOWN = 111
    DATA_LOSS = 112

    NOT_FOUND = 201
    EXISTS = 202
    NOT_A_DIRECTORY = 203
    IS_A_DIRECTORY = 204
    NOT_EMPTY = 205
    PERMISSION = 206
    ACCESS = 207
    NAME_TOO_LONG = 208
    TOO_MANY_SYMLINKS = 209
    TOO_MANY_LINKS = 210
    WOULD_LOOP = 211
    NO_SESSION = 212
    STALE = 213
    FILE_TOO_LARGE = 214
    NOT_ITS_TURN = 215
    NOT_INLINE = 216
    LOCKED = 220
    DEADLOCK = 221
    NO_LOCKS = 222
    LOCKS_LOST = 223
    NO_ATTRIBUTE = 230
    ATTRIBUTE_TOO_LARGE = 231
    ATTRIBUTE_NAME_TOO_LONG = 232
    BEYOND_END = 240
    NODE_REMOVED = 260
    NOT_ADMITTED = 267

    WRONG_CHAIN_VERSION = 301
    NOT_SERVING = 302
    NO_SUCH_TARGET = 303
    NOT_HEAD = 304
    DIRTY = 305
    MISSING_UPDATE = 306
    STALE_UPDATE = 307
    CHECKSUM = 308
    NO_SPACE = 309
    DISK = 310
    REPLICAS_DISAGREE = 311
    LEASE = 312
    NOT_AUTHENTICATED = 313
    TICKET_LAPSED = 314
    NO_CAPABILITY = 315

    NOT_PRIMARY = 401
    WRONG_CLUSTER = 402
    UNKNOWN_NODE = 403
    OLD_INCARNATION = 404
    NO_TABLE = 405
    NAMESPACE_DIFFERS = 406
    CONFIG = 407
    NO_NAMESPACE = 408

    @property
    def retry(self) -> Retry:
        """What a caller may do with a request that was answered so."""
        return _RETRY.get(self, Retry.NEVER)

    @property
    def errno(self) -> int:
        """The POSIX number of this code; EIO where POSIX has no word for it."""
        return _ERRNO.get(self, errno.EIO)

    @classmethod
    def from_wire(cls, number: int) -> Code:
        """The code of a number; INTERNAL for one a newer peer sends and we do not know."""
        try:
            return cls(number)
        except ValueError:
            return cls.INTERNAL


_RETRY = {
    Code.DEADLINE: Retry.MAYBE,
    Code.DISCONNECTED: Retry.MAYBE,
    Code.UNAVAILABLE: Retry.REFRESH,
    Code.BUSY: Retry.BACKOFF,
    Code.SHUTTING_DOWN: Retry.REFRESH,
    Code.WRONG_CHAIN_VERSION: Retry.REFRESH,
    Code.NOT_SERVING: Retry.REFRESH,
    Code.NO_SUCH_TARGET: Retry.REFRESH,
    Code.NOT_HEAD: Retry.REFRESH,
    Code.LEASE: Retry.REFRESH,
    Code.DIRTY: Retry.BACKOFF,
    Code.MISSING_UPDATE: Retry.REFRESH,
    Code.NOT_PRIMARY: Retry.REFRESH,
    Code.TICKET_LAPSED: Retry.BACKOFF,
    Code.NO_CAPABILITY: Retry.BACKOFF,
}

_ERRNO = {
    Code.CANCELLED: errno.ECANCELED,
    Code.DEADLINE: errno.ETIMEDOUT,
    Code.UNAVAILABLE: errno.ECONNREFUSED,
    Code.NOT_ADMITTED: errno.EACCES,
    Code.NOT_AUTHENTICATED: errno.EACCES,
    Code.TICKET_LAPSED: errno.EACCES,
    Code.NO_CAPABILITY: errno.EACCES,
    Code.DISCONNECTED: errno.ECONNRESET,
    Code.BUSY: errno.EAGAIN,
    Code.INVALID: errno.EINVAL,
    Code.UNSUPPORTED: errno.EOPNOTSUPP,
    Code.TOO_LARGE: errno.EMSGSIZE,
    Code.PROTOCOL: errno.EPROTO,
    Code.NOT_FOUND: errno.ENOENT,
    Code.EXISTS: errno.EEXIST,
    Code.NOT_A_DIRECTORY: errno.ENOTDIR,
    Code.IS_A_DIRECTORY: errno.EISDIR,
    Code.NOT_EMPTY: errno.ENOTEMPTY,
    Code.PERMISSION: errno.EPERM,
    Code.ACCESS: errno.EACCES,
    Code.NAME_TOO_LONG: errno.ENAMETOOLONG,
    Code.TOO_MANY_SYMLINKS: errno.ELOOP,
    Code.TOO_MANY_LINKS: errno.EMLINK,
    Code.WOULD_LOOP: errno.EINVAL,
    Code.NO_SESSION: errno.EBADF,
    Code.STALE: errno.ESTALE,
    Code.FILE_TOO_LARGE: errno.EFBIG,
    Code.NOT_ITS_TURN: errno.EAGAIN,
    Code.NOT_INLINE: errno.EMSGSIZE,
    Code.LOCKED: errno.EAGAIN,
    Code.DEADLOCK: errno.EDEADLK,
    Code.NO_LOCKS: errno.ENOLCK,
    Code.LOCKS_LOST: errno.EIO,
    Code.NO_ATTRIBUTE: errno.ENODATA,
    Code.ATTRIBUTE_TOO_LARGE: errno.E2BIG,
    Code.ATTRIBUTE_NAME_TOO_LONG: errno.ERANGE,
    Code.BEYOND_END: errno.ENXIO,
    Code.CHECKSUM: errno.EBADMSG,
    Code.NO_NAMESPACE: errno.ENOENT,
    Code.NO_SPACE: errno.ENOSPC,
    Code.DISK: errno.EIO,
    Code.DATA_LOSS: errno.EIO,
}
