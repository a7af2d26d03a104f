"""Locks, flock(2) and fcntl(2), against programs of this mount and of all others.

An owner that gets a lock sees what earlier holders wrote, and what it writes is published before it gives the lock up.
"""

from __future__ import annotations

import errno
import fcntl

from fs3.api.fuse.files import FileOperations
from fs3.api.locks import LockRange
from fs3.drivers.fuse.records import KernelLock, KernelRequest
from fs3.model.lock import LOCK_END, LockKind


class LockOperations(FileOperations):
    """See `Operations`."""

    async def getlk(self, request: KernelRequest, handle: int, owner: int, lock: KernelLock, whole: bool) -> KernelLock:
        opened = self.file(handle).opened
        found = await opened.client.locks.find_conflict(opened.lock_file, owner, _range_of(lock, whole))
        if found is None:
            return lock._replace(type=fcntl.F_UNLCK)
        kind = fcntl.F_WRLCK if found.exclusive else fcntl.F_RDLCK
        return KernelLock(found.start, found.end - 1, kind, 0)

    async def setlk(self, request: KernelRequest, handle: int, owner: int, lock: KernelLock, whole: bool) -> None:
        await self._set_lock(handle, owner, lock, whole, wait=False)

    async def setlkw(self, request: KernelRequest, handle: int, owner: int, lock: KernelLock, whole: bool) -> None:
        await self._set_lock(handle, owner, lock, whole, wait=True)

    async def _set_lock(self, handle: int, owner: int, lock: KernelLock, whole: bool, *, wait: bool) -> None:
        opened = self.file(handle).opened
        await opened.publish()
        locks, wanted = opened.client.locks, _range_of(lock, whole)
        if lock.type == fcntl.F_UNLCK:
            await locks.unlock(opened.lock_file, owner, wanted)
            return
        opened.lock_owners.add(owner)
        if not await locks.acquire(opened.lock_file, owner, wanted, wait=wait, may_write=True):
            raise OSError(errno.EAGAIN, "another owner has locked it")
        # The kernel's pages are from before it: others may have written since.
        inode = await opened.refresh()
        if not self.told.open(inode) and self.notifier is not None:
            await self.notifier.forget_data(opened.id)


def _range_of(lock: KernelLock, whole: bool) -> LockRange:
    """As the services know it. The kernel lets only handles that write ask for exclusive locks of ranges."""
    is_exclusive = lock.type == fcntl.F_WRLCK
    if whole:
        return LockRange(LockKind.FLOCK, 0, LOCK_END, is_exclusive)
    return LockRange(LockKind.RANGE, lock.start, min(lock.end + 1, LOCK_END), is_exclusive)
