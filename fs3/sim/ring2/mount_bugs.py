"""Planted bugs of the mount, and what they exchange: see `fs3.sim.ring2.bugs`."""

from __future__ import annotations

import asyncio
import fcntl
from contextlib import suppress
from typing import Any

from fs3.api.fuse import open_publish
from fs3.api.fuse.append_end import NotedAppendEnd
from fs3.api.fuse.attributes import AttributeOperations
from fs3.api.fuse.dirty_blocks import DirtyBlocks
from fs3.api.fuse.files import FileHandle, FileOperations
from fs3.api.fuse.locks import LockOperations
from fs3.api.fuse.open_inode import OpenInode
from fs3.api.fuse.recent_lookups import RecentLookups
from fs3.api.fuse.told_changes import ToldChanges
from fs3.api.fuse.whole_file import WholeFile
from fs3.drivers.fuse.records import KernelLock, KernelRequest
from fs3.model.inode import Inode
from fs3.model.requests import Put
from fs3.sim.ring2.service_bug import ServiceBug


def keep_always(self: ToldChanges, inode: Inode, handle: int) -> bool:
    """Pages stay if there may be any."""
    is_known = inode.id in self._changes
    self._changes[inode.id] = inode.change
    return is_known


def count_any_change(self: ToldChanges, after: Inode) -> None:
    """What comes with an own change counts as told, whatever came in between."""
    if after.id in self._changes:
        self._changes[after.id] = after.change


def open_and_drop(self: ToldChanges, inode: Inode, handle: int) -> bool:
    """Pages that are to go count as gone before the kernel has heard of it."""
    is_same = self.is_as_told(inode)
    self._changes[inode.id] = inode.change
    return is_same


async def drain_and_drop(self: DirtyBlocks) -> None:
    """What cannot be stored is given up, and told once."""
    self._send()
    await self._wait(self._blocks)
    failure, self._failure = self._failure, None
    if failure is not None:
        self.drop()
        raise OSError(failure.errno, failure.strerror)


def note_nothing(self: OpenInode) -> None:
    """When a program writes is not noted."""


def length_of_storage(self: OpenInode) -> int:
    """What is still gathered does not count."""
    return len(self._whole.data) if self._whole is not None else self.file.length


async def close_at_once(self: OpenInode) -> None:
    """A close does not wait for what was written."""
    asyncio.get_running_loop().create_task(_close_later(self))


async def _close_later(opened: OpenInode) -> None:
    with suppress(OSError):
        await _real_close_writer(opened)


_real_close_writer = OpenInode.close_writer


async def append_and_keep(self: FileOperations, request: KernelRequest, file: FileHandle, data: memoryview, expected: int) -> int:
    """The page in which a file ended stays, without what was appended."""
    _, inode = await file.opened.append(data, NotedAppendEnd(self.client.meta, self.ledger, request.unique))
    self.told.change(inode)
    return len(data)


def put_over(inode: Any, data: bytes, *, change: int = 0) -> Put:
    """A small file is stored whole, whatever became of it meanwhile."""
    return Put(inode, data)


def all_was_written(self: WholeFile) -> list[tuple[int, memoryview]]:
    """What leaves memory are all bytes of a file, not those that were written."""
    return [(0, memoryview(bytes(self.data)))] if self._written else []


def cut_later(self: WholeFile, length: int) -> None:
    """What was written behind the new end is written all the same when the file leaves memory."""
    written = list(self._written)
    _real_cut(self, length)
    self._written = written
    if self.cut is not None:
        self.cut = None


_real_cut = WholeFile.truncate


async def show_nothing(self: FileOperations, opened: OpenInode, inode: Inode) -> None:
    """The kernel keeps its pages when a lock was acquired, or a longer file is told."""


async def unlock_first(
    self: LockOperations, request: KernelRequest, handle: int, owner: int, lock: KernelLock, whole: bool
) -> None:
    """A lock is given up without storing what was written under it."""
    file = self.file(handle)
    if lock.type == fcntl.F_UNLCK and file.lock_file is not None:
        await self.client.locks.release(file.lock_file)
        return
    await _real_setlkw(self, request, handle, owner, lock, whole)


_real_setlkw = LockOperations.setlkw


def no_overlap(self: DirtyBlocks, start: int, end: int) -> bool:
    """A read does not look at what was written and is not stored."""
    return False


async def truncate_beside(self: OpenInode, length: int, *, is_open: bool) -> None:
    """A truncation leaves what was gathered, which is stored later."""
    publish = self._publish
    self._publish = _publish_nothing  # type: ignore[method-assign]
    try:
        await _real_truncate(self, length, is_open=is_open)
    finally:
        self._publish = publish  # type: ignore[method-assign]


async def _publish_nothing(*, ends: bool = False) -> None:
    pass


_real_truncate = OpenInode.truncate


