"""Several clients on one file: they write, truncate and read it at once, and each operation is remembered."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from fs3.api.client import Client
from fs3.base.errors import FS3Error
from fs3.base.prng import Prng
from fs3.base.units import NEVER, SECOND
from fs3.ports.clock import Clock
from fs3.sim.checkers.shared_files import TAG_BYTES, Cut, SlotRead, SlotWrite

SLOT_BYTES = 40_000
"""From one slot to the next: some share a chunk, and no tag lies across two."""
SLOTS = 6


@dataclass
class SharedHistory:
    """What all clients did to one file."""

    path: str
    writes: list[SlotWrite] = field(default_factory=list)
    cuts: list[Cut] = field(default_factory=list)
    reads: list[SlotRead] = field(default_factory=list)


class SharedFileWorkload:
    """One client's operations on a file that is there already."""

    def __init__(self, number: int, client: Client, prng: Prng, history: SharedHistory, clock: Clock) -> None:
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
            await self._think(think_ns)
            try:
                match self._prng.below(10):
                    case 0 | 1 | 2 | 3:
                        await self._write(think_ns)
                    case 4 | 5:
                        await self._truncate()
                    case _:
                        await self.read()
            except FS3Error:
                continue

    async def _think(self, think_ns: int) -> None:
        await asyncio.sleep(self._prng.below(2 * think_ns + 1) / SECOND)

    async def _write(self, think_ns: int) -> None:
        slot = self._prng.below(SLOTS)
        self._tags += 1
        tag = b"%03d-%012d" % (self._number, self._tags)
        begun, stored, published = self._clock.now(), NEVER, NEVER
        try:
            file = await self._client.open(self._history.path, "r+")
            await self._think(think_ns)
            begun = self._clock.now()
            await self._client.pwrite(file, tag, slot * SLOT_BYTES)
            stored = self._clock.now()
            await self._think(think_ns)
            await self._client.close(file)
            published = self._clock.now()
        finally:
            self._history.writes.append(SlotWrite(slot, tag, begun, stored, published))

    async def _truncate(self) -> None:
        begun, ended = self._clock.now(), NEVER
        try:
            file = await self._client.open(self._history.path, "r+")
            begun = self._clock.now()
            # To nothing: another end may lie behind one that has become shorter meanwhile, and then nothing is taken away.
            await self._client.truncate(file, 0)
            ended = self._clock.now()
            await self._client.close(file)
        finally:
            self._history.cuts.append(Cut(0, begun, ended))

    async def read(self) -> None:
        """Look at the whole file."""
        begun = self._clock.now()
        file = await self._client.open(self._history.path, "r")
        found = await self._client.pread(file, SLOTS * SLOT_BYTES)
        slots = (found[slot * SLOT_BYTES : slot * SLOT_BYTES + TAG_BYTES] for slot in range(SLOTS))
        self._history.reads.append(SlotRead(tuple(tag.strip(b"\0") for tag in slots), begun, self._clock.now()))
