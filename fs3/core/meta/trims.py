"""Truncations that have not cut all chunks yet. See docs/protocols/truncation.md.

A truncation makes the length small in a first transaction, which also leaves `Inode.trim` and a TRIM row. Then storage is cut,
by the first that comes to it: the service that was asked, one that wants the file to grow, or the duty. A second transaction
ends it.
"""

from __future__ import annotations

from msgspec.structs import replace

from fs3.base.ids import InodeId
from fs3.core.meta import keys, rows
from fs3.core.meta.errors import TrimOutstanding
from fs3.core.txn import ReadTxn, Txn
from fs3.model.inode import Inode


def put_truncated(txn: Txn, inode: Inode) -> None:
    """Stores a file after `with_truncated_length`."""
    rows.put_inode(txn, inode)
    if inode.trim is not None:
        txn.put(keys.trim_key(inode.id), rows.encode(inode.trim))


def check_trimmed(inode: Inode) -> None:
    """Raises TrimOutstanding where a writer would learn of a truncation that is still cutting: what it writes next might be cut,
    and its length would count all the same."""
    if inode.trim is not None:
        raise TrimOutstanding(inode.id)


async def finish_trim(txn: Txn, inode: InodeId, cut: Inode | None) -> Inode | None:
    """Storage has done what the `trim` of the file says, as it was in `cut`. Nothing happens when there was another truncation
    since, or the file has got another content. None: the file is gone."""
    found = await rows.find_inode(txn, inode)
    if found is None or found.trim is None:
        txn.delete(keys.trim_key(inode))
    elif cut is not None and (found.trim, found.content_id) == (cut.trim, cut.content_id):
        # With another `change`: who has looked at storage in between (fsck) must not believe what it saw.
        found = replace(found, trim=None, change=found.change + 1)
        rows.put_inode(txn, found)
        txn.delete(keys.trim_key(inode))
    return found


async def list_trims(txn: ReadTxn, after: InodeId | None, limit: int) -> list[InodeId]:
    """At most `limit` files with a truncation that is not finished, in the order of their ids, that come after one."""
    begin = keys.TRIM if after is None else keys.trim_key(after) + b"\0"
    return [keys.inode_of_trim(key) for key, _ in await txn.scan(begin, keys.end_of(keys.TRIM), limit)]
