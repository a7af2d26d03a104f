"""One client per process and event loop, for an object that is used from many of both.

Sockets and loops do not survive fork(). A child that inherits a pool finds its clients to be of another process, forgets them
without touching them (closing one would take the descriptor out of the parent's poll set), and makes its own.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

from fs3.api.client import Client
from fs3.api.io.blocking import is_current_loop
from fs3.base.errors import error
from fs3.base.status import Code
from fs3.runtime.exit import ExitStage, run_at_exit
from fs3.runtime.tasks import TaskSet

EXIT_PATIENCE_S = 5.0
"""How long the end of the process waits for clients to say goodbye."""

_inherited: list[object] = []
"""Clients and loops of the parent process: kept, so that no finalizer of theirs runs here."""


class ClientPool:
    """Clients made on demand by `make`, which is called on the loop that needs one."""

    def __init__(self, make: Callable[[], Coroutine[Any, Any, Client]]) -> None:
        self._make = make
        self._pid = os.getpid()
        self._clients: dict[asyncio.AbstractEventLoop, asyncio.Future[Client]] = {}
        _pools.add(self)

    async def get(self) -> Client:
        """The client of this process and loop; the first caller connects it. A failed attempt is repeated by the next call."""
        self._detect_fork()
        loop = asyncio.get_running_loop()
        making = self._clients.get(loop)
        if making is not None and making.done():
            if not making.cancelled() and making.exception() is None and not making.result().closed:
                return making.result()
            making = None
        if making is None:
            self._forget_dead_loops()
            making = self._clients[loop] = loop.create_task(self._make())
        try:
            # Shielded: all callers share the client, one that gives up must not take it away from the others.
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            if making.cancelled():
                raise error(Code.SHUTTING_DOWN, "the client was closed while it connected") from None
            raise

    def get_nowait(self, loop: asyncio.AbstractEventLoop | None = None) -> Client | None:
        """The client of this process and loop (None: the running one) when it is connected."""
        making = self._clients.get(loop or asyncio.get_running_loop()) if self._pid == os.getpid() else None
        if making is None or not making.done() or making.cancelled() or making.exception() is not None:
            return None
        client = making.result()
        return None if client.closed else client

    async def aclose(self) -> None:
        """Close this loop's client; those of other loops go on."""
        self._detect_fork()
        making = self._clients.pop(asyncio.get_running_loop(), None)
        if making is not None:
            await _close_when_made(making)

    def close_all(self, patience_s: float = 0.0) -> None:
        """Close the clients of all loops, from any thread: waits so long for loops of other threads, not at all for its own."""
        if self._pid != os.getpid():
            return
        waiting: list[concurrent.futures.Future[None]] = []
        for loop, making in list(self._clients.items()):
            self._clients.pop(loop, None)
            if loop.is_closed() or not loop.is_running():
                continue
            goodbye = _close_when_made(making)
            if is_current_loop(loop):
                _leaving.start(goodbye)
                continue
            try:
                waiting.append(asyncio.run_coroutine_threadsafe(goodbye, loop))
            except RuntimeError:  # it was closed just now
                goodbye.close()
        if patience_s:
            concurrent.futures.wait(waiting, patience_s)

    def _detect_fork(self) -> None:
        if self._pid != os.getpid():
            _inherited.append(self._clients)
            self._clients = {}
            self._pid = os.getpid()

    def _forget_dead_loops(self) -> None:
        for loop in [loop for loop in self._clients if loop.is_closed()]:
            del self._clients[loop]


async def _close_when_made(making: Awaitable[Client]) -> None:
    with suppress(Exception):
        await (await making).aclose()


_leaving = TaskSet()
"""Goodbyes under way, of clients whose pool was closed on their own loop."""

_pools: weakref.WeakSet[ClientPool] = weakref.WeakSet()


def _at_exit() -> None:
    for pool in list(_pools):
        pool.close_all(EXIT_PATIENCE_S)


run_at_exit(_at_exit, ExitStage.CLIENTS)
