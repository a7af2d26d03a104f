"""List: a directory, page by page."""

from __future__ import annotations

from fs3.base.limits import list_entries_max, name_bytes_max
from fs3.base.names import is_utf8, to_bytes, to_text
from fs3.base.status import Code
from fs3.core.meta import keys, rows
from fs3.core.meta.access import EXECUTE, READ, require
from fs3.core.meta.context import OpContext
from fs3.core.meta.errors import MetaError
from fs3.core.meta.resolve import check_text, resolve_directory
from fs3.core.txn import ReadTxn
from fs3.model.namespace import Entry, Listing
from fs3.model.requests import List


async def list_directory(txn: ReadTxn, ctx: OpContext, request: List) -> Listing:
    """At most `limit` entries that come after the name `after`; limit 0 or beyond it means `list_entries_max`.

    A page costs what it holds, however large the directory is. `after` need not exist (any more), so entries that are there
    during the whole of a listing appear exactly once, whatever happens between its pages.
    """
    path, after, limit, with_inodes = request.path, request.after, request.limit, request.with_inodes
    directory = await resolve_directory(txn, ctx, path)
    require(ctx.user, directory, READ | EXECUTE if with_inodes else READ, path.path)
    check_text(after, path.path)
    cursor = to_bytes(after)
    if len(cursor) > name_bytes_max:
        raise MetaError(Code.NAME_TOO_LONG, f"no name is longer than {name_bytes_max} bytes, the cursor is", path.path)
    count = min(limit, list_entries_max) if limit > 0 else list_entries_max
    found = await txn.scan(*keys.dirents_range(directory.id, cursor), count + 1)
    page = found[:count]
    names = [to_text(key[keys.NAME_AT :]) for key, _ in page]
    if not request.raw_names and not is_utf8("".join(names)):
        raise MetaError(Code.UNSUPPORTED, "names in the directory are not UTF-8, and the client is too old for them", path.path)
    dirents = [rows.decode_dirent(key, row) for key, row in page]
    inodes = await rows.get_inodes(txn, [dirent.inode for dirent in dirents]) if with_inodes else [None] * len(page)
    entries = [Entry(name, dirent.inode, dirent.type, inode) for name, dirent, inode in zip(names, dirents, inodes, strict=True)]
    return Listing(entries, len(found) > count)
