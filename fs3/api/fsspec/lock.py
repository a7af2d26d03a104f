"""A lock of a file as a block of code."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from types import TracebackType
from typing import Self

from fs3.api.client import Client
from fs3.api.file import File
from fs3.api.fsspec.base import FS3Base
from fs3.api.io.blocking import run_on
from fs3.base.errors import NotFound, error
from fs3.base.status import Code
from fs3.base.units import SECOND


class PathLock:
    """`with fs.lock("/path"):`, or `async with`: the block has the file locked as by flock(2), against other blocks and handles.

    Made by `FS3FileSystem.lock`; each is used for one block after the other, by one thread or task.
    """

    def __init__(self, fs: FS3Base, path: str, *, shared: bool, timeout: float | None) -> None:
        """`timeout`: seconds of waiting, None: none. Raises InvalidArgument for one that is no such number."""
        if timeout is not None and not 0 <= timeout < math.inf:
            raise error(Code.INVALID, f"timeout is {timeout}, not a number of seconds", path)
        self._fs = fs
        self._path = fs._strip_protocol(path)
        self._shared = shared
        self._timeout_ns = None if timeout is None else round(timeout * SECOND)
        self._held: tuple[Client, File, int] | None = None

    def __enter__(self) -> Self:
        run_on(self._fs.loop, self._acquire())
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        run_on(self._fs.loop, self._release())

    async def __aenter__(self) -> Self:
        await self._acquire()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        await self._release()

    async def _acquire(self) -> None:
        if self._held is not None:
            raise error(Code.INVALID, "this lock is held already; make another one", self._path)
        client = await self._fs._client()
        file = await self._open(client)
        try:
            await client.lock(file, shared=self._shared, timeout_ns=self._timeout_ns)
        except BaseException:
            await client.close(file)
            raise
        self._held = client, file, os.getpid()

    async def _open(self, client: Client) -> File:
        with suppress(NotFound):
            return await client.open(self._path)
        await client.close(await client.open(self._path, "a", make_parents=self._fs.auto_mkdir))
        return await client.open(self._path)

    async def _release(self) -> None:
        held, self._held = self._held, None
        if held is None or held[2] != os.getpid():
            return  # a forked child leaves its parent's lock alone
        client, file, _ = held
        try:
            await client.unlock(file)
        finally:
            await client.close(file)
