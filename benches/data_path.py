"""The data path alone: storage services in processes of their own, a storage client here, no metadata and no manager.

    python -m benches.data_path [--runs 3] [--directory DIR] [--loop asyncio] [--only read,batch,write,memory]

Each figure stands beside the raw limit of the same run: sendfile to recv_into between two processes, bare preadv, a raw chain of
three processes with fdatasync'ed files. CPU figures are of this process and of the storage processes together, per call.
"""

from __future__ import annotations

import argparse
import asyncio
import mmap
import multiprocessing
import os
import random
import resource
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console

from benches import limits
from benches.record import Row, Spread
from benches.run import table
from fs3.base.ids import ChainId, ClientId, NodeId, TargetId, file_chunk
from fs3.base.limits import heartbeat_ns, lease_ns
from fs3.client.connector import Connector
from fs3.client.routing import StaticRouting
from fs3.client.storage.client import StorageClient
from fs3.core.files.read_plan import ReadIO
from fs3.core.files.write_plan import WriteIO
from fs3.drivers.chunks import FileChunkStore
from fs3.drivers.framed.tcp import TcpTransport
from fs3.drivers.os.clock import OsClock
from fs3.drivers.os.data_directories import DataDirectories
from fs3.model.chain import Chain, PublicState, Slot
from fs3.model.chunk import UpdateKind
from fs3.model.cluster import Heartbeat, HeartbeatAck, NamespaceChanges, NamespacePage, RegisterNode, RegistrationAck
from fs3.model.routing import Node, Role, Routing
from fs3.services.storage import StorageConfig, StorageService
from fs3.wire.methods import STORAGE
from fs3.wire.pb import storage_pb2 as pb

MIB = 1 << 20
NODES = 3
CHAINS = 6
CHUNK = 4 * MIB
CHUNKS = 64
SEQUENTIAL_BYTES = 2048 * MIB
WRITES = 64
_CONTEXT = multiprocessing.get_context("spawn")


class _Manager(StaticRouting):
    """A manager that has decided everything before."""

    cluster = b"bench-data-path!"

    def __init__(self, node: int) -> None:
        super().__init__(Routing())
        self._node = node

    async def register(self, request: RegisterNode) -> RegistrationAck:
        return RegistrationAck(NodeId(self._node), self.cluster, lease_ns, heartbeat_ns, max(request.incarnation, 1))

    async def heartbeat(self, request: Heartbeat, timeout_ns: int = 0, *, attempt_ns: int = 0) -> HeartbeatAck:
        return HeartbeatAck(request.seq, lease_ns, self.routing.version, 0)

    async def list_namespaces(self, prefix: str = "", after: str = "") -> NamespacePage:
        return NamespacePage((), more=False, next_id=1)

    async def list_namespace_changes(self, since: int) -> NamespaceChanges:
        return NamespaceChanges(is_complete=True, version=since, next_id=1)


def routing_of(endpoints: list[str]) -> Routing:
    """Every chain on every node, each beginning at another one."""
    nodes = {
        NodeId(index + 1): Node(NodeId(index + 1), f"storage-{index + 1}", Role.STORAGE, (endpoint,), "", 1, True)
        for index, endpoint in enumerate(endpoints)
    }
    chains = {}
    for number in range(1, CHAINS + 1):
        order = [1 + (number + place) % len(endpoints) for place in range(len(endpoints))]
        slots = tuple(Slot(TargetId(number * 100 + node), NodeId(node), PublicState.SERVING) for node in order)
        chains[ChainId(number)] = Chain(ChainId(number), 1, slots)
    return Routing(_Manager.cluster, 1, nodes, chains, {})


def _serve(pipe: Any, node: int, directory: str, loop: str) -> None:
    run = uvloop.run if loop == "uvloop" else asyncio.run
    run(_serve_node(pipe, node, Path(directory)))


async def _serve_node(pipe: Any, node: int, directory: Path) -> None:
    clock = OsClock()
    disks = DataDirectories([directory / f"node-{node}"], f"storage-{node}")
    manager = _Manager(node)
    transport = TcpTransport(clock)
    connector = Connector([transport], "")

    async def open_store(target: TargetId) -> FileChunkStore:
        return FileChunkStore.open(disks.ensure_target_dir(target), target, clock)

    manager_like: Any = manager
    service = StorageService(disks, open_store, clock, manager_like, connector, StorageConfig())
    listener = await transport.serve("tcp://127.0.0.1:0", service.bindings())
    pipe.send(listener.endpoint)
    endpoints = await asyncio.to_thread(pipe.recv)
    manager.set(routing_of(endpoints))
    await service.start([listener.endpoint], "")
    async with asyncio.timeout(30):
        while len(service.targets) < CHAINS:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    pipe.send("ready")
    while True:
        await asyncio.to_thread(pipe.recv)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        pipe.send((usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024))


