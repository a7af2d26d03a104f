"""The embedded services of a directory: one set per process, on an event loop and in a thread of their own.

Clients come from any loop and thread of the process and reach them through sockets in the directory, so the services do not end
with the loop of the client that came first.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import os
import threading
from collections.abc import Awaitable, Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import ClassVar, Protocol

from fs3.base.errors import error
from fs3.base.status import Code
from fs3.runtime.exit import ExitStage, run_at_exit
from fs3.runtime.serving import mark_serving_thread

EXIT_PATIENCE_S = 10.0
"""How long the end of the process waits for services to close their stores."""

log = logging.getLogger("fs3.client")


class EmbeddedCluster(Protocol):
    """The services of a cluster, running on the loop they were launched on."""

    @property
    def addresses(self) -> list[str]:
        """Endpoints of its manager, for clients of this process."""
        ...

    async def close(self) -> None:
        """Stop everything; the data stays."""
        ...


Launcher = Callable[[Path], Awaitable[EmbeddedCluster]]

DirectoryKey = tuple[int, int, int]
"""Process, device and inode: one directory has many paths."""


class EmbeddedServices:
    """The services of one directory and the clients that use them."""

    _running: ClassVar[dict[DirectoryKey, EmbeddedServices]] = {}
    _changing = threading.Lock()

    def __init__(self, key: DirectoryKey, path: Path) -> None:
        self._key = key
        self._path = path
        self._users: dict[object, asyncio.AbstractEventLoop] = {}
        self._addresses: concurrent.futures.Future[list[str]] = concurrent.futures.Future()
        self._stop: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._ended: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._run, name=f"fs3 embedded {path}", daemon=True)
        self._thread.start()

    @classmethod
    async def take(cls, directory: str | os.PathLike[str]) -> tuple[list[str], Callable[[], Awaitable[None]]]:
        """The manager's endpoints, of services that are launched when there are none, and how to let go of them.

        BUSY naming the process that has the directory open. When the last user lets go, the services are stopped.
        """
        key, path = _make_directory(directory)
        user = object()
        while True:
            with cls._changing:
                services = cls._running.get(key)
                if services is None:
                    services = cls._running[key] = cls(key, path)
                if not services._stop.done():
                    services._users[user] = asyncio.get_running_loop()
                    break
            await asyncio.wait((asyncio.wrap_future(services._ended),))  # the last user is just going

        async def release() -> None:
            if services._leave(user):
                await asyncio.shield(asyncio.wrap_future(services._ended))

        try:
            # Shielded: giving up must not take the answer away from others that wait for it.
            return await asyncio.shield(asyncio.wrap_future(services._addresses)), release
        except BaseException:
            services._leave(user)
            raise

    @classmethod
    def stop_all(cls) -> None:
        """Stop those of this process, although clients use them, and wait."""
        with cls._changing:
            stopping = [services for key, services in cls._running.items() if key[0] == os.getpid()]
            for services in stopping:
                services._request_stop()
        concurrent.futures.wait([services._ended for services in stopping], EXIT_PATIENCE_S)

    def _leave(self, user: object) -> bool:
        """One user less. True when it was the last. Those whose loop was closed have gone without a word."""
        with self._changing:
            self._users.pop(user, None)
            if any(not loop.is_closed() for loop in self._users.values()):
                return False
            self._request_stop()
            return True

    def _request_stop(self) -> None:
        if not self._stop.done():
            self._stop.set_result(None)

    def _run(self) -> None:
        mark_serving_thread()
        failure: BaseException | None = None
        try:
            asyncio.run(self._serve())
        except BaseException as problem:  # whatever ended the thread: who waits for the addresses is told
            failure = problem
        with self._changing:
            if self._running.get(self._key) is self:
                del self._running[self._key]
        if not self._addresses.done():
            self._addresses.set_exception(failure or error(Code.SHUTTING_DOWN, "the embedded services were stopped"))
            failure = None
        if failure is not None:
            log.error("the embedded services in %s did not close well: %s", self._path, failure)
        self._ended.set_result(None)

    async def _serve(self) -> None:
        services = await _launcher()(self._path)
        self._addresses.set_result(services.addresses)
        try:
            await asyncio.wrap_future(self._stop)
        finally:
            await services.close()


def _make_directory(directory: str | os.PathLike[str]) -> tuple[DirectoryKey, Path]:
    path = Path(directory).absolute()
    path.mkdir(parents=True, exist_ok=True)
    found = path.stat()
    return (os.getpid(), found.st_dev, found.st_ino), path


def _launcher() -> Launcher:
    """How to start the services is for a higher floor to know; it says so by an entry point."""
    for point in entry_points(group="fs3.launchers", name="embedded"):
        launch: Launcher = point.load()
        return launch
    raise error(Code.UNSUPPORTED, "no embedded services are installed (entry point group fs3.launchers, name embedded)")


def _renew_lock() -> None:
    EmbeddedServices._changing = threading.Lock()  # another thread of the parent may have held it


os.register_at_fork(after_in_child=_renew_lock)
run_at_exit(EmbeddedServices.stop_all, ExitStage.SERVICES)
