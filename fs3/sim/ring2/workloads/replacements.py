"""Several clients that replace the content of one file, append to it and read it by its names; each operation is remembered."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from fs3.api.client import Client, File
from fs3.base.errors import FS3Error
from fs3.base.prng import Prng
from fs3.base.status import Code, Retry
from fs3.base.units import SECOND
from fs3.ports.clock import Clock
from fs3.sim.checkers.appends import AppendedRecord, FileRead

BASE_BYTES = 90_000
"""Of a content that is published, at most: over several chunks."""
RECORD_BYTES = 400


@dataclass
class ReplaceHistory:
    """What all clients did to one file."""

    names: list[str]
    bases: list[AppendedRecord] = field(default_factory=list)
    appends: list[AppendedRecord] = field(default_factory=list)
    reads: list[FileRead] = field(default_factory=list)


class ReplaceWorkload:
    """One client's operations on a file that has all the names of its history."""

    def __init__(self, number: int, client: Client, prng: Prng, history: ReplaceHistory, clock: Clock) -> None:
        """`clock`: one for all clients."""
        self._number = number
        self._client = client
        self._prng = prng
        self._history = history
        self._clock = clock
        self._made = 0
        self._appending: File | None = None

    async def repeat_replace(self, count: int, think_ns: int) -> None:
        """Replace the content so many times."""
        await self._repeat(count, think_ns, "replace")

    async def repeat_append(self, count: int, think_ns: int) -> None:
        """Append so many records, through one handle until it is refused."""
        await self._repeat(count, think_ns, "append")
        # As long as it is open, what it was opened on is kept for it.
        if self._appending is not None:
            await self._client.close(self._appending)

    async def repeat_read(self, count: int, think_ns: int) -> None:
        """Read so many times."""
        await self._repeat(count, think_ns, "read")

    async def _repeat(self, count: int, think_ns: int, what: str) -> None:
        for _ in range(count):
            await asyncio.sleep(self._prng.below(2 * think_ns + 1) / SECOND)
            try:
                await getattr(self, what)()
            except FS3Error:
                continue

    async def replace(self) -> None:
        """Publish a new content under one of the names."""
        base = self._make(b"[", b"]", BASE_BYTES)
        self._history.bases.append(base)
        file: File | None = None
        try:
            file = await self._client.open_unnamed("/")
            await self._client.pwrite(file, base.data, 0)
        except FS3Error:
            base.is_refused = True
            if file is not None:
                await self._client.abandon(file)
            raise
        base.begun = self._clock.now()
        try:
            await self._client.close(file, self._prng.pick(self._history.names))
        except FS3Error as failure:
            base.is_refused = _is_certain(failure)
            raise
        base.ended = self._clock.now()

    async def append(self) -> None:
        """Append one record, to the file as this client opened it when it was refused last."""
        record = self._make(b"<", b">", RECORD_BYTES)
        self._history.appends.append(record)
        try:
            if self._appending is None:
                self._appending = await self._client.open(self._prng.pick(self._history.names), "a")
        except FS3Error:
            record.is_refused = True
            raise
        try:
            await self._client.append(self._appending, record.data)
        except FS3Error as failure:
            record.is_refused = _is_certain(failure)
            file, self._appending = self._appending, None
            await self._client.abandon(file)
            raise
        record.ended = self._clock.now()

    async def read(self) -> None:
        """Look at the whole file, by any name."""
        begun = self._clock.now()
        file = await self._client.open(self._prng.pick(self._history.names), "r")
        opened = self._clock.now()
        content = await self._client.pread(file, file.length)
        self._history.reads.append(FileRead(content, begun, opened))

    def _make(self, begin: bytes, end: bytes, bytes_max: int) -> AppendedRecord:
        self._made += 1
        length = 1 + self._prng.below(bytes_max)
        # Its length tells where the next one begins, so no record is the beginning of another.
        head = b"%s%d.%d.%d|" % (begin, self._number, self._made, length)
        return AppendedRecord(head + bytes([65 + self._number]) * length + end, self._clock.now())


def _is_certain(failure: FS3Error) -> bool:
    return failure.code.retry is not Retry.MAYBE and failure.code is not Code.DEADLINE
