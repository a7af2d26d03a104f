"""The exception of metadata operations: why the request cannot be granted. Its transaction leaves no trace."""

from __future__ import annotations

from fs3.base.ids import InodeId
from fs3.base.status import Code


class MetaError(Exception):
    """An operation is refused. The service answers its caller with `code` and `message`; `path` is for logs and clients."""

    __slots__ = ("code", "message", "path")

    def __init__(self, code: Code, message: str, path: str = "") -> None:
        super().__init__(code, message, path)
        self.code = code
        self.message = message
        """One sentence without the path."""
        self.path = path
        """What the caller named, as it was named; empty when the request has no path."""

    def __str__(self) -> str:
        return f"{self.message}: {self.path!r}" if self.path else self.message


class TrimOutstanding(MetaError):
    """The length would rise, and a truncation has not cut all chunks yet: bytes from before it would come back. The service
    finishes it, and runs the operation again."""

    __slots__ = ("inode",)

    def __init__(self, inode: InodeId) -> None:
        super().__init__(Code.BUSY, f"a truncation of inode {inode} is under way")
        self.inode = inode


class MoveOutstanding(MetaError):
    """The bytes of the file are inline, and what is asked for needs them in storage. The service moves them, and runs the
    operation again."""

    __slots__ = ("inode",)

    def __init__(self, inode: InodeId) -> None:
        super().__init__(Code.BUSY, f"the bytes of inode {inode} have to be moved to storage first")
        self.inode = inode


class LengthUnknown(MetaError):
    """A writer tells a length from before the file was made shorter. What it wrote before that is gone, what it wrote since is
    not, and only storage knows which is which: the service asks it, and runs the operation again with its answer."""

    __slots__ = ("inode",)

    def __init__(self, inode: InodeId) -> None:
        super().__init__(Code.BUSY, f"inode {inode} was truncated meanwhile, storage has to be asked for its length")
        self.inode = inode
