"""Taking up what an earlier process of the mount had open, before the kernel is answered again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from msgspec.structs import replace

from fs3.api.file import READ_ONLY, File
from fs3.api.fuse.files import FileHandle
from fs3.api.fuse.ledger import OpenFlags, OpenRecord
from fs3.api.fuse.locks import LockOperations
from fs3.api.fuse.open_inode import OpenInode
from fs3.base.errors import FS3Error
from fs3.base.ids import InodeId, SessionId, TableId
from fs3.base.limits import chunk_bytes_default, open_contents_per_request_max
from fs3.base.status import Code
from fs3.model.inode import Inode, InodeType, Layout
from fs3.model.namespace import OpenResult, PathRef
from fs3.model.requests import Open, Stat, Sync

log = logging.getLogger("fs3.fuse")

_ENDED = (Code.NO_SESSION, Code.STALE, Code.NOT_FOUND)
_NOT_KEPT = "bytes that were written were lost with the process that served the mount"


async def take_up(operations: LockOperations) -> None:
    """Handles, files, locks and bytes that are in the ledger. Raises FS3Error when the services do not answer."""
    left = operations.ledger.inheritance
    records = list(left.opens.values())
    for begin in range(0, len(records), open_contents_per_request_max):
        await _take_up_files(operations, records[begin : begin + open_contents_per_request_max])
    for handle in left.handles:
        opened = operations.inodes.get(handle.node)
        if opened is None:
            operations.ledger.remove_handle(handle.number)
            continue
        operations.inherit_handle(FileHandle(opened, handle.writes, handle.number, handle.appends), handle.unique)
    operations.inherit_locks()
    for node, opened in list(operations.inodes.items()):
        await _take_up_bytes(operations, left.opens[node], opened)
    operations.ledger.give_cells(left.cells)
    unused = [opened for opened in operations.inodes.values() if not opened.handles]
    await asyncio.gather(*(operations.finish(opened) for opened in unused))
    if records:
        log.info("%d files with %d handles are taken up from the process before", len(records), len(left.handles))


async def _take_up_files(operations: LockOperations, records: Sequence[OpenRecord]) -> None:
    meta = operations.client.meta
    with_sessions = [record for record in records if record.session]
    ended = set()
    for record, answer in zip(
        with_sessions, await meta.batch([Sync(one.content, one.session) for one in with_sessions]), strict=True
    ):
        if isinstance(answer, FS3Error):
            if answer.code not in _ENDED:
                raise answer
            # By the process before, which did not live to hear it; or because the services took the mount for dead.
            ended.add(record.node)
    for record, answer in zip(
        records, await meta.batch([Open(PathRef(one.node, ""), want_data=True) for one in records]), strict=True
    ):
        now = record._replace(session=READ_ONLY) if record.node in ended else record
        found = answer if isinstance(answer, OpenResult) else await _look(operations, now, answer)
        operations.inodes[record.node] = _opened(operations, now, found)


async def _look(operations: LockOperations, record: OpenRecord, failure: FS3Error) -> OpenResult:
    """The file, where it may not be read, or is gone."""
    here = PathRef(record.node, "")
    if failure.code is Code.ACCESS:
        try:
            return OpenResult(await operations.client.meta.ask(Stat(here, follow=False)), READ_ONLY)
        except FS3Error as wrong:
            failure = wrong
    if failure.code not in _ENDED:
        raise failure
    return OpenResult(_gone(record), READ_ONLY)


def _gone(record: OpenRecord) -> Inode:
    """Stands for a file that nothing is known of any more but that it was open."""
    times = (0, 0, 0, 0)
    layout = Layout(TableId(0), chunk_bytes_default, 1)
    return Inode(record.node, InodeType.FILE, 0, 0, 0, 0, 0, *times, 0, InodeId(0), layout, content=record.content)


def _opened(operations: LockOperations, record: OpenRecord, found: OpenResult) -> OpenInode:
    # What has no session has the bytes that the file has now.
    is_replaced = bool(record.session) and found.inode.content_id != record.content
    inode = replace(found.inode, content=record.content) if is_replaced else found.inode
    data = None if record.session else found.data
    file = _file(operations, inode, record.session, data)
    if record.session:
        file.is_replaced = is_replaced
        file.unnamed = bool(record.flags & OpenFlags.UNNAMED)
        file.begin_write()
        file.end_write(record.acknowledged, changed=bool(record.flags & OpenFlags.MODIFIED))
        file.modified = bool(record.flags & OpenFlags.MODIFIED)
        file.leaves_holes = file.modified  # where it was written is not known
        file.mtime_is_set = bool(record.flags & OpenFlags.MTIME_IS_SET)
        file.truncations = record.truncations
    is_removed = bool(record.flags & OpenFlags.REMOVED) or not inode.nlink
    return OpenInode(operations.client, operations.told, file, operations.ledger, is_removed=is_removed)


def _file(operations: LockOperations, inode: Inode, session: SessionId, data: bytes | None, *, appends: bool = False) -> File:
    path = f"inode {inode.id}"
    if not session:
        return File(inode, path, data=data)
    return operations.client.inherit(OpenResult(inode, session), path, appends=appends)


async def _take_up_bytes(operations: LockOperations, record: OpenRecord, opened: OpenInode) -> None:
    left = operations.ledger.inheritance
    appender = _file(operations, opened.inode, record.appender, None, appends=True) if record.appender else None
    lost = _NOT_KEPT if record.flags & OpenFlags.NOT_KEPT else ""
    attributes = left.attributes.get(opened.id)
    try:
        await opened.inherit(left.blocks.get(opened.id, []), left.wholes.get(opened.id), attributes, appender, lost)
    except OSError as wrong:
        log.error("inode %d: bytes that the process before had taken are lost: %s", opened.id, wrong)
        await opened.inherit([], None, attributes, appender, _NOT_KEPT)
