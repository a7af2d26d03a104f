"""Twelve nodes answer one client over a shaped line, real sockets and the kernel's TCP: `python -m benches.shaped_incast`.

The nodes are in a network namespace, joined to this host by a pair of virtual devices; what they send passes a token bucket with
a shallow queue (tc-tbf(8)), as a port of a switch has. The client reads stripes, one piece of every node, with its grants
(`fs3.core.files.read_grants`) and without, in turns. The limit is one stream through the same line. Needs root, `ip` and `tc`.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from rich.console import Console
from rich.table import Table

from benches.record import Row, Spread, save
from fs3.base.ids import NodeId
from fs3.base.units import MIB, SECOND
from fs3.client.storage.read_gate import ReadGate
from fs3.core.files.read_grants import ReadGrants
from fs3.drivers.framed.tcp import TcpTransport
from fs3.drivers.os.clock import OsClock
from fs3.ports.rpc import Call, Channel, Reply
from fs3.wire.methods import STORAGE
from fs3.wire.pb import storage_pb2

NODES = 12
PIECE_BYTES = 1 * MIB
STRIPES = 6
RATE_MBIT = 400
QUEUE_BYTES = 64 * 1024
NODE_ADDRESS, CLIENT_ADDRESS = "10.213.7.1", "10.213.7.2"
_CONTEXT = multiprocessing.get_context("spawn")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench; 2 where it cannot."""
    options = _options(arguments)
    console = Console()
    why = find_obstacle()
    if why:
        console.print(f"not measured: {why}")
        return 2
    with shaped_line() as namespace, serving_nodes(namespace) as endpoints:
        rows = asyncio.run(measure(endpoints, options.runs))
    table = Table("figure", "median", "low - high", "one stream", "ratio")
    for row in rows:
        assert row.limit is not None
        spread = f"{row.value.low:.1f} - {row.value.high:.1f}"
        ratio = f"{row.value.median / row.limit.median:.2f}"
        table.add_row(row.figure, f"{row.value.median:.1f} {row.unit}", spread, f"{row.limit.median:.1f}", ratio)
    console.print(table)
    if not options.no_save:
        console.print(f"saved to {save(rows)}")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benches.shaped_incast", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5, help="measurements of each figure, in turns")
    parser.add_argument("--no-save", action="store_true", help="do not append to benches/results")
    return parser.parse_args(arguments)


def find_obstacle() -> str:
    """Why it cannot be measured here; "" when it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [program for program in ("ip", "tc") if shutil.which(program) is None]
    return f"there is no {' and no '.join(missing)}" if missing else ""


@contextmanager
def shaped_line() -> Iterator[str]:
    """A namespace behind a line that drops what does not fit its queue."""
    name = f"fs3line{os.getpid()}"
    outside, inside = f"fs3o{os.getpid()}"[:15], f"fs3i{os.getpid()}"[:15]
    shape = ["tbf", "rate", f"{RATE_MBIT}mbit", "burst", "16kb", "limit", str(QUEUE_BYTES)]
    try:
        for command in (
            ["ip", "netns", "add", name],
            ["ip", "link", "add", outside, "type", "veth", "peer", "name", inside],
            ["ip", "link", "set", inside, "netns", name],
            ["ip", "addr", "add", f"{CLIENT_ADDRESS}/24", "dev", outside],
            ["ip", "link", "set", outside, "up"],
            ["ip", "-n", name, "addr", "add", f"{NODE_ADDRESS}/24", "dev", inside],
            ["ip", "-n", name, "link", "set", inside, "up"],
            ["tc", "-n", name, "qdisc", "add", "dev", inside, "root", *shape],
        ):
            subprocess.run(command, check=True, timeout=30)
        yield name
    finally:
        subprocess.run(["ip", "link", "del", outside], capture_output=True, timeout=30)
        subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=30)


@contextmanager
def serving_nodes(namespace: str) -> Iterator[list[str]]:
    """The endpoints of so many nodes in a namespace, all served by one process."""
    ours, theirs = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=_serve, args=(theirs, namespace), daemon=True)
    process.start()
    try:
        if not ours.poll(60):
            raise RuntimeError("the nodes do not come up")
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


def _serve(pipe: Any, namespace: str) -> None:
    with open(f"/var/run/netns/{namespace}") as file:
        _enter_namespace(file.fileno())
    data = memoryview(os.urandom(PIECE_BYTES))

    def read(call: Call) -> None:
        call.reply(storage_pb2.ReadReply(codes=[0], lengths=[PIECE_BYTES]), [data])

    async def serve() -> None:
        transport = TcpTransport(OsClock())
        listeners = [await transport.serve(f"tcp://{NODE_ADDRESS}:0", {STORAGE.Read: read}) for _ in range(NODES)]
        pipe.send([listener.endpoint for listener in listeners])
        await asyncio.Event().wait()

    asyncio.run(serve())


def _enter_namespace(descriptor: int) -> None:
    """setns(2), which Python has from 3.12 on."""
    import ctypes

    if ctypes.CDLL(None, use_errno=True).setns(descriptor, 0):
        raise OSError(ctypes.get_errno(), "setns")


async def measure(endpoints: list[str], runs: int) -> list[Row]:
    """The rows: with grants, without."""
    transport = TcpTransport(OsClock())
    channels = [transport.connect(endpoint) for endpoint in endpoints]
    try:
        figures: dict[str, list[float]] = {"with grants": [], "without": [], "one stream": []}
        await _stripes(channels, ReadGrants(), 1)
        for _ in range(runs):
            figures["one stream"].append(await _stripes(channels[:1], ReadGrants(), STRIPES * NODES // 4))
            figures["with grants"].append(await _stripes(channels, ReadGrants(), STRIPES))
            figures["without"].append(await _stripes(channels, ReadGrants(1 << 60, 1 << 30), STRIPES))
    finally:
        for channel in channels:
            await channel.close()
    limit = Spread.of(figures["one stream"])
    figure = f"{NODES} nodes answer one client, shaped to {RATE_MBIT} Mbit/s"
    return [
        Row(
            "shaped_incast", f"{figure}, {way} grants", "MB/s", Spread.of(figures[key]), "MB/s by one stream", limit,
            extra={"queue_bytes": QUEUE_BYTES},
        )
        for key, way in (("with grants", "with"), ("without", "without"))
    ]  # fmt: skip


async def _stripes(channels: list[Channel], grants: ReadGrants, count: int) -> float:
    """Megabytes per second of so many stripes, each waited for as a whole."""
    gate = ReadGate(grants, OsClock())
    buffers = [memoryview(bytearray(PIECE_BYTES)) for _ in channels]
    begun = time.perf_counter()
    for _ in range(count):
        reads = []
        for number, channel in enumerate(channels):
            reads.append(gate.start(NodeId(1 + number), PIECE_BYTES, partial(_read, channel, buffers[number]), 300 * SECOND))
        await asyncio.gather(*reads)
    return count * len(channels) * PIECE_BYTES / (time.perf_counter() - begun) / 1e6


def _read(channel: Channel, buffer: memoryview) -> asyncio.Future[Reply]:
    request = storage_pb2.ReadRequest(lengths=[PIECE_BYTES], offsets=[0])
    return channel.start(STORAGE.Read, request, (), lambda message, length: (buffer,), 300 * SECOND)


if __name__ == "__main__":
    sys.exit(main())