class Nodes:
    """The storage processes."""

    def __init__(self, pipes: list[Any], endpoints: list[str]) -> None:
        self._pipes = pipes
        self.endpoints = endpoints

    def usage(self) -> list[tuple[float, int]]:
        """(CPU seconds so far, peak resident bytes) of each."""
        for pipe in self._pipes:
            pipe.send("usage")
        return [pipe.recv() for pipe in self._pipes]


@contextmanager
def storage_nodes(directory: Path, loop: str) -> Iterator[Nodes]:
    """Start the processes; stop them afterwards."""
    with ExitStack() as stack:
        pipes = []
        for node in range(1, NODES + 1):
            mine, its = _CONTEXT.Pipe()
            process = _CONTEXT.Process(target=_serve, args=(its, node, str(directory), loop), daemon=True)
            process.start()
            stack.callback(process.join)
            stack.callback(process.terminate)
            pipes.append(mine)
        endpoints = [pipe.recv() for pipe in pipes]
        for pipe in pipes:
            pipe.send(endpoints)
        for pipe in pipes:
            assert pipe.recv() == "ready"
        yield Nodes(pipes, endpoints)


def _where(index: int) -> tuple[Any, ChainId]:
    return file_chunk(7, index), ChainId(1 + index % CHAINS)  # type: ignore[arg-type]


