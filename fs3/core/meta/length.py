"""The length of a file: what its writers know they were acknowledged.

A writer tells the largest end offset of its acknowledged writes when it closes or syncs, and the length becomes at least
that. So a close is one small transaction. Storage is asked only after a writer died without closing, or when a client has
truncated the file since the writer opened it: `truncations` in the inode counts that, and writers say which count they know.
While a truncation has not cut all chunks (`Inode.trim`) no length grows: see docs/protocols/truncation.md.
"""

from __future__ import annotations

from msgspec.structs import replace

from fs3.base.limits import file_bytes_max
from fs3.base.status import Code
from fs3.core.meta.context import OpContext
from fs3.core.meta.errors import LengthUnknown, MetaError, TrimOutstanding
from fs3.core.meta.grants import without_privileges
from fs3.core.meta.inline import check_moved
from fs3.model.inode import Inode, Trim


def check_length(length: int, inode: int) -> None:
    """Raises INVALID or FILE_TOO_LARGE for what cannot be the length of a file."""
    if length < 0:
        raise MetaError(Code.INVALID, f"length {length} of inode {inode} is negative")
    if length > file_bytes_max:
        raise MetaError(Code.FILE_TOO_LARGE, f"length {length} of inode {inode} is more than {file_bytes_max}")


def with_written_length(
    ctx: OpContext,
    inode: Inode,
    length: int | None,
    modified: bool,
    truncations: int | None = None,
    *,
    keep_mtime: bool = False,
    written_ago_ns: int | None = None,
    leaves_holes: bool = False,
) -> Inode:
    """A file after a writer told what it wrote; the same object when that changes nothing.

    `truncations`: those the writer knows of. LengthUnknown when there was another one since and the length would rise,
    TrimOutstanding when it would while chunks may still hold bytes from before a truncation, MoveOutstanding when the bytes are
    inline: no session writes chunks of such a file. `keep_mtime`: it was set after what was written. `written_ago_ns`: how long
    before the request the last write ended; an mtime that any client has set since then stays. `leaves_holes`: there may be a
    hole that was none before.
    """
    longer = length is not None and length > inode.length
    if length is not None:
        check_length(length, inode.id)
    if longer:
        check_moved(inode)
    if longer and inode.trim is not None:
        raise TrimOutstanding(inode.id)
    if longer and truncations is not None and truncations != inode.truncations:
        raise LengthUnknown(inode.id)
    if not longer and not modified:
        return inode
    return replace(
        without_privileges(ctx.user, inode),
        length=length if longer else inode.length,
        append=None if longer else inode.append,
        mtime_ns=inode.mtime_ns if keep_mtime or _is_set_since(ctx, inode, written_ago_ns) else ctx.wall_ns,
        ctime_ns=ctx.wall_ns,
        change=inode.change + 1,
        has_holes=inode.has_holes or leaves_holes,
    )


def _is_set_since(ctx: OpContext, inode: Inode, written_ago_ns: int | None) -> bool:
    """The mtime was set after a write that ended so long ago. On its way the request gets older, so a write looks later than it
    was, never earlier. A clock that was set back since has nothing to say."""
    if written_ago_ns is None:
        return False
    return ctx.wall_ns - written_ago_ns < inode.mtime_set_ns <= ctx.wall_ns


def with_truncated_length(ctx: OpContext, inode: Inode, length: int) -> Inode:
    """A file after truncation to `length`; what is stored behind that is from before it, and still to be cut.

    A longer length only moves the end, and cuts nothing: what others were acknowledged there stays. TrimOutstanding as for
    writers; MoveOutstanding for an inline file, which `fs3.core.meta.inline` truncates.
    """
    check_length(length, inode.id)
    check_moved(inode)
    longer = length > inode.length
    if longer and inode.trim is not None:
        raise TrimOutstanding(inode.id)
    # Also when the recorded length stays: there may be bytes behind it that no close has told of.
    count = inode.truncations + (not longer)
    return replace(
        without_privileges(ctx.user, inode),
        length=length,
        mtime_ns=ctx.wall_ns,
        ctime_ns=ctx.wall_ns,
        change=inode.change + 1,
        truncations=count,
        trim=None if longer else Trim(count, length),
        append=None,
        has_holes=longer or (inode.has_holes and length > 0),
    )