async def punch_beside(self: OpenInode) -> None:
    """A hole is made beside what was gathered, which fills it later."""
    await self._leave_whole()
    await self._begin_session()


def follow_backward(self: OpenInode, inode: Inode, data: bytes | None) -> None:
    """A session does not learn of truncations by others."""
    if inode.content_id == self.file.inode.content_id and inode.truncations != self.file.inode.truncations and self.file.session:
        return
    _real_set_fresh(self, inode, data)


_real_set_fresh = OpenInode._set_fresh


def believe_old_look_ups(self: RecentLookups) -> None:
    """What was looked up before a change counts after it."""


MOUNT_BUGS: dict[str, ServiceBug] = {
    "keeps_changed_pages": ServiceBug(
        "a kernel keeps its pages of a file that another client has changed (KEEP_CACHE)",
        [(ToldChanges, "open", keep_always)],
        scene="programs_write_one_file",
    ),
    "told_by_own_close": ServiceBug(
        "an own close counts as all that the kernel has to be told, although another client changed the file in between",
        [(ToldChanges, "change", count_any_change)],
        scene="programs_write_one_file",
    ),
    "drops_before_it_hears": ServiceBug(
        "pages that a kernel is to drop count as gone before it has heard of it",
        [(ToldChanges, "open", open_and_drop)],
        scene="programs_open_at_once",
    ),
    "failed_flush_drops": ServiceBug(
        "what a flush could not store is given up, and told once",
        [(DirtyBlocks, "drain", drain_and_drop)],
        scene="a_flush_that_fails",
    ),
    "length_of_storage": ServiceBug(
        "the length of what is written and not stored is not counted",
        [(OpenInode, "length", property(length_of_storage))],
        scene="programs_take_turns_by_opening",
    ),
    "closes_at_once": ServiceBug(
        "a close does not wait until what was written is stored",
        [(OpenInode, "close_writer", close_at_once)],
        scene="a_flush_that_fails",
    ),
    "appends_beside_pages": ServiceBug(
        "the page in which a file ended stays when something is appended",
        [(FileOperations, "_append", append_and_keep)],
        scene="programs_append_on_mounts",
    ),
    "puts_over_others": ServiceBug(
        "a small file is stored whole although another client has changed it meanwhile",
        [(open_publish, "Put", put_over)],
        scene="programs_write_small_files",
    ),
    "writes_what_it_read": ServiceBug(
        "a small file that others write as well is written with all bytes that were read, not those that were written",
        [(WholeFile, "written", all_was_written)],
        scene="programs_write_small_files",
    ),
    "cuts_later": ServiceBug(
        "what a truncation has taken away is written when a file leaves memory",
        [(WholeFile, "truncate", cut_later)],
        scene="what_is_written_and_not_stored",
    ),
    "truncates_beside": ServiceBug(
        "a truncation leaves what was written and is not stored, which is stored later",
        [(OpenInode, "truncate", truncate_beside)],
        scene="programs_take_turns_by_opening",
    ),
    "punches_beside": ServiceBug(
        "a hole is made beside what was written and is not stored, which fills it later",
        [(OpenInode, "_write_by_session", punch_beside)],
        scene="programs_take_turns_by_opening",
    ),
    "reads_beside": ServiceBug(
        "a read does not see what was written and is not stored",
        [(DirtyBlocks, "overlap", no_overlap)],
        scene="what_is_written_and_not_stored",
    ),
    "shows_nothing": ServiceBug(
        "a kernel keeps its pages when its program acquires a lock, or asks for the length",
        [(FileOperations, "show", show_nothing)],
        scene="programs_take_turns_by_locking",
    ),
    "follows_with_zeros": ServiceBug(
        "a kernel that is told that an open file has become longer takes the rest of its last page for zeros",
        [(AttributeOperations, "show", show_nothing)],
        scene="a_file_is_followed",
    ),
    "opens_as_looked_up": ServiceBug(
        "a file is opened as a look-up found it, although the same mount has changed it since",
        [(RecentLookups, "forget", believe_old_look_ups)],
        scene="a_look_up_is_old",
    ),
    "forgets_when_it_wrote": ServiceBug(
        "a mount does not say when a program wrote last, so an mtime that another client has set since then is replaced",
        [(OpenInode, "_on_written", note_nothing)],
        scene="others_set_times_of_what_a_program_writes",
    ),
    "unlocks_first": ServiceBug(
        "a lock is given up before what was written under it is stored",
        [(LockOperations, "setlkw", unlock_first)],
        scene="programs_take_turns_by_locking",
    ),
    "keeps_what_was_cut": ServiceBug(
        "who has a file open for writing does not learn that another client has truncated it",
        [(OpenInode, "_set_fresh", follow_backward)],
        scene="programs_take_turns_by_locking",
    ),
}