class Bench:
    """The measurements, over one client."""

    def __init__(self, client: StorageClient, nodes: Nodes, directory: Path, runs: int) -> None:
        self.client = client
        self.nodes = nodes
        self.directory = directory
        self.runs = runs

    async def prepare(self) -> None:
        """Chunks to read, warm."""
        data = memoryview(os.urandom(CHUNK))
        for index in range(CHUNKS):
            await self._write(index, data)
        buffer = memoryview(mmap.mmap(-1, CHUNK))
        for _ in range(4):
            for index in range(CHUNKS):
                await self.client.read([ReadIO(*_where(index), 0, buffer)])

    async def _write(self, index: int, data: memoryview) -> None:
        (result,) = await self.client.update([WriteIO(*_where(index), UpdateKind.WRITE, 0, data, len(data))])
        assert result.code == 0, result

    async def read(self) -> list[Row]:
        """(a) sequential reads."""
        rows = []
        for size in (MIB, 4 * MIB):
            values, raws, cpus = [], [], []
            for _ in range(self.runs):
                elapsed, cpu = await self._timed(lambda size=size: self._sequential(size, 2))
                values.append(SEQUENTIAL_BYTES / elapsed / 1e9)
                cpus.append(cpu)
                raws.append(limits.sendfile_to_recv_into(self.directory, size, SEQUENTIAL_BYTES, 2) / 1e9)
            calls = SEQUENTIAL_BYTES // size
            rows.append(_row("read", f"sequential {size // MIB} MiB", "GB/s", values, "raw sendfile", raws, cpus, calls))
        return rows

    async def _sequential(self, size: int, ahead: int) -> None:
        buffers = [memoryview(mmap.mmap(-1, size)) for _ in range(ahead)]
        waiting: list[asyncio.Task[Any]] = []
        for number in range(SEQUENTIAL_BYTES // size):
            if len(waiting) == ahead:
                (outcome,) = await waiting.pop(0)
                assert outcome.length == size, outcome
            index, offset = divmod(number * size % (CHUNKS * CHUNK), CHUNK)
            io = ReadIO(*_where(index), offset, buffers[number % ahead])
            waiting.append(asyncio.ensure_future(self.client.read([io])))
        await asyncio.gather(*waiting)

    async def batch(self) -> list[Row]:
        """(b) 4 KiB: 64 a call, and one at a time."""
        path = self.directory / "random.bin"
        path.write_bytes(os.urandom(256 * MIB))
        rows = []
        for count, calls in ((64, 1500), (1, 6000)):
            values, raws, cpus = [], [], []
            for _ in range(self.runs):
                planned = self._random_calls(count, calls)
                elapsed, cpu = await self._timed(lambda planned=planned: self._random(planned))
                values.append(count * calls / elapsed)
                cpus.append(cpu)
                if count == 1:
                    raws.append(limits.echo(4096, 10_000))
                else:
                    raws.append(limits.preadv_random(path, 4096, 50_000))
            name = "raw 4 KiB echo" if count == 1 else "bare preadv"
            rows.append(_row("read", f"random 4 KiB, {count} a call", "/s", values, name, raws, cpus, calls))
        path.unlink()
        return rows

    def _random_calls(self, count: int, calls: int) -> list[list[ReadIO]]:
        space = memoryview(bytearray(count * 4096))
        buffers = [space[place * 4096 : place * 4096 + 4096] for place in range(count)]
        return [
            [ReadIO(*_where(random.randrange(CHUNKS)), random.randrange(1024) * 4096, buffer) for buffer in buffers]
            for _ in range(calls)
        ]

    async def _random(self, calls: list[list[ReadIO]]) -> None:
        for ios in calls:
            outcomes = await self.client.read(ios)
            assert outcomes[-1].length == 4096, outcomes[-1]

    async def write(self) -> list[Row]:
        """(c) durable writes of 4 MiB on three replicas; and small ones."""
        rows = []
        data = memoryview(os.urandom(CHUNK))
        for ahead in (1, 4):
            values, raws, cpus = [], [], []
            for _ in range(self.runs):
                elapsed, cpu = await self._timed(lambda ahead=ahead: self._writes(ahead, WRITES, data))
                values.append(WRITES * CHUNK / elapsed / 1e9)
                cpus.append(cpu)
                raws.append(limits.raw_chain(self.directory, CHUNK, WRITES, ahead) / 1e9)
            rows.append(_row("write", f"4 MiB x 3, durable, {ahead} under way", "GB/s", values, "raw chain", raws, cpus, WRITES))
        small = memoryview(os.urandom(4096))
        values, cpus = [], []
        for _ in range(self.runs):
            elapsed, cpu = await self._timed(lambda: self._writes(64, 4000, small))
            values.append(4000 / elapsed)
            cpus.append(cpu)
        rows.append(_row("write", "4 KiB x 3, durable, 64 under way", "/s", values, "", [], cpus, 4000))
        return rows

    async def _writes(self, ahead: int, count: int, data: memoryview) -> None:
        indices = iter(range(count))

        async def worker() -> None:
            for index in indices:
                await self._write(1000 + index % 4096, data)

        await asyncio.gather(*(worker() for _ in range(ahead)))

    async def memory(self) -> list[Row]:
        """Peak memory of the storage processes while 4 GiB are written."""
        data = memoryview(os.urandom(CHUNK))
        for _ in range(8):
            await self._writes(8, 128, data)
        peak = max(rss for _, rss in self.nodes.usage()) / MIB
        return [Row("memory", "peak while writing 4 GiB", "MiB", Spread.of([peak]), must_value=300, lower_is_better=True)]

    async def _timed(self, work: Callable[[], Awaitable[None]]) -> tuple[float, tuple[float, float]]:
        """(elapsed seconds, (CPU seconds here, CPU seconds of the storage processes together))."""
        before = [cpu for cpu, _ in self.nodes.usage()]
        here = time.process_time()
        began = time.perf_counter()
        await work()
        elapsed = time.perf_counter() - began
        here = time.process_time() - here
        after = [cpu for cpu, _ in self.nodes.usage()]
        return elapsed, (here, sum(after) - sum(before))


def _row(
    bench: str, figure: str, unit: str, values: list[float], limit: str, raws: list[float], cpus: list[Any], calls: int
) -> Row:
    here = min(cpu for cpu, _ in cpus) / calls * 1e6
    there = min(cpu for _, cpu in cpus) / calls * 1e6
    note = f"{here:.0f} us client + {there:.0f} us storage CPU a call"
    return Row(bench, figure, unit, Spread.of(values), limit, Spread.of(raws) if raws else None, note=note)


async def _measure(nodes: Nodes, directory: Path, runs: int, only: list[str], console: Console) -> None:
    clock = OsClock()
    connector = Connector([TcpTransport(clock)], "")
    client = StorageClient(StaticRouting(routing_of(nodes.endpoints)), connector, clock, ClientId(os.urandom(16)))
    channel = connector.channel([nodes.endpoints[0]])
    await channel.call(STORAGE.GetSpace, pb.GetSpaceRequest())
    bench = Bench(client, nodes, directory, runs)
    await bench.prepare()
    for name in only:
        rows = await getattr(bench, name)()
        console.print(table(rows, name))
        for row in rows:
            console.print(f"  {row.figure}: {row.note}")
    await connector.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benches.data_path", description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--directory", type=Path, default=None)
    parser.add_argument(
        "--loop", choices=("uvloop", "asyncio"), default="uvloop", help="of the storage processes and of the client"
    )
    parser.add_argument("--only", default="read,batch,write,memory")
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="fs3-data-path-", dir=options.directory))
    run: Any = uvloop.run if options.loop == "uvloop" else asyncio.run
    try:
        with storage_nodes(work, options.loop) as nodes:
            run(_measure(nodes, work, options.runs, options.only.split(","), Console(width=200)))
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
