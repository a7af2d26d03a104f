"""Several clients that put, append to, cut, patch and read one file whose size is about what is kept inline; each operation is
remembered."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from fs3.api.client import Client
from fs3.api.small_files import NewFile, UnnamedFile
from fs3.base.errors import FS3Error
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.ports.clock import Clock
from fs3.sim.checkers.whole_files import WholeFileOperation, WholeFileStep

INLINE_BYTES = 1000
"""What the services of these scenes keep inline."""
LENGTH_MIN = 100
"""The file always has as many bytes, so a patch never makes it longer."""
PATCH_BYTES = 20
READS_MAX = 50
"""How often one look at a file begins anew because it was changed meanwhile."""

_LOST = (Code.INTERNAL, Code.DATA_LOSS)


@dataclass
class SmallFileHistory:
    """What all clients did to one file."""

    path: str
    operations: list[WholeFileOperation] = field(default_factory=list)
    problem: str = ""
    """A service has said that bytes are lost."""


class SmallFileWorkload:
    """One client's operations on a file."""

    def __init__(self, number: int, client: Client, prng: Prng, history: SmallFileHistory, clock: Clock) -> None:
        """`clock`: one for all clients."""
        self._number = number
        self._client = client
        self._prng = prng
        self._history = history
        self._clock = clock
        self._tags = 0

    async def run(self, operations: int, think_ns: int) -> None:
        """Do so many operations."""
        for _ in range(operations):
            await asyncio.sleep(self._prng.below(2 * think_ns + 1) / SECOND)
            try:
                match self._prng.below(10):
                    case 0:
                        await self.put(LENGTH_MIN + self._prng.below(INLINE_BYTES - LENGTH_MIN))
                    case 1 | 2 | 3:
                        await self.append(1 + self._prng.below(INLINE_BYTES // 3))
                    case 4:
                        await self.cut()
                    case 5:
                        await self.patch()
                    case _:
                        await self.read()
            except FS3Error:
                continue

    async def put(self, length: int) -> None:
        """Create the file, or replace it."""
        operation = self._begin(WholeFileStep.PUT, self._draw_data(length))
        await self._client.put(NewFile(self._history.path, memoryview(operation.data), UnnamedFile("/")))
        operation.ended = self._clock.now()

    async def append(self, length: int) -> None:
        """Append some bytes, which may make the file too large to be inline."""
        file = await self._client.open(self._history.path, "a")
        operation = self._begin(WholeFileStep.APPEND, self._draw_data(length))
        try:
            await self._client.append(file, operation.data)
            operation.ended = self._clock.now()
        finally:
            await self._client.close(file)

    async def cut(self) -> None:
        """Make it short."""
        operation = self._begin(WholeFileStep.CUT)
        operation.length = LENGTH_MIN
        await self._client.truncate(self._history.path, LENGTH_MIN)
        operation.ended = self._clock.now()

    async def patch(self) -> None:
        """Write its first bytes in place."""
        operation = self._begin(WholeFileStep.PATCH, self._draw_data(PATCH_BYTES))
        file = await self._client.open(self._history.path, "r+")
        try:
            await self._client.pwrite(file, operation.data)
        finally:
            await self._client.close(file)
        operation.ended = self._clock.now()

    async def read(self) -> None:
        """Look at the whole file, as it was at one moment. That bytes are lost is noted, and is no failure."""
        try:
            await self._read()
        except FS3Error as failure:
            if failure.code not in _LOST:
                raise
            self._history.problem = str(failure)

    async def _read(self) -> None:
        operation = self._begin(WholeFileStep.READ)
        for _ in range(READS_MAX):
            file = await self._client.open(self._history.path, "r")
            data = await self._client.pread(file, file.length)
            if file.data is None:
                # What is read chunk by chunk was like that at one moment, if nobody has published anything meanwhile.
                again = await self._client.open(self._history.path, "r")
                if (again.inode.content_id, again.inode.change) != (file.inode.content_id, file.inode.change):
                    continue
            operation.data, operation.ended = data, self._clock.now()
            return

    def _begin(self, step: WholeFileStep, data: bytes = b"") -> WholeFileOperation:
        operation = WholeFileOperation(step, self._clock.now(), data)
        self._history.operations.append(operation)
        return operation

    def _draw_data(self, length: int) -> bytes:
        self._tags += 1
        return (b"<%d.%d>" % (self._number, self._tags)).ljust(length, bytes([96 + self._number]))
