"""Clients that read on what others, or they themselves, remove and replace, and each read is remembered."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from fs3.api.client import Client, File
from fs3.base.errors import FS3Error
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.ports.clock import Clock
from fs3.sim.checkers.open_files import TAG_BYTES, OpenRead, content_of

FILE_BYTES = 150_000
_PIECE_BYTES = 3000


@dataclass
class OpenHistory:
    """What all clients read."""

    paths: list[str]
    reads: list[OpenRead] = field(default_factory=list)
    removals: int = 0


class OpenFileWorkload:
    """One client's operations."""

    def __init__(self, number: int, client: Client, prng: Prng, history: OpenHistory, clock: Clock) -> None:
        """`clock`: one for all clients."""
        self._number = number
        self._client = client
        self._prng = prng
        self._history = history
        self._clock = clock
        self._tags = 0

    async def replace_often(self, times: int, think_ns: int) -> None:
        """Remove files, move others to their place and give them new bytes, so many times."""
        for _ in range(times):
            await asyncio.sleep(self._prng.below(2 * think_ns + 1) / SECOND)
            path = self._prng.pick(tuple(self._history.paths))
            try:
                match self._prng.below(4):
                    case 0:
                        await self._client.unlink(path)
                        await self.create(path)
                    case 1:
                        await self.create(f"{path}.{self._number}")
                        await self._client.rename(f"{path}.{self._number}", path)
                    case _:
                        await self.create(path)
            except FS3Error:
                continue
            self._history.removals += 1

    async def create(self, path: str) -> None:
        """A file with a tag of its own, which takes the place of what has the name."""
        self._tags += 1
        tag = b"%03d-%012d" % (self._number, self._tags)
        file = await self._client.open_unnamed("/")
        try:
            await self._client.pwrite(file, content_of(tag, 0, FILE_BYTES))
            await self._client.close(file, path)
        except BaseException:
            await self._client.abandon(file)
            raise

    async def read_long(self, handles: int, seconds: int) -> None:
        """Have so many files open, one after the other, each for up to so long, and look at them now and then."""
        for _ in range(handles):
            try:
                file = await self._client.open(self._prng.pick(tuple(self._history.paths)))
                tag = await self._client.pread(file, TAG_BYTES)
            except FS3Error:
                await asyncio.sleep(1)
                continue
            opened = self._clock.now()
            until = opened + self._prng.between(seconds // 4, seconds) * SECOND
            while self._clock.now() < until:
                await self.read(file, tag, opened)
                await asyncio.sleep(self._prng.between(1, 20))
            await self.read(file, tag, opened)
            await self._client.close(file)

    async def read(self, file: File, tag: bytes, opened: int) -> None:
        """One look at a handle. Services that do not answer are no fault of the file."""
        offset = self._prng.below(FILE_BYTES - _PIECE_BYTES)
        found: bytes | None = None
        try:
            found = await self._client.pread(file, _PIECE_BYTES, offset)
        except FS3Error as failure:
            if failure.code is not Code.STALE:
                return
        age = self._clock.now() - opened
        self._history.reads.append(OpenRead(file.path, tag, offset, _PIECE_BYTES, found, age))
