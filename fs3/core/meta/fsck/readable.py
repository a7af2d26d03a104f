"""Rows that can be read, and those that cannot: a problem that is said once, of the row itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fs3.base.ids import InodeId
from fs3.core.meta import rows
from fs3.core.meta.errors import MetaError
from fs3.core.txn import ReadTxn
from fs3.model.check import CheckPage, Problem, ProblemKind
from fs3.model.inode import Inode

Found = Sequence[tuple[bytes, bytes]]
"""Rows of a page, with their keys."""

DecodeRow = Callable[[bytes, bytes], object]
"""(key, row) -> what the row says; MetaError when it cannot be read."""


async def find_readable_inode(txn: ReadTxn, inode: InodeId) -> Inode | None:
    """The inode with an id; None as well for one whose row cannot be read, which is a problem of its own."""
    try:
        return await rows.find_inode(txn, inode)
    except MetaError:
        return None


def check_readable(page: CheckPage, found: Found, decode: DecodeRow) -> None:
    """Says which of these rows cannot be read."""
    for key, row in found:
        try:
            decode(key, row)
        except MetaError:
            page.problems.append(Problem(ProblemKind.UNREADABLE, 0, key=key))
