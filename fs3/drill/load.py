"""A load with an oracle, against a running cluster: `python -m fs3.drill.load URL JOURNAL [--seconds N] [--…]`.

Registers, files and KVCache pages are written and read by several tasks at once; what was acknowledged goes into the journal
before anything else happens, and every read is held against it at once. It runs until its time is over or SIGTERM comes, finishes
what is under way, and exits with 1 when a read showed what it must not. `fs3.drill.verify` looks at everything afterwards.

What it adds to the cluster is bounded in bytes, not in time: `LoadOptions.new_bytes_max`.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from fs3.api.client import Client
from fs3.api.connect import connect
from fs3.api.kvcache import KVCache, Status
from fs3.base.errors import FS3Error
from fs3.base.ids import ChainId
from fs3.base.status import Code
from fs3.base.units import KIB, MIB, SECOND
from fs3.core.files.read_plan import ReadIO
from fs3.core.files.write_plan import WriteIO
from fs3.drill.journal import Journal, JournalWriter, Register, WrongBytes, apply_record, contents, register_bytes, register_chunk
from fs3.model.chunk import UpdateKind

NAMESPACE = "oracle"
REGISTERS_MAX = 10_000
"""Register numbers of one load."""
FIRST_SETTLED = 5_000
FILE_SIZES = (0, 1, 4095, 65_536, 65_537, 300_001, 1 << 20, (5 << 20) + 3)
FILES_MAX = 100
"""Files of one task at any time: whoever looks at them all has an end to it."""
PAGES_PER_PUT = 4
NEW_BYTES_MAX = 16 * MIB
"""What a load writes anew unless told otherwise: every size of files twice, and some eighty pages."""


def home_of(seed: int) -> str:
    """The directory of the files of a load."""
    return f"/oracle/{seed}"


@dataclass(frozen=True)
class LoadOptions:
    """How much of everything; each count of tasks may be 0."""

    seconds: float = 0.0
    """0: until SIGTERM."""
    seed: int = 1
    """Loads on one cluster must differ in it: it names what they write."""
    registers: int = 16
    """Registers that are written all the time; each has a writer."""
    register_bytes: int = 16 * KIB
    settled: int = 32
    """Registers that are written once, at the beginning, and only read then."""
    readers: int = 2
    """Tasks that read registers that are being written."""
    settled_readers: int = 2
    files: int = 1
    """Tasks that write, read, rename and remove files."""
    pages: int = 1
    """Tasks that put and get pages."""
    page_bytes: int = 200_000
    new_bytes_max: int = NEW_BYTES_MAX
    """Bytes of files, and once more of pages, that are written: a faster machine does more, and fills no more. After that,
    files are written empty and pages are only read; registers are overwritten on and on."""
    pause_ms: float = 5.0
    """Between two operations of a task."""
    transport: str = "auto"
    patience: float = 60.0
    """Seconds after which an operation has failed."""


class WriteAllowance:
    """What may still be written."""

    def __init__(self, bytes_max: int) -> None:
        self._left = bytes_max

    def take(self, size: int) -> bool:
        """Use so many bytes of it. False, and nothing is used, when there are not so many left."""
        if size > self._left:
            return False
        self._left -= size
        return True


class Load:
    """The tasks of one load and what they share."""

    def __init__(self, client: Client, writer: JournalWriter, options: LoadOptions) -> None:
        self.client = client
        self.options = options
        self.journal = Journal()
        self.stopping = asyncio.Event()
        self.file_allowance = WriteAllowance(options.new_bytes_max)
        self.page_allowance = WriteAllowance(options.new_bytes_max)
        self._writer = writer
        self._prng = random.Random(options.seed)
        self._timeout_ns = round(options.patience * SECOND)
        self._chains: tuple[ChainId, ...] = ()

    def record(self, *record: Any) -> None:
        """Into the journal, and into what this process knows."""
        self._writer.append(*record)
        apply_record(self.journal, list(record))

    async def run(self) -> None:
        """Until `stopping` is set. WrongBytes when a read showed what it must not."""
        options = self.options
        routing = self.client.manager.routing
        self._chains = tuple(sorted(routing.chains))
        first = options.seed * REGISTERS_MAX
        registers = [self._register(first + number, options.register_bytes) for number in range(options.registers)]
        settled = [self._register(first + FIRST_SETTLED + number, options.register_bytes) for number in range(options.settled)]
        await asyncio.gather(*(self._write_register(register) for register in settled))
        self.record("time", "ready", time.monotonic_ns(), time.monotonic_ns())
        tasks: list[Callable[[], Awaitable[None]]] = []
        tasks += [lambda register=register: self._write_register(register) for register in registers]  # type: ignore[misc]
        tasks += [lambda: self._read_register(random.Random(self._prng.random()).choice(registers), "read")] * options.readers
        if settled:
            tasks += [lambda: self._read_register(self._prng.choice(settled), "settled")] * options.settled_readers
        if options.files:
            await self.client.makedirs(home_of(options.seed), exist_ok=True)
        tasks += [_FileTask(self, number) for number in range(options.files)]
        if options.pages:
            cache = await KVCache.of(self.client, namespace=NAMESPACE, page_bytes=options.page_bytes, timeout=options.patience)
            self.record("pages", options.page_bytes)
            tasks += [_PageTask(self, cache, number) for number in range(options.pages)]
        async with asyncio.TaskGroup() as group:
            for task in tasks:
                group.create_task(self._run_task(task))

    async def _run_task(self, step: Callable[[], Awaitable[None]]) -> None:
        while not self.stopping.is_set():
            try:
                await step()
            except WrongBytes as wrong:
                self.record("wrong", str(wrong))
                raise
            if self.options.pause_ms:
                # Drawn, so that tasks do not march in step.
                await asyncio.sleep(self.options.pause_ms / 1000 * (0.5 + self._prng.random()))

    async def run_timed(self, kind: str, doing: Awaitable[Any]) -> Any:
        """The outcome of an operation, noted with its times; None when it failed (noted too)."""
        begin = time.monotonic_ns()
        try:
            outcome = await doing
        except FS3Error as failure:
            self.record("failed", kind, f"{failure.code.name} {failure}")
            return None
        self.record("time", kind, begin, time.monotonic_ns())
        return outcome

    # --- registers -----------------------------------------------------------------------------------------------------

    def chain_of(self, register: int) -> ChainId:
        """Where a register lives."""
        return self._chains[register % len(self._chains)]

    def _register(self, number: int, size: int) -> Register:
        self.record("register", number, size)
        return self.journal.registers[number]

    async def _write_register(self, register: Register) -> None:
        if register.is_uncertain:
            self.stopping.is_set() or await self.stopping.wait()
            return
        seq = register.sent_seq + 1
        data = register_bytes(register.number, seq, register.size)
        self.record("send", register.number, seq)
        write = WriteIO(
            register_chunk(register.number), self.chain_of(register.number), UpdateKind.WRITE, 0, memoryview(data), register.size
        )
        begin = time.monotonic_ns()
        (result,) = await self.client.storage.update([write], timeout_ns=self._timeout_ns)
        if result.code is not Code.OK:
            # Refused for good (NO_SPACE): it has not happened. No answer: it may, so the register is left alone from now on.
            self.record("failed", "write", f"{result.code.name} {result.message}")
            if result.code is not Code.NO_SPACE:
                self.record("uncertain", register.number)
            else:
                await asyncio.sleep(0.1)
            return
        before = register.chunk_version
        if before and result.version != before + 1:
            raise WrongBytes(
                f"register {register.number}: write {seq} made version {result.version}, the one before it made {before}: "
                "each must happen once"
            )
        self.record("ack", register.number, seq, result.version)
        self.record("time", "write", begin, time.monotonic_ns())

    async def _read_register(self, register: Register, kind: str) -> None:
        floor = register.floor
        buffer = bytearray(register.size)
        begin = time.monotonic_ns()
        io = ReadIO(register_chunk(register.number), self.chain_of(register.number), 0, memoryview(buffer))
        (outcome,) = await self.client.storage.read([io], timeout_ns=self._timeout_ns)
        if outcome.code not in (Code.OK, Code.NOT_FOUND):
            self.record("failed", kind, f"{outcome.code.name} {outcome.message}")
            if outcome.code is Code.CHECKSUM:
                raise WrongBytes(f"register {register.number}: no replica has whole bytes: {outcome.message}")
            return
        found = memoryview(buffer)[: outcome.length] if outcome.code is Code.OK else None
        seq = register.check_read(found, floor)
        if seq > floor:
            self.record("seen", register.number, seq)
        self.record("time", kind, begin, time.monotonic_ns())


class _FileTask:
    """Writes files of odd sizes, reads them back, renames and removes some."""

    def __init__(self, load: Load, number: int) -> None:
        self._load = load
        self._number = number
        self._count = 0
        self._prefix = f"{home_of(load.options.seed)}/{number}-"
        self._prng = random.Random(f"{load.options.seed} files {number}")

    async def __call__(self) -> None:
        load = self._load
        client = load.client
        mine = [name for name in load.journal.files if name.startswith(self._prefix)]
        chance = self._prng.random()
        if (chance < 0.5 and len(mine) < FILES_MAX) or not mine:
            name = f"{self._prefix}{self._count}"
            self._count += 1
            size = FILE_SIZES[self._count % len(FILE_SIZES)]
            if not load.file_allowance.take(size):
                size = 0
            if await load.run_timed("file", _write_file(client, name, contents(name, size))) is not None:
                load.record("file", name, size)
        elif chance < 0.9:
            name = self._prng.choice(mine)
            data = await load.run_timed("file", _read_file(client, name))
            if data is not None and data != contents(name, load.journal.files[name]):
                raise WrongBytes(f"{name}: {len(data)} bytes, not the {load.journal.files[name]} that were acknowledged")
        else:
            name = self._prng.choice(mine)
            load.record("remove", name)
            await load.run_timed("file", _remove_file(client, name))


async def _write_file(client: Client, name: str, data: bytes) -> bool:
    file = await client.open(name, "w")
    try:
        for offset in range(0, len(data), 1 << 20):
            await client.pwrite(file, data[offset : offset + (1 << 20)], offset)
    finally:
        await client.close(file)
    return True


async def _read_file(client: Client, name: str) -> bytes:
    file = await client.open(name, "r")
    try:
        return await client.pread(file, (8 << 20), 0)
    finally:
        await client.close(file)


async def _remove_file(client: Client, name: str) -> bool:
    await client.unlink(name)
    return True


class _PageTask:
    """Puts pages and gets them back."""

    def __init__(self, load: Load, cache: KVCache, number: int) -> None:
        self._load = load
        self._cache = cache
        self._number = number
        self._count = 0
        self._prng = random.Random(f"{load.options.seed} pages {number}")

    async def __call__(self) -> None:
        load = self._load
        size = load.options.page_bytes
        pages = load.journal.pages
        if (not pages or self._prng.random() < 0.3) and load.page_allowance.take(PAGES_PER_PUT * size):
            keys = [f"{load.options.seed}-{self._number}-{self._count + index}" for index in range(PAGES_PER_PUT)]
            self._count += PAGES_PER_PUT
            statuses = await load.run_timed("put", self._cache.put_from(keys, [contents(f"page {key}", size) for key in keys]))
            for key, status in zip(keys, statuses or (), strict=False):
                if status.ok:
                    load.record("page", key)
                else:
                    load.record("failed", "put", status.name)
            return
        if not pages:  # each put has failed, which the journal says
            await asyncio.sleep(0.1)
            return
        keys = [self._prng.choice(pages) for _ in range(PAGES_PER_PUT)]
        buffers = [bytearray(size) for _ in keys]
        statuses = await load.run_timed("get", self._cache.get_into(keys, buffers))
        for key, status, buffer in zip(keys, statuses or (), buffers, strict=False):
            if status is Status.OK and buffer != contents(f"page {key}", size):
                raise WrongBytes(f"page {key}: OK with other bytes")
            if status in (Status.MISS, Status.CORRUPT):
                raise WrongBytes(f"page {key} was acknowledged, a get says {status.name}")
            if not status.ok:
                load.record("failed", "get", status.name)


async def run_load(url: str, writer: JournalWriter, options: LoadOptions, stop: asyncio.Event | None = None) -> Journal:
    """Run a load until its time is over or `stop` is set; what it wrote. WrongBytes, in an ExceptionGroup."""
    async with await connect(url, transport=options.transport) as client:
        load = Load(client, writer, options)

        async def end() -> None:
            waits = [asyncio.ensure_future(stop.wait())] if stop is not None else []
            await asyncio.wait(
                [*waits, asyncio.ensure_future(asyncio.sleep(options.seconds or 1e9))], return_when=asyncio.FIRST_COMPLETED
            )
            load.stopping.set()

        ending = asyncio.ensure_future(end())
        try:
            await load.run()
        finally:
            ending.cancel()
        return load.journal


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="fs3.drill.load", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("journal", type=Path)
    for option in fields(LoadOptions):
        parser.add_argument(f"--{option.name.replace('_', '-')}", type=type(option.default), default=option.default)
    given = vars(parser.parse_args(arguments))
    url, journal = given.pop("url"), JournalWriter(given.pop("journal"))

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await run_load(url, journal, LoadOptions(**given), stop)

    wrongs: list[BaseException] = []
    try:
        asyncio.run(run())
    except* WrongBytes as wrong:
        wrongs += wrong.exceptions
    for each in wrongs:
        sys.stderr.write(f"{each}\n")
    return 1 if wrongs else 0


if __name__ == "__main__":
    raise SystemExit(main())
