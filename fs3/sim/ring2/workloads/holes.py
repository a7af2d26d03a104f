"""Several clients write and punch parts of one file that are their own and share chunks with those of others."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from fs3.api.client import Client, File
from fs3.api.space import KEEP_SIZE, PUNCH_HOLE
from fs3.base.errors import FS3Error
from fs3.base.prng import Prng
from fs3.base.units import SECOND

PART_BYTES = 40_000
"""From one part to the next: some lie in one chunk, others reach over the border of two."""
WIDE_BYTES = 300_000
"""Of the part at the end that each client has as well: some whole chunks."""


@dataclass
class HoleHistory:
    """What was wrong with the file, and how much was done to it."""

    path: str
    clients: int
    problems: list[str] = field(default_factory=list)
    operations: int = 0


class HoleWorkload:
    """One client's operations. What it was acknowledged in its own parts stays until it changes it itself."""

    def __init__(self, number: int, client: Client, prng: Prng, history: HoleHistory) -> None:
        """`number`: from 0."""
        self._number = number
        self._client = client
        self._prng = prng
        self._history = history
        wide = history.clients * PART_BYTES * 4 + number * WIDE_BYTES
        starts = [(turn * history.clients + number) * PART_BYTES for turn in range(4)]
        self._parts = [(start, bytearray(PART_BYTES)) for start in starts] + [(wide, bytearray(WIDE_BYTES))]
        self._unsure: set[int] = set()
        """Starts of parts in which an operation failed, that may happen yet."""

    async def run(self, operations: int, think_ns: int) -> None:
        """Do so many."""
        file = await self._client.open(self._history.path, "r+")
        for _ in range(operations):
            await asyncio.sleep(self._prng.below(2 * think_ns + 1) / SECOND)
            start, model = self._prng.pick(tuple(self._parts))
            if start in self._unsure:
                continue
            try:
                await self._change(file, start, model)
                await self._look(file, start, model)
            except FS3Error:
                self._unsure.add(start)
        await self._client.close(file)

    async def look_at_all(self) -> None:
        """Through a fresh handle."""
        file = await self._client.open(self._history.path)
        for start, model in self._parts:
            if start not in self._unsure:
                await self._look(file, start, model)

    async def _change(self, file: File, start: int, model: bytearray) -> None:
        begin = self._prng.pick((0, self._prng.below(len(model))))
        end = self._prng.pick((len(model), self._prng.between(begin + 1, len(model))))
        if self._prng.below(2):
            data = bytes((self._prng.between(1, 255),)) * (end - begin)
            await self._client.pwrite(file, data, start + begin)
        else:
            data = bytes(end - begin)
            await self._client.fallocate(file, start + begin, end - begin, PUNCH_HOLE | KEEP_SIZE)
        model[begin:end] = data
        self._history.operations += 1

    async def _look(self, file: File, start: int, model: bytearray) -> None:
        found = await self._client.pread(file, len(model), start)
        found = found.ljust(len(model), b"\0")
        if found != model:
            at = next(place for place, (one, other) in enumerate(zip(found, model, strict=True)) if one != other)
            self._history.problems.append(f"byte {start + at} is {found[at]}, client {self._number} has made it {model[at]}")
