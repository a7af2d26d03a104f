"""An open file of the native API, and the checks of what callers hand in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fs3.base.errors import error
from fs3.base.ids import SessionId
from fs3.base.limits import file_bytes_max
from fs3.base.status import Code
from fs3.model.inode import Inode

READ_ONLY = SessionId(0)

BytesProgress = Callable[[int], Any]
"""Called with the bytes of every part of a file that has arrived."""


class File:
    """An open file: which inode, which session, and what this handle knows of its length. It owns no connection.

    A handle opened for reading is only a record, so any `Client` of the same cluster may read with it, also one in a forked
    process. A handle with a write session belongs to the client that opened it. Concurrent reads and writes through one handle
    are fine; nothing here is thread-safe.
    """

    __slots__ = (
        "__weakref__",
        "_acknowledged",
        "_begun_end",
        "_idle",
        "_writes",
        "_writing",
        "access_noted",
        "appends",
        "closed",
        "data",
        "inode",
        "is_lost",
        "is_replaced",
        "leaves_holes",
        "lock_number",
        "locks_lost",
        "modified",
        "mtime_is_set",
        "path",
        "session",
        "truncations",
        "unnamed",
        "written_ns",
    )

    def __init__(
        self,
        inode: Inode,
        path: str,
        session: SessionId = READ_ONLY,
        *,
        unnamed: bool = False,
        appends: bool = False,
        data: bytes | None = None,
    ) -> None:
        self.inode = inode
        """As the service last told it."""
        self.data = data
        """The bytes of an inline file as `inode` says it is; None: they have not been asked for."""
        self.path = path
        """As the caller named it, for failures; of an unnamed file where it is meant to go, or at least the directory."""
        self.session = session
        """0: open for reading only."""
        self.unnamed = unnamed
        """It has no name yet; `Client.close(file, publish=...)` gives it one."""
        self.appends = appends
        """It was opened for appending: `Client.append` decides where bytes go."""
        self.modified = False
        """Written to since the last close or sync told so."""
        self.leaves_holes = False
        """What was written or punched since then may have left a hole before the end."""
        self.written_ns: int | None = None
        """When the last write ended, by the client's clock; None: that is not known, or there was none."""
        self.access_noted = -1
        """`Inode.change` as it was when a read was noted for the access time."""
        self.mtime_is_set = False
        """The file's mtime was set by this client after the last write, and stays when the file is closed."""
        self.closed = False
        self.is_lost = False
        """Its session was ended because the client was silent, and its file is gone: nothing that is written can count."""
        self.is_replaced = False
        """The file has got another content, which this handle does not write: what it writes can count no more."""
        self.locks_lost = False
        """Locks that were acquired through it have ended because the client was silent; `Client.unlock` says so and clears it."""
        self.lock_number = 0
        """The handle's, as an owner of locks; 0: it has not asked for any."""
        self.truncations = inode.truncations
        """Of the file, as far as every acknowledged write is from after them."""
        self._acknowledged = 0
        self._begun_end = 0
        """Largest end offset of the writes that were begun since the service was told of all."""
        self._writes = 0
        self._writing = 0
        self._idle: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        what = "closed" if self.closed else f"session {self.session}" if self.session else "reading"
        return f"<File {self.path!r} inode {self.inode.id} {self.length} bytes, {what}>"

    @property
    def length(self) -> int:
        """Bytes: what was published when the file was opened or synced, and this handle's own acknowledged writes."""
        return max(self.inode.length, self._acknowledged)

    @property
    def acknowledged(self) -> int:
        """Largest end offset of this handle's writes that storage has acknowledged."""
        return self._acknowledged

    @property
    def writes(self) -> int:
        """Writes that were begun so far."""
        return self._writes

    def check_open(self) -> None:
        """Raises InvalidArgument for a closed handle."""
        if self.closed:
            raise error(Code.INVALID, "the file is closed", self.path)

    def check_found(self) -> None:
        """Raises STALE for a handle whose file is gone or has another content, and which would write to nothing."""
        if self.is_replaced:
            raise error(Code.STALE, "another file was put in its place while it was open", self.path)
        if self.is_lost:
            raise error(Code.STALE, "its session has ended: the client was silent for too long, the file is gone", self.path)

    def check_writable(self) -> None:
        """Raises InvalidArgument for a handle that is closed or was opened for reading, STALE as `check_found`."""
        self.check_open()
        if not self.session:
            raise error(Code.INVALID, "the file was opened for reading only", self.path)
        self.check_found()

    def check_appends(self, wanted: bool) -> None:
        """Raises as `check_writable`, and InvalidArgument for a handle that was opened for the other kind of writing."""
        self.check_writable()
        if self.appends != wanted:
            how = "not for appending" if wanted else "for appending, which is done by `append`"
            raise error(Code.INVALID, f"the file was opened {how}", self.path)

    def begin_write(self, start: int = 0, end: int = 0) -> None:
        """A write of bytes from `start` to `end` is under way."""
        self.mtime_is_set = False
        self._writing += 1
        self._writes += 1
        if start > self._begun_end and start > self.length:
            self.leaves_holes = True
        self._begun_end = max(self._begun_end, end)

    def on_mtime_set(self) -> None:
        """The file's mtime was set. A write that is under way may be before or after that, and is taken to be after."""
        self.mtime_is_set = not self._writing

    def end_write(self, end: int, now: int | None = None, *, changed: bool = False) -> None:
        """It has ended, at this moment of the client's clock; storage has acknowledged bytes up to `end`, 0 none. `changed`: it
        has changed bytes all the same."""
        self._writing -= 1
        self.written_ns = now
        self._acknowledged = max(self._acknowledged, end)
        self.modified = self.modified or end > 0 or changed
        if not self._writing and self._idle is not None:
            if not self._idle.done():
                self._idle.set_result(None)
            self._idle = None

    def written_ago(self, now: int) -> int | None:
        """Nanoseconds since the last write ended; None: that is not known."""
        return None if self.written_ns is None else max(0, now - self.written_ns)

    async def wait_written(self) -> None:
        """Returns once no write is under way."""
        while self._writing:
            if self._idle is None:
                self._idle = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._idle)

    def set_inode(self, inode: Inode, data: bytes | None = None) -> None:
        """The file is so by now. `data`: its bytes, when it is inline and they are known."""
        if data is not None or (inode.content_id, inode.change) != (self.inode.content_id, self.inode.change):
            self.data = data
        self.inode = inode

    def on_told(self, inode: Inode, writes: int | None = None) -> None:
        """The service was told what was acknowledged, or has truncated the file, and answered with this. `writes`: those that had
        been begun when it was asked, and had all ended; None: they are still all."""
        if inode.id != self.inode.id and not self.unnamed:
            # The old content is another inode's now, one without a name, and stays this handle's.
            self.is_replaced = True
        self.set_inode(inode)
        is_cut = inode.truncations != self.truncations
        if writes is None or writes == self._writes:
            # The length that was answered counts all of them, and none that a truncation has taken away.
            self.truncations = inode.truncations
            self._acknowledged = min(self._acknowledged, inode.length)
            self._begun_end = 0
            self.modified = self.leaves_holes = False
        elif is_cut:
            # One may be from before a truncation that the answer knows of. The next length that is told must not look as if it
            # was from after it: then the service asks storage.
            self.leaves_holes = True


def check_range(offset: Any, length: int, path: str) -> int:
    """The offset as an int. InvalidArgument for a negative one or no number, FILE_TOO_LARGE when the range ends past any file."""
    if type(offset) is int and 0 <= offset <= file_bytes_max - length:
        return offset
    number = _integer(offset, "offset", path)
    if number + length > file_bytes_max:
        raise error(Code.FILE_TOO_LARGE, f"offset {number} and {length} bytes end beyond the largest file", path)
    return number


def check_length(length: Any, path: str) -> int:
    """The length as an int. InvalidArgument for a negative one or no number, FILE_TOO_LARGE beyond any file."""
    number = _integer(length, "length", path)
    if number > file_bytes_max:
        raise error(Code.FILE_TOO_LARGE, f"length {number} is beyond the largest file", path)
    return number


def _integer(value: Any, argument: str, path: str) -> int:
    try:
        number = value.__index__()
    except AttributeError:
        raise error(Code.INVALID, f"{argument} is not an integer but {type(value).__name__}", path) from None
    if number < 0:
        raise error(Code.INVALID, f"{argument} {number} is negative", path)
    return int(number)
