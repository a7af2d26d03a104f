"""Lookup: the directory entry a path names."""

from __future__ import annotations

from fs3.core.meta.context import OpContext
from fs3.core.meta.resolve import resolve_path
from fs3.core.txn import ReadTxn
from fs3.model.inode import Dirent
from fs3.model.requests import Lookup


async def lookup(txn: ReadTxn, ctx: OpContext, request: Lookup) -> Dirent:
    """Inode id and type of what a path names; a symlink in the last component is not followed."""
    place = await resolve_path(txn, ctx, request.path, follow=False)
    return place.require_dirent() if place.name else Dirent(place.directory.id, place.directory.type)
