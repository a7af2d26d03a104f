"""The end of a load: every register on every replica, every file and every page is held against the journal, then removed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from fs3.api.client import Client
from fs3.api.connect import connect
from fs3.api.kvcache import KVCache, Status
from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.client.routing import StaticRouting
from fs3.core.files.read_plan import ReadIO
from fs3.core.files.write_plan import WriteIO
from fs3.drill.journal import Journal, Register, WrongBytes, contents, register_chunk
from fs3.drill.load import NAMESPACE, home_of
from fs3.model.chunk import UpdateKind
from fs3.model.routing import Routing

BATCH = 16
ATTEMPTS = 3
PATIENCE_NS = 5 * SECOND


@dataclass
class Verdict:
    """What was looked at, and what was wrong."""

    registers: int = 0
    """Reads of registers: each register on each replica."""
    files: int = 0
    pages: int = 0
    bytes: int = 0
    wrong: list[str] = field(default_factory=list)


async def verify(
    url: str, journal: Journal, *, transport: str = "auto", progress: Callable[[Verdict], None] | None = None
) -> Verdict:
    """Look at everything a journal says. Needs a cluster on which every target serves."""
    verdict = Verdict(wrong=list(journal.wrong))
    show = progress or (lambda verdict: None)
    async with await connect(url, transport=transport) as client:
        await _registers(client, journal, verdict, show)
        await _files(client, journal, verdict, show)
        await _pages(client, journal, verdict, show)
    return verdict


def pin_replica(routing: Routing, place: int) -> Routing:
    """Routing in which one serving replica of each chain is the only one: whoever follows it reads that replica."""
    chains = {}
    for chain in routing.chains.values():
        serving = [slot for slot in chain.slots if slot in chain.serving_slots()]
        chains[chain.id] = msgspec.structs.replace(chain, slots=(serving[place % len(serving)],)) if serving else chain
    return Routing(routing.cluster, routing.version, routing.nodes, chains, routing.tables)


async def _registers(client: Client, journal: Journal, verdict: Verdict, show: Callable[[Verdict], None]) -> None:
    registers = list(journal.registers.values())
    shown: dict[int, set[int]] = {}
    replicas = max((len(chain.serving_slots()) for chain in client.manager.routing.chains.values()), default=0)
    for place in range(replicas):
        for first in range(0, len(registers), BATCH):
            batch = registers[first : first + BATCH]
            for register, (code, data) in zip(batch, await _read_replica(client, batch, place), strict=True):
                verdict.registers += 1
                verdict.bytes += len(data)
                if code not in (Code.OK, Code.NOT_FOUND):
                    verdict.wrong.append(f"register {register.number}, replica {place}: {code.name}")
                    continue
                try:
                    seq = register.check_read(data if code is Code.OK else None, register.floor)
                except WrongBytes as wrong:
                    verdict.wrong.append(f"replica {place}: {wrong}")
                else:
                    shown.setdefault(register.number, set()).add(seq)
            show(verdict)
    for number, found in shown.items():
        if len(found) > 1:
            verdict.wrong.append(f"register {number}: replicas show writes {sorted(found)}")


async def _read_replica(client: Client, batch: Sequence[Register], place: int) -> list[tuple[Code, memoryview]]:
    """(code, bytes) of registers on one replica. A chain that changes meanwhile is followed."""
    found: list[tuple[Code, memoryview]] = []
    for _ in range(ATTEMPTS):
        routing = client.manager.routing
        chains = tuple(sorted(routing.chains))
        pinned = client.storage.with_routing(StaticRouting(pin_replica(routing, place)))
        buffers = [memoryview(bytearray(register.size)) for register in batch]
        ios = [
            ReadIO(register_chunk(register.number), chains[register.number % len(chains)], 0, buffer)
            for register, buffer in zip(batch, buffers, strict=True)
        ]
        outcomes = await pinned.read(ios, timeout_ns=PATIENCE_NS)
        await pinned.close()
        found = [(outcome.code, buffer[: outcome.length]) for outcome, buffer in zip(outcomes, buffers, strict=True)]
        if all(code in (Code.OK, Code.NOT_FOUND) for code, _ in found) or client.manager.routing.version == routing.version:
            break
    return found


async def _files(client: Client, journal: Journal, verdict: Verdict, show: Callable[[Verdict], None]) -> None:
    for name, size in journal.files.items():
        verdict.files += 1
        try:
            file = await client.open(name, "r")
            data = await client.pread(file, size + 1, 0)
            await client.close(file)
        except FS3Error as failure:
            verdict.wrong.append(f"{name}: {failure}")
            continue
        verdict.bytes += len(data)
        if data != contents(name, size):
            verdict.wrong.append(f"{name}: {len(data)} bytes, not the {size} that were acknowledged")
        show(verdict)


async def _pages(client: Client, journal: Journal, verdict: Verdict, show: Callable[[Verdict], None]) -> None:
    if not journal.pages:
        return
    size = journal.page_bytes
    cache = await KVCache.of(client, namespace=NAMESPACE, page_bytes=size)
    for first in range(0, len(journal.pages), BATCH):
        keys = journal.pages[first : first + BATCH]
        buffers = [bytearray(size) for _ in keys]
        for key, status, buffer in zip(keys, await cache.get_into(keys, buffers), buffers, strict=True):
            verdict.pages += 1
            verdict.bytes += size
            if status is not Status.OK:
                verdict.wrong.append(f"page {key}: {status.name}")
            elif buffer != contents(f"page {key}", size):
                verdict.wrong.append(f"page {key}: other bytes")
        show(verdict)


def verify_now(url: str, journal: Journal, transport: str = "auto") -> Verdict:
    """`verify`, for callers without a loop."""
    return asyncio.run(verify(url, journal, transport=transport))


async def remove_written(url: str, journal: Journal, seed: int) -> None:
    """Remove everything that the load of a seed has written, so that one more does not find the disks fuller. FS3Error when that
    is refused."""
    async with await connect(url) as client:
        chains = tuple(sorted(client.manager.routing.chains))
        registers = list(journal.registers)
        for first in range(0, len(registers), BATCH):
            writes = [
                WriteIO(register_chunk(number), chains[number % len(chains)], UpdateKind.REMOVE, 0)
                for number in registers[first : first + BATCH]
            ]
            for result in await client.storage.update(writes, timeout_ns=PATIENCE_NS):
                if result.code not in (Code.OK, Code.NOT_FOUND):
                    raise error(result.code, f"a register cannot be removed: {result.message}")
        if await client.exists(home_of(seed)):
            await client.rmtree(home_of(seed))
        if journal.pages:
            cache = await KVCache.of(client, namespace=NAMESPACE, page_bytes=journal.page_bytes)
            for first in range(0, len(journal.pages), BATCH):
                await cache.remove(journal.pages[first : first + BATCH])


def remove_written_now(url: str, journal: Journal, seed: int) -> None:
    """`remove_written`, for callers without a loop."""
    asyncio.run(remove_written(url, journal, seed))
