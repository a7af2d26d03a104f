"""Locks of files: flock(2) and fcntl(2), against all programs of all mounts and clients. See docs/protocols/locks.md.

The kernel names owners by numbers of its own: a process for fcntl(2), an open file description for flock(2) and `F_OFD_SETLK`.
Who has acquired a lock sees what earlier holders wrote: the kernel's pages go when the file has changed elsewhere. Who gives one
up has stored what it wrote before. Memory that is mapped is not part of that, as on any network file system: msync(2) is.
"""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Awaitable
from contextlib import suppress

from fs3.api.client import Client
from fs3.api.file import File
from fs3.api.fuse.files import FileHandle, FileOperations
from fs3.api.fuse.ledger import MountLedger
from fs3.api.fuse.options import FuseOptions
from fs3.api.locks import LockRange
from fs3.base.ids import InodeId
from fs3.drivers.fuse.records import KernelLock, KernelRequest
from fs3.model.lock import LOCK_END, LockKind

_FREE = KernelLock(0, LOCK_END - 1, fcntl.F_UNLCK, 0)


class LockOperations(FileOperations):
    """See `Operations`."""

    def __init__(self, client: Client, options: FuseOptions, ledger: MountLedger | None = None) -> None:
        super().__init__(client, options, ledger)
        client.locks.on_held = self.ledger.set_locks
        self._range_owners: dict[InodeId, set[int]] = {}
        """Of files, the numbers of the owners that may hold ranges."""

    async def getlk(self, request: KernelRequest, handle: int, owner: int, lock: KernelLock, whole: bool) -> KernelLock:
        file = self.file(handle)
        found = await self.client.locks.find_conflict(_lock_file(file), None if whole else owner, _range(lock, whole))
        if found is None:
            return _FREE
        kind = fcntl.F_WRLCK if found.exclusive else fcntl.F_RDLCK
        # The process of another machine has no number here.
        return KernelLock(found.start, found.end - 1, kind, found.process)

    async def setlk(self, request: KernelRequest, handle: int, owner: int, lock: KernelLock, whole: bool) -> None:
        await self._set(request, handle, owner, lock, whole, wait=False)

    async def setlkw(self, request: KernelRequest, handle: int, owner: int, lock: KernelLock, whole: bool) -> None:
        await self._set(request, handle, owner, lock, whole, wait=True)

    async def _set(self, request: KernelRequest, handle: int, owner: int, lock: KernelLock, whole: bool, *, wait: bool) -> None:
        file = self.file(handle)
        held, number, want = _lock_file(file), None if whole else owner, _range(lock, whole)
        if lock.type == fcntl.F_UNLCK:
            # What cannot be stored is told by the next write, sync or close, and is no reason to keep others waiting.
            with suppress(OSError):
                await file.opened.publish()
            await self.client.locks.unlock(held, number, want)
            return
        if not whole:
            self._range_owners.setdefault(file.opened.id, set()).add(owner)

        async def learn(_: File) -> None:
            await self.show(file.opened, await file.opened.learn())

        place, _ = self.ledger.begin_request(request.unique, self.client.meta.seqs) if wait else (0, False)
        try:
            is_held = await self.client.locks.acquire(
                held, number, want, wait=wait, learn=learn, place_in_line=place, process=lock.pid
            )
        finally:
            if place:
                self.ledger.end_request(request.unique)
        if not is_held:
            raise OSError(errno.EAGAIN, "the lock is not free")

    def inherit_locks(self) -> None:
        """What an earlier process held."""
        for place, locks in self.ledger.inheritance.locks.items():
            opened = self._files.get(place.number) if place.by_handle else None
            self.client.locks.inherit(place, tuple(locks), _lock_file(opened) if opened is not None else None)
            if not place.by_handle:
                self._range_owners.setdefault(place.inode, set()).add(place.number)

    def flush(self, request: KernelRequest, handle: int, owner: int) -> Awaitable[None] | None:
        stored = super().flush(request, handle, owner)
        file = self.file(handle)
        if owner not in self._range_owners.get(file.opened.id, ()):
            return stored
        return self._flush_and_unlock(stored, file, owner)

    async def _flush_and_unlock(self, stored: Awaitable[None] | None, file: FileHandle, owner: int) -> None:
        """A process that has closed any descriptor of a file holds no range of it any more, as close(2) says."""
        try:
            if stored is not None:
                await stored
        finally:
            self._range_owners.get(file.opened.id, set()).discard(owner)
            await self.client.locks.release_owner(_lock_file(file), owner)

    def release(self, request: KernelRequest, handle: int, owner: int | None) -> Awaitable[None] | None:
        file = self.file(handle)
        stored = super().release(request, handle, owner)
        if stored is not None or file.lock_file is not None or self._range_owners:
            return self._release_and_unlock(stored, file)
        return None

    async def _release_and_unlock(self, stored: Awaitable[None] | None, file: FileHandle) -> None:
        try:
            if stored is not None:
                await stored
        finally:
            if file.lock_file is not None:
                file.lock_file.closed = True
                await self.client.locks.release(file.lock_file)
            if not file.opened.handles:
                self._range_owners.pop(file.opened.id, None)


def _lock_file(file: FileHandle) -> File:
    """Stands for a handle where locks are asked for."""
    if file.lock_file is None:
        file.lock_file = File(file.opened.inode, file.opened.file.path)
        file.lock_file.lock_number = file.number
    return file.lock_file


def _range(lock: KernelLock, whole: bool) -> LockRange:
    is_exclusive = lock.type == fcntl.F_WRLCK
    if whole:
        return LockRange(LockKind.FLOCK, 0, LOCK_END, is_exclusive)
    if lock.start > lock.end or lock.end >= LOCK_END:
        raise OSError(errno.EINVAL, f"a lock of the bytes from {lock.start} to {lock.end} is none")
    return LockRange(LockKind.RANGE, lock.start, lock.end + 1, is_exclusive)
