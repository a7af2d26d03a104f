"""Programs on mounts that share files: each byte that a program reads is one that it may read. See docs/mount.md.

A file has slots, each of one program, which fills it with the number of the version that it writes. What a reader may find in a
slot is told by three numbers: the version that was begun last; the one that `close` or `fsync` has acknowledged last, for those
who open the file after that; and the one whose write has returned last, at once for readers on the same mount.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from fs3.api.space import KEEP_SIZE, PUNCH_HOLE
from fs3.base.prng import Prng
from fs3.base.units import SECOND
from fs3.sim.ring2.kernel import KernelFile, SimKernel

LOOKS: Final = 6
"""A kernel does not take what it is told of a length while it changes it itself, or is told to forget what it knows: then a
program finds the end of a moment before. It is not wrong for long."""
VERSIONS: Final = 250
RECORD_BYTES: Final = 12


@dataclass(slots=True)
class FileSlot:
    """Bytes of one program."""

    mount: int
    offset: int
    size: int
    begun: int = 0
    written: int = 0
    published: int = 0

    def bytes_of(self, version: int) -> bytes:
        """What a version is."""
        return bytes([version % VERSIONS]) * self.size


@dataclass(slots=True)
class SharedSlots:
    """One file of slots."""

    name: str
    slots: list[FileSlot] = field(default_factory=list)

    def floor(self, mount: int | None = None) -> list[int]:
        """By slot, the version that who opens it now sees at least; `mount`: who reads it now there."""
        return [max(one.published, one.written if one.mount == mount else 0) for one in self.slots]


async def read_to_end(kernel: SimKernel, file: KernelFile, least: int) -> bytes:
    """All of a file that has so many bytes at least, or what there is of it after a while."""
    for _ in range(LOOKS):
        data = await kernel.read_all(file)
        if len(data) >= least:
            break
        await asyncio.sleep(0.01)
    return data


class SlotProgram:
    """One program on one mount: it writes its slots, and reads all."""

    def __init__(
        self, mount: int, kernel: SimKernel, prng: Prng, file: SharedSlots, own: list[FileSlot], tell: Callable[[str], None]
    ):
        self._mount = mount
        self._kernel = kernel
        self._prng = prng
        self._file = file
        self._own = own
        self._tell = tell
        self._lingering: tuple[KernelFile, list[int]] | None = None
        self.rounds = 0

    async def run(self, rounds: int, think_ns: int) -> None:
        """So many rounds."""
        for _ in range(rounds):
            await asyncio.sleep(self._prng.below(2 * think_ns + 1) / SECOND)
            work = self._prng.pick((self._write, self._write, self._read, self._read, self._linger, self._look))
            try:
                await work()
                self.rounds += 1
            except OSError:
                continue
        if self._lingering is not None:
            await self._close(self._lingering[0])

    async def _write(self) -> None:
        floor = self._file.floor(self._mount)
        file = await self._kernel.open(self._file.name, os.O_RDWR | os.O_CREAT)
        written: dict[int, int] = {}
        failed = False
        try:
            for _ in range(1 + self._prng.below(3)):
                number = self._prng.below(len(self._own))
                slot = self._own[number]
                slot.begun += 1
                version = slot.begun
                await self._kernel.write(file, slot.bytes_of(version), slot.offset)
                slot.written = version
                written[number] = version
                if self._prng.chance(1, 4):
                    await self._kernel.fsync(file)
                    self._publish(written)
                if self._prng.chance(1, 3):
                    await self._check(file, floor, "who writes it")
        except OSError:
            failed = True
            raise
        finally:
            await self._kernel.close(file)
            if not failed:
                self._publish(written)

    def _publish(self, written: dict[int, int]) -> None:
        for number, version in written.items():
            self._own[number].published = max(self._own[number].published, version)

    async def _read(self) -> None:
        floor = self._file.floor(self._mount)
        file = await self._kernel.open(self._file.name)
        try:
            await self._check(file, floor, "who has opened it")
        finally:
            await self._close(file)

    async def _linger(self) -> None:
        """A file that stays open while others write it: what it reads is as of its open at least."""
        if self._lingering is None:
            floor = self._file.floor(self._mount)
            self._lingering = await self._kernel.open(self._file.name), floor
            return
        file, floor = self._lingering
        await self._check(file, floor, "who has had it open")
        if self._prng.chance(1, 4):
            self._lingering = None
            await self._close(file)

    async def _look(self) -> None:
        """The length that stat(2) tells."""
        floor = self._file.floor(self._mount)
        least = max((one.offset + one.size for one, version in zip(self._file.slots, floor, strict=True) if version), default=0)
        for _ in range(LOOKS):
            found = await self._kernel.stat(self._file.name)
            if found >= least:
                break
        else:
            self._tell(f"{self._file.name}: stat on mount {self._mount} tells {found} bytes of {least}")
        if self._prng.chance(1, 4):
            self._kernel.forget()

    async def _check(self, file: KernelFile, floor: list[int], who: str) -> None:
        floor = [
            max(least, one.written if one.mount == self._mount else 0) for one, least in zip(self._file.slots, floor, strict=True)
        ]
        ends = [one.offset + one.size for one, least in zip(self._file.slots, floor, strict=True) if least]
        data = await read_to_end(self._kernel, file, max(ends, default=0))
        for slot, least in zip(self._file.slots, floor, strict=True):
            allowed = {version % VERSIONS for version in range(least, slot.begun + 1)}
            part = data[slot.offset : slot.offset + slot.size].ljust(slot.size, b"\0")
            if not set(part) <= allowed:
                found = sorted(set(part))
                self._tell(
                    f"{self._file.name}: {who} on mount {self._mount} reads {found} in the slot at {slot.offset} of mount "
                    f"{slot.mount}, where there are {least} to {slot.begun}"
                )

    async def _close(self, file: KernelFile) -> None:
        if file.is_open:
            await self._kernel.close(file)


@dataclass(slots=True)
class SharedLog:
    """One file that programs append records to."""

    name: str
    begun: set[bytes] = field(default_factory=set)
    acknowledged: set[bytes] = field(default_factory=set)


class AppendProgram:
    """One program on one mount, which appends and reads."""

    def __init__(self, number: int, kernel: SimKernel, prng: Prng, log: SharedLog, tell: Callable[[str], None]) -> None:
        self._number = number
        self._kernel = kernel
        self._prng = prng
        self._log = log
        self._tell = tell
        self.rounds = 0

    async def run(self, rounds: int, think_ns: int) -> None:
        """So many records."""
        file: KernelFile | None = None
        for number in range(rounds):
            await asyncio.sleep(self._prng.below(2 * think_ns + 1) / SECOND)
            record = b"%03d:%07d\n" % (self._number, number)
            try:
                if file is None or self._prng.chance(1, 4):
                    if file is not None:
                        await self._kernel.close(file)
                    file = await self._kernel.open(self._log.name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
                self._log.begun.add(record)
                await self._kernel.write(file, record)
                self._log.acknowledged.add(record)
                if self._prng.chance(1, 2):
                    await self.read()
                self.rounds += 1
            except OSError:
                continue
        if file is not None and file.is_open:
            await self._kernel.close(file)

    async def read(self) -> None:
        """All that was acknowledged before is there, each record whole and once."""
        acknowledged = set(self._log.acknowledged)
        file = await self._kernel.open(self._log.name)
        try:
            for _ in range(LOOKS):
                data = await self._kernel.read_all(file)
                records = [data[at : at + RECORD_BYTES] for at in range(0, len(data), RECORD_BYTES)]
                if acknowledged <= set(records):
                    break
                await asyncio.sleep(0.01)
        finally:
            await self._kernel.close(file)
        if len(set(records)) < len(records):
            self._tell(f"{self._log.name}: a record is there twice")
        if strange := set(records) - self._log.begun:
            self._tell(f"{self._log.name}: {min(strange)!r} was never appended")
        if missing := acknowledged - set(records):
            self._tell(f"{self._log.name}: {min(missing)!r} was appended, and is not there")


class TurnFile:
    """One file that programs change in turns, each of which begins with an open or a lock, and ends with a close or an unlock."""

    def __init__(self, name: str, limit: int, *, is_locked: bool) -> None:
        """`limit`: bytes it has at most. `is_locked`: turns are those of flock(2), and the file stays open all the time."""
        self.name = name
        self.limit = limit
        self.is_locked = is_locked
        self.turn = asyncio.Lock()
        self.content = bytearray()
        self.is_known = True
        """False: a call has failed, so that no one can say what there is. The next turn writes all of it."""


class TurnProgram:
    """One program on one mount."""

    def __init__(
        self, mount: int, kernel: SimKernel, prng: Prng, file: TurnFile, owner: int, tell: Callable[[str], None]
    ) -> None:
        """`owner`: its number, among those who lock."""
        self._mount = mount
        self._kernel = kernel
        self._prng = prng
        self._file = file
        self._owner = owner
        self._tell = tell
        self._locking: KernelFile | None = None
        self.rounds = 0

    async def run(self, rounds: int, think_ns: int) -> None:
        """So many turns; what is open meanwhile is read at any time."""
        for _ in range(rounds):
            await asyncio.sleep(self._prng.below(2 * think_ns + 1) / SECOND)
            try:
                if self._locking is not None and self._prng.chance(1, 3):
                    await self._kernel.read_all(self._locking)  # whatever that is now
                    continue
                await (self._locked_turn() if self._file.is_locked else self._turn())
                self.rounds += 1
            except OSError:
                continue

    async def _turn(self) -> None:
        async with self._file.turn:
            if self._prng.chance(1, 4):
                await self._remove()
            file = await self._kernel.open(self._file.name, os.O_RDWR | os.O_CREAT)
            try:
                await self._change(file)
            finally:
                await self._end(self._kernel.close(file))

    async def _remove(self) -> None:
        """A new file begins small again."""
        try:
            await self._kernel.unlink(self._file.name)
        except FileNotFoundError:
            return
        except OSError:
            self._file.is_known = False
            raise
        self._file.content.clear()

    async def _locked_turn(self) -> None:
        if self._locking is None:
            self._locking = await self._kernel.open(self._file.name, os.O_RDWR | os.O_CREAT)
        file = self._locking
        await self._kernel.flock(file, fcntl.F_WRLCK, self._owner)
        try:
            async with self._file.turn:
                await self._change(file)
        finally:
            await self._end(self._kernel.flock(file, fcntl.F_UNLCK, self._owner))

    async def _end(self, ending: Awaitable[None]) -> None:
        try:
            await ending
        except OSError:
            self._file.is_known = False
            raise

    async def _change(self, file: KernelFile) -> None:
        shared = self._file
        calls = self._write, self._write, self._write, self._truncate, self._punch, self._map, self._sync, self._empty
        if shared.is_known:
            await self._compare(file, "at the begin of a turn")
        try:
            if not shared.is_known:
                await self._kernel.truncate(file, 0)
                shared.content.clear()
                shared.is_known = True
            for _ in range(1 + self._prng.below(5)):
                await self._prng.pick(calls)(file)
                if self._prng.chance(1, 3):
                    await self._compare(file, "after a change")
        except OSError:
            shared.is_known = False
            raise

    async def _compare(self, file: KernelFile, when: str) -> None:
        wanted = bytes(self._file.content)
        found, length = await read_to_end(self._kernel, file, len(wanted)), await self._kernel.fstat(file)
        if (found, length) != (wanted, len(wanted)):
            at = next(
                (at for at, (one, two) in enumerate(zip(found, wanted, strict=False)) if one != two), min(len(found), len(wanted))
            )
            self._tell(
                f"{self._file.name}: {when} mount {self._mount} reads {len(found)} bytes, is told {length} of {len(wanted)}, "
                f"and from {at} on {found[at : at + 4]!r} instead of {wanted[at : at + 4]!r}"
            )
            self._file.is_known = False
            raise OSError("what there is is not known")

    async def _write(self, file: KernelFile) -> None:
        content = self._file.content
        start = self._prng.below(self._prng.pick((self._file.limit, len(content) + 1)))
        data = self._prng.bytes(min(self._prng.pick((10, 300, 5000, 20_000)), self._file.limit - start))
        await self._kernel.write(file, data, start)
        content.extend(bytes(max(0, start - len(content))))
        content[start : start + len(data)] = data

    async def _truncate(self, file: KernelFile) -> None:
        content, length = self._file.content, self._prng.below(self._file.limit)
        if self._prng.chance(1, 3):
            length = len(content)
        elif self._prng.chance(1, 2):
            length = length * len(content) // self._file.limit
        await self._kernel.truncate(file, length)
        del content[length:]
        content.extend(bytes(length - len(content)))

    async def _punch(self, file: KernelFile) -> None:
        content, start = self._file.content, self._prng.below(self._file.limit)
        size = 1 + self._prng.below(self._file.limit - start)
        await self._kernel.fallocate(file, PUNCH_HOLE | KEEP_SIZE, start, size)
        end = min(start + size, len(content))
        content[start:end] = bytes(max(0, end - start))

    async def _map(self, file: KernelFile) -> None:
        content = self._file.content
        if content:
            start = self._prng.below(len(content))
            data = self._prng.bytes(min(6000, len(content) - start))
            await self._kernel.map_write(file, data, start)
            content[start : start + len(data)] = data
            await self._kernel.fsync(file)

    async def _empty(self, file: KernelFile) -> None:
        """By another open."""
        again = await self._kernel.open(self._file.name, os.O_WRONLY | os.O_TRUNC)
        self._file.content.clear()
        await self._kernel.close(again)

    async def _sync(self, file: KernelFile) -> None:
        await self._kernel.fsync(file)
