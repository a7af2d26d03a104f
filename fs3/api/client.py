"""The native client: files and names of one cluster, as coroutines.

    async with await fs3.connect("fs3://127.0.0.1:8000") as client:
        file = await client.open("/data/part-0", "w")
        await client.pwrite(file, b"...", 0)        # durable on every replica when it returns
        await client.close(file)                    # its length is what every later open and stat sees

Paths start at the root, with or without a leading slash. Errors are `OSError`s of the usual kinds with the path as `filename`.

What a client can be asked is in files by what it is about: `client_open`, `client_bytes`, `client_close`, `client_space`,
`namespace`, `attributes`, `xattrs`, `locks`, `registration`, `metrics`. Here is what those share, and how it begins and ends.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Self

from fs3.api.access_times import AccessTimes
from fs3.api.append import Appender
from fs3.api.attributes import AttributeCalls
from fs3.api.client_bytes import ByteCalls
from fs3.api.client_refresh import RefreshCalls
from fs3.api.client_space import SpaceVerbs
from fs3.api.data import FileData
from fs3.api.file import File
from fs3.api.locks import FileLocks, LockCalls
from fs3.api.metrics import MetricCalls
from fs3.api.namespace import NameCalls
from fs3.api.registration import BufferCalls
from fs3.api.session_ends import SessionEnds
from fs3.api.small_files import SmallFiles
from fs3.api.space import FileSpace
from fs3.api.xattrs import XattrMethods
from fs3.base.errors import error
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.client.meta.client import MetaClient
from fs3.client.mgmtd.client import MgmtdClient
from fs3.client.storage.client import StorageClient
from fs3.model.inode import User
from fs3.model.namespace import RenameMode
from fs3.model.requests import TIME_NOW
from fs3.runtime.metric_sources import MetricSources
from fs3.runtime.tasks import TaskSet

__all__ = ["EXCHANGE", "NOREPLACE", "REPLACE", "TIME_NOW", "Client", "File"]

REPLACE = RenameMode.REPLACE
NOREPLACE = RenameMode.NOREPLACE
EXCHANGE = RenameMode.EXCHANGE

CLOSE_PATIENCE_NS = 5 * SECOND
"""How long closing a client waits for the sessions it still has."""

users_kept_max = 1024
"""Views of one client for other users that are kept for the next call, those asked for last."""

log = logging.getLogger("fs3.client")


class Client(NameCalls, AttributeCalls, XattrMethods, SpaceVerbs, LockCalls, MetricCalls, BufferCalls, ByteCalls, RefreshCalls):
    """One connection to a cluster. Belongs to one event loop; any number of coroutines may use it at once."""

    def __init__(
        self,
        manager: MgmtdClient,
        meta: MetaClient,
        storage: StorageClient,
        disconnect: Callable[[], Awaitable[None]],
        *,
        umask: int = 0o022,
        relatime: bool = False,
        sources: MetricSources | None = None,
    ) -> None:
        """Made by `fs3.connect`. `disconnect` closes what the three parts share; `umask` is taken off the modes of new files,
        but where a default ACL says what they get; `relatime`: reads bring access times up to date; `sources`: of `metrics`."""
        self.sources = sources or MetricSources()
        self.manager = manager
        """Routing, and what the management service can be asked."""
        self.meta = meta
        """The namespace's verbs as they are on the wire."""
        self.storage = storage
        """Chunk IO."""
        self._disconnect = disconnect
        self._umask = umask
        self._data = FileData(storage, self._refresh)
        self._space = FileSpace(storage, self._data, self._refresh, self.fsync)
        self._appender = Appender(meta, storage, self._data.write_budget)
        self.locks = FileLocks(meta, self.fsync, self._refresh)
        self.small_files = SmallFiles(self)
        """Of many coroutines, each with one small file, together."""
        self._accesses = AccessTimes(meta.clock) if relatime else None
        self._sessions: dict[File, None] = {}
        """In the order in which they were opened: they are walked, and a set's order would be that of addresses."""
        self._session_ends = SessionEnds(meta)
        self._tasks = TaskSet()
        meta.on_return(lambda: self._tasks.start(self._check_sessions()))
        self._closed = False
        self._of: Client | None = None
        self._views: dict[tuple[User, int], Client] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _check_use(self) -> None:
        if self.closed:
            raise error(Code.INVALID, "the client is closed")

    async def aclose(self) -> None:
        """End the sessions that are still open (unnamed files vanish), give up all locks, then disconnect. A view of another user
        (`as_user`) is closed with the client that it is of, and not before."""
        if self._closed or self._of is not None:
            return
        self._closed = True
        await self._tasks.cancel()
        try:
            if self._accesses is not None:
                await self._accesses.close()
            ending: list[Awaitable[object]] = [self.close(file, discard=file.unnamed) for file in list(self._sessions)]
            if self.meta.readers.has_sessions:
                ending.append(self.meta.readers.end())
            async with asyncio.timeout(CLOSE_PATIENCE_NS / SECOND):
                for outcome in await asyncio.gather(*ending, return_exceptions=True):
                    if isinstance(outcome, Exception):
                        log.info("a session was left to its lease: %s", outcome)
                await self._session_ends.flush()
        except TimeoutError:
            log.info("sessions were left to their lease: no answer")
        finally:
            await self._session_ends.stop()
            try:
                await self.locks.close()
            finally:
                await self._disconnect()

    def as_user(self, uid: int, gid: int, groups: Sequence[int] = (), *, umask: int | None = None) -> Client:
        """This client, asking for another user: permissions are checked for that one, who owns what is created. All else is
        shared, connections, open files, sessions and their keep-alive: a file may be opened by one and written and closed by
        another, as a file descriptor is passed on. To ask again costs little. `umask` None: that of this client. InvalidArgument
        for more than 1024 supplementary groups.

        Who may ask for whom is not checked here: a process that connects names its user itself."""
        client = self._of or self
        key = User(uid, gid, tuple(groups)), self._umask if umask is None else umask
        view = client._views.pop(key, None)
        if view is None:
            view = copy.copy(client)
            view._of = client
            view.meta = client.meta.as_user(key[0])
            view._umask = key[1]
            view._data = client._data.with_refresh(view._refresh)
            view._appender = client._appender.with_meta(view.meta)
            view.small_files = SmallFiles(view)
            if len(client._views) >= users_kept_max:
                del client._views[next(iter(client._views))]
        client._views[key] = view  # the one asked for last is dropped last
        return view
