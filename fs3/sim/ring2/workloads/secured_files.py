"""A user of a cluster with security: writes and reads a file of its own, now and then makes one and removes it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from fs3.api.client import Client
from fs3.api.file import File
from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.sim.checkers.refusals import RefusalHistory, UserOperation
from fs3.sim.ring2.loop import SimLoop

PAUSE_SECONDS = 0.4
_BYTES = 3000
_CHUNKS = 4


class SecuredFileWorkload:
    """Of one client."""

    def __init__(self, name: str, client: Client, history: RefusalHistory, loop: SimLoop) -> None:
        self._name = name
        self._client = client
        self._history = history
        self._loop = loop
        self._file: File | None = None
        self._written: dict[int, bytes] = {}
        """Offset -> what was stored there and acknowledged; absent: it is not known."""

    async def run(self, seconds: float) -> None:
        """Operations, one after the other."""
        until = self._loop.now + int(seconds * SECOND)
        turn = 0
        while self._loop.now < until:
            turn += 1
            offset = turn % _CHUNKS * 65_536
            if self._file is None:
                await self._note("opens a file", self._open())
            elif turn % 3 == 0:
                await self._note("writes", self._write(offset, turn))
            elif turn % 31 == 0:
                await self._note("makes and removes a file", self._make(turn))
            else:
                await self._note("reads", self._read(offset))
            await asyncio.sleep(PAUSE_SECONDS)

    async def _note(self, what: str, work: Awaitable[None]) -> None:
        began, code = self._loop.now, Code.OK
        try:
            await work
        except FS3Error as failure:
            code = failure.code
        self._history.operations.append(UserOperation(self._name, what, began, self._loop.now, code))

    async def _open(self) -> None:
        self._file = await self._client.open(f"/shared/of-{self._name}", "w", permissions=0o600)

    async def _write(self, offset: int, turn: int) -> None:
        assert self._file is not None
        data = f"{self._name} {turn} ".encode().ljust(_BYTES, b".")
        self._written.pop(offset, None)
        await self._client.pwrite(self._file, data, offset)
        self._written[offset] = data

    async def _read(self, offset: int) -> None:
        assert self._file is not None
        expected = self._written.get(offset)
        buffer = bytearray(_BYTES)
        count = await self._client.pread_into(self._file, buffer, offset)
        if expected is not None and bytes(buffer[:count]) != expected:
            self._history.problems.append(f"{self._name} reads other bytes at {offset} than it has written")

    async def _make(self, turn: int) -> None:
        path = f"/shared/{self._name}-{turn}"
        file = await self._client.open(path, "w", permissions=0o600)
        await self._client.pwrite(file, b"x" * 100, 0)
        await self._client.close(file)
        await self._client.unlink(path)
