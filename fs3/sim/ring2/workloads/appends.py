"""Several clients that append to one file and read it, and nothing else; each operation is remembered."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from fs3.api.client import Client
from fs3.base.errors import FS3Error
from fs3.base.prng import Prng
from fs3.base.status import Code, Retry
from fs3.base.units import SECOND
from fs3.ports.clock import Clock
from fs3.sim.checkers.appends import AppendedRecord, FileRead

SHORT_BYTES = 300
LONG_BYTES = 80_000
"""Over several chunks."""


@dataclass
class AppendHistory:
    """What all clients did to one file."""

    path: str
    appends: list[AppendedRecord] = field(default_factory=list)
    reads: list[FileRead] = field(default_factory=list)


class AppendWorkload:
    """One client's operations on a file, which the first append creates."""

    def __init__(self, number: int, client: Client, prng: Prng, history: AppendHistory, clock: Clock) -> None:
        """`clock`: one for all clients."""
        self._number = number
        self._client = client
        self._prng = prng
        self._history = history
        self._clock = clock
        self._records = 0

    async def run(self, operations: int, think_ns: int) -> None:
        """Do so many operations."""
        for _ in range(operations):
            await asyncio.sleep(self._prng.below(2 * think_ns + 1) / SECOND)
            try:
                await (self.read() if self._prng.chance(1, 4) else self.append(self._draw_length()))
            except FS3Error:
                continue

    def _draw_length(self) -> int:
        return 1 + self._prng.below(LONG_BYTES if self._prng.chance(1, 4) else SHORT_BYTES)

    async def append(self, length: int) -> None:
        """Append one record of about so many bytes."""
        self._records += 1
        # Its length tells where the next one begins, so no record is the beginning of another.
        head = b"<%d.%d.%d|" % (self._number, self._records, length)
        record = AppendedRecord(head + bytes([65 + self._number]) * length + b">", self._clock.now())
        self._history.appends.append(record)
        try:
            file = await self._client.open(self._history.path, "a")
        except FS3Error:
            record.is_refused = True
            raise
        try:
            await self._client.append(file, record.data)
        except FS3Error as failure:
            record.is_refused = failure.code.retry is not Retry.MAYBE and failure.code is not Code.DEADLINE
            raise
        record.ended = self._clock.now()
        await self._client.close(file)

    async def read(self) -> None:
        """Look at the whole file."""
        begun = self._clock.now()
        try:
            file = await self._client.open(self._history.path, "r")
        except FS3Error as failure:
            if failure.code is not Code.NOT_FOUND:
                raise
            self._history.reads.append(FileRead(b"", begun, self._clock.now()))
            return
        content = await self._client.pread(file, file.length)
        self._history.reads.append(FileRead(content, begun, self._clock.now()))
