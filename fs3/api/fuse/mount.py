"""A mount of a cluster: made, served and ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from fs3.api.client import Client
from fs3.api.fuse.attributes import AttributeOperations
from fs3.api.fuse.directories import DirectoryOperations
from fs3.api.fuse.inheritance import take_up
from fs3.api.fuse.ledger import MountLedger
from fs3.api.fuse.locks import LockOperations
from fs3.api.fuse.names import NameOperations
from fs3.api.fuse.options import FuseOptions
from fs3.api.fuse.space import SpaceOperations
from fs3.api.fuse.xattrs import XattrOperations
from fs3.base.errors import error
from fs3.base.status import Code
from fs3.base.units import KIB
from fs3.drivers.fuse.mount import is_privileged, mount, unmount
from fs3.drivers.fuse.notify import Notifier
from fs3.drivers.fuse.records import MountOptions, Negotiated
from fs3.drivers.fuse.session import Session
from fs3.model.inode import InodeType

read_ahead_bytes = 1024 * KIB
"""What the kernel asks for ahead of a reader, where this process may say so."""

TakeDevice = Callable[[], Awaitable[int]]
"""Takes over the descriptor of /dev/fuse, from when on no other process answers the kernel."""

log = logging.getLogger("fs3.fuse")


class FuseOperations(NameOperations, AttributeOperations, XattrOperations, SpaceOperations, LockOperations, DirectoryOperations):
    """All that the kernel asks of a mount of a cluster."""


class Mount:
    """One mount of one client. Belongs to the client's event loop; `close` ends both the mount and what it has open."""

    def __init__(self, directory: str, session: Session, operations: FuseOperations) -> None:
        """Made by `Mount.begin`."""
        self.directory = directory
        self._session = session
        self._operations = operations
        self._notifier = operations.notifier = Notifier(session)

    @classmethod
    async def begin(cls, client: Client, directory: str, options: FuseOptions, source: str) -> Mount:
        """Mount on a directory, and serve. `source`: shown in the table of mounts. OSError says what is missing."""
        operations = await _operations(client, options, MountLedger())
        how = MountOptions(source=source, allow_other=options.allow_other, read_only=options.read_only)
        fd = await asyncio.to_thread(mount, directory, how)
        try:
            return await cls._serve(fd, directory, operations)
        except BaseException:
            with suppress(OSError):  # it may be gone already; what failed first is what is said
                await asyncio.to_thread(unmount, directory, lazily=True)
            raise

    @classmethod
    async def take_over(
        cls, client: Client, directory: str, options: FuseOptions, ledger: MountLedger, take: TakeDevice
    ) -> Mount:
        """Serve a mount that its holder has made. What an earlier process had open is taken up before the device is."""
        operations = await _operations(client, options, ledger)
        agreed = ledger.agreed
        if agreed.major:
            await take_up(operations)
        return await cls._serve(await take(), directory, operations, agreed if agreed.major else None)

    @classmethod
    async def _serve(cls, fd: int, directory: str, operations: FuseOperations, agreed: Negotiated | None = None) -> Mount:
        session = Session(fd, operations, agreed)
        served = cls(directory, session, operations)
        try:
            found = await session.wait_ready()
            if agreed is None:
                operations.ledger.note_agreed(found)
                # The kernel is answered while this is looked at: a mount that hangs is not a mount.
                await asyncio.to_thread(_look, directory)
        except BaseException:
            await session.close()
            raise
        return served

    async def wait_ended(self) -> None:
        """Until it is unmounted."""
        await self._session.wait_ended()

    async def close(self) -> None:
        """Unmount where that is still to be done, store what was written, and end."""
        if self._session.fd >= 0:
            try:
                await asyncio.to_thread(unmount, self.directory, lazily=True)
            except OSError as wrong:
                log.info("%s: %s", self.directory, wrong)
        await self._session.close()
        self._notifier.close()
        await self._operations.close()


async def _operations(client: Client, options: FuseOptions, ledger: MountLedger) -> FuseOperations:
    """Raises NotFound and NotADirectory for what cannot be mounted."""
    client.meta.remember_attributes()
    operations = FuseOperations(client, options, ledger)
    if not ledger.root and options.path:
        # Once: what is mounted stays, wherever it is moved.
        found = await client.stat(options.path)
        if found.type is not InodeType.DIRECTORY:
            raise error(Code.NOT_A_DIRECTORY, "is not a directory", options.path)
        ledger.root = operations.root_node = found.id
    elif ledger.root:
        operations.root_node = ledger.root
    return operations


def _look(directory: str) -> None:
    found = Path(directory).stat()
    if is_privileged():
        major, minor = found.st_dev >> 8 & 0xFFF, found.st_dev & 0xFF | found.st_dev >> 12 & 0xFFF00
        try:
            Path(f"/sys/class/bdi/{major}:{minor}/read_ahead_kb").write_text(str(read_ahead_bytes // KIB), encoding="ascii")
        except OSError as wrong:
            log.info("reads ahead stay as the kernel has them: %s", wrong)
