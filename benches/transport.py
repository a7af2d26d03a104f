"""The framed wire against bare sockets, client and server in processes of their own: `python -m benches.transport`.

Each figure is measured in turns with its limit, so that whatever else the machine does hits both. Read replies leave a warm file
by sendfile and land in the caller's buffers; the limit does the same with blocking sockets and no protocol. Small calls carry a
20-byte protobuf each way; the limit echoes 64 bytes. Written payloads come from memory and go nowhere.

Where the host has RDMA devices and FS3_RDMA names them, pages are read by RDMA as well, beside the same socket without it. What
the device itself does is measured with perftest: `ib_read_bw -s 1048576` between the same two ports. What a path costs when it is
agreed on, beside short requests, and when it dies, is measured without a device (`benches/bulk_paths.py`).
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import mmap
import multiprocessing
import os
import socket
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from benches import bulk_paths
from benches.record import Row, Spread, save
from benches.run import table
from fs3.base.checksum import crc32c
from fs3.drivers.framed.local import LocalTransport, local_send_buffer_bytes
from fs3.drivers.framed.tcp import TcpTransport
from fs3.drivers.os.clock import OsClock
from fs3.drivers.rdma.paths import rdma_paths
from fs3.drivers.rdma.settings import allowed_devices
from fs3.drivers.rpc.rpc_counts import RpcCounts
from fs3.ports.rpc import Call, Channel, FileRange, Transport
from fs3.wire.methods import MGMTD, STORAGE
from fs3.wire.pb import mgmtd_pb2, storage_pb2

KIB, MIB = 1 << 10, 1 << 20
FILE_BYTES = 16 * MIB
PAGE_BYTES = 64 * 70_272
"""64 tokens of DeepSeek-V3."""
SCHEMES = ("tcp", "local", "path")
_CONTEXT = multiprocessing.get_context("spawn")

# --- servers, each in its own process --------------------------------------------------------------------------------


def _runner(kind: str) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    if kind == "uvloop":
        import uvloop

        return uvloop.run
    return asyncio.run


def _transport(scheme: str) -> Transport:
    if scheme == "tcp":
        clock = OsClock()
        return TcpTransport(clock, paths=rdma_paths(clock, allowed_devices()))
    return LocalTransport(OsClock())


def _serve_fs3(pipe: Any, endpoint: str, path: str, loop: str) -> None:
    file = os.open(path, os.O_RDONLY)

    def heartbeat(call: Call) -> None:
        call.reply(mgmtd_pb2.HeartbeatReply(seq=call.request.seq, lease_ms=3000))

    def read(call: Call) -> None:
        length = call.request.lengths[0]
        call.reply(storage_pb2.ReadReply(codes=[0], lengths=[length]), [FileRange(file, call.request.offsets[0], length)])

    def update(call: Call) -> None:
        call.reply(storage_pb2.UpdateReply(codes=[0], lengths=[len(call.payload or b"")]))

    async def serve() -> None:
        handlers = {MGMTD.Heartbeat: heartbeat, STORAGE.Read: read, STORAGE.Update: update}
        listener = await _transport(endpoint.partition(":")[0]).serve(endpoint, handlers)
        pipe.send(listener.endpoint)
        await asyncio.Event().wait()

    _runner(loop)(serve())


def _raw_socket(scheme: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET if scheme == "tcp" else socket.AF_UNIX)
    _tune_raw(sock)
    return sock


def _tune_raw(sock: socket.socket) -> None:
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    else:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, local_send_buffer_bytes)


def _exactly(sock: socket.socket, view: memoryview) -> bool:
    while len(view):
        count = sock.recv_into(view)
        if not count:
            return False
        view = view[count:]
    return True


def _serve_raw(pipe: Any, scheme: str, address: Any, path: str) -> None:
    """One connection at a time; its first byte says what it wants: E(cho), S(endfile), W(rite)."""
    file = os.open(path, os.O_RDONLY)
    listener = _raw_socket(scheme)
    listener.bind(address)
    listener.listen()
    pipe.send(listener.getsockname())
    sink = memoryview(mmap.mmap(-1, FILE_BYTES))
    request = memoryview(bytearray(8))
    while True:
        sock, _ = listener.accept()
        _tune_raw(sock)
        kind = sock.recv(1)
        if kind == b"E":
            while count := sock.recv_into(sink):
                sock.sendall(sink[:count])
        while kind in b"SW" and _exactly(sock, request):
            length = int.from_bytes(request, "little")
            if kind == b"S":
                sent = 0
                while sent < length:
                    sent += os.sendfile(sock.fileno(), file, sent, length - sent)
            elif _exactly(sock, sink[:length]):
                sock.sendall(b"1")


# --- figures of fs3 --------------------------------------------------------------------------------------------------


async def _in_flight(depth: int, count: int, one: Callable[[int], Awaitable[object]]) -> float:
    """Seconds for `count` calls, `depth` of them under way."""

    async def worker(slot: int) -> None:
        for _ in range(count // depth):
            await one(slot)

    await one(0)
    began = time.perf_counter()
    await asyncio.gather(*map(worker, range(depth)))
    return time.perf_counter() - began


def _buffers(depth: int, size: int) -> list[memoryview]:
    buffers = [memoryview(mmap.mmap(-1, size)) for _ in range(depth)]
    for buffer in buffers:
        buffer[:] = bytes(size)  # touched: the page faults are not what is measured
    return buffers


async def fs3_read(channel: Channel, size: int, depth: int, total: int) -> float:
    """Bytes/s read."""
    buffers = _buffers(depth, size)
    request = storage_pb2.ReadRequest(offsets=[0], lengths=[size])
    count = max(2, total // size // depth) * depth

    async def one(slot: int) -> None:
        await channel.call(STORAGE.Read, request, into=lambda _message, _length: (buffers[slot],))

    return count * size / await _in_flight(depth, count, one)


async def fs3_write(channel: Channel, size: int, depth: int, total: int) -> float:
    """Bytes/s written."""
    buffers = _buffers(depth, size)
    request = storage_pb2.UpdateRequest(lengths=[size])
    count = max(2, total // size // depth) * depth

    async def one(slot: int) -> None:
        await channel.call(STORAGE.Update, request, (buffers[slot],))

    return count * size / await _in_flight(depth, count, one)


async def fs3_calls(channel: Channel, depth: int, count: int) -> float:
    """Calls/s."""
    request = mgmtd_pb2.HeartbeatRequest(node_id=3, incarnation=1_700_000_000, seq=12_345)

    async def one(slot: int) -> None:
        await channel.call(MGMTD.Heartbeat, request)

    count = count // depth * depth
    return count / await _in_flight(depth, count, one)


async def verified_read(channel: Channel, size: int, total: int) -> float:
    """Bytes/s read one after the other, with the checksum of each."""
    (buffer,) = _buffers(1, size)
    request = storage_pb2.ReadRequest(offsets=[0], lengths=[size])
    count = max(2, total // size)

    async def one(_: int) -> None:
        await channel.call(STORAGE.Read, request, into=lambda _message, _length: (buffer,))
        crc32c(buffer)

    return count * size / await _in_flight(1, count, one)


# --- their limits ----------------------------------------------------------------------------------------------------


def _connect_raw(scheme: str, address: Any, kind: bytes) -> socket.socket:
    sock = _raw_socket(scheme)
    sock.connect(address)
    sock.sendall(kind)
    return sock


def raw_bulk(scheme: str, address: Any, kind: bytes, size: int, depth: int, total: int) -> float:
    """Bytes/s of sendfile to recv_into (b"S"), or of sendall to recv_into (b"W"), `depth` requests ahead."""
    with _connect_raw(scheme, address, kind) as sock:
        buffers = _buffers(depth, size)  # as many as fs3 fills or sends: one alone would stay in the cache
        request = size.to_bytes(8, "little")
        ack = memoryview(bytearray(1))
        count = max(2, total // size // depth) * depth
        asked = 0
        began = time.perf_counter()
        for done in range(count):
            while asked < min(count, done + depth):
                sock.sendall(request)
                if kind == b"W":
                    sock.sendall(buffers[asked % depth])
                asked += 1
            _exactly(sock, buffers[done % depth] if kind == b"S" else ack)
        return count * size / (time.perf_counter() - began)


def raw_echo(scheme: str, address: Any, depth: int, count: int) -> float:
    """64-byte messages/s there and back, `depth` at a time."""
    with _connect_raw(scheme, address, b"E") as sock:
        message = bytes(64 * depth)
        buffer = memoryview(bytearray(64 * depth))
        began = time.perf_counter()
        for _ in range(count // depth):
            sock.sendall(message)
            _exactly(sock, buffer)
        return count // depth * depth / (time.perf_counter() - began)


# --- the run ---------------------------------------------------------------------------------------------------------


async def _row(
    figure: str, unit: str, runs: int, ours: Callable[[], Awaitable[float]], limit: Callable[[], float], **must: float
) -> Row:
    """Measure in turns; GB/s of what is measured in bytes/s."""
    one = 1e9 if unit == "GB/s" else 1
    values, limits = [], []
    for _ in range(runs):
        limits.append(limit() / one)
        values.append(await ours() / one)
    must_ratio, must_value = must.get("ratio"), must.get("value")
    limit_name, bare = f"{unit} by a bare socket", Spread.of(limits)
    return Row("transport", figure, unit, Spread.of(values), limit_name, bare, must_ratio=must_ratio, must_value=must_value)


async def _read_in_turns(figure: str, channel: Channel, by_socket: Channel, runs: int, total: int, must: float | None) -> Row:
    """A page of a KVCache, by the channel and by the socket alone, in turns."""
    values, others = [], []
    for _ in range(runs):
        others.append(await verified_read(by_socket, PAGE_BYTES, total) / 1e9)
        values.append(await verified_read(channel, PAGE_BYTES, total) / 1e9)
    beside = Spread.of(others)
    return Row("transport", figure, "GB/s", Spread.of(values), "GB/s by the socket", beside, must_ratio=must)


async def _measure(scheme: str, endpoint: str, address: Any, runs: int, scale: float) -> list[Row]:
    channel = _transport(scheme).connect(endpoint)
    rows = []
    try:
        for size, depth in itertools.product((MIB, 4 * MIB), (1, 2, 4)):
            total = int(512 * MIB * scale)
            ours = partial(fs3_read, channel, size, depth, total)
            limit = partial(raw_bulk, scheme, address, b"S", size, depth, total)
            must = {"ratio": 0.9} if size == 4 * MIB and depth > 1 else {}
            rows.append(await _row(f"{scheme}: read {size // MIB} MiB, {depth} in flight", "GB/s", runs, ours, limit, **must))
        for depth in (1, 64):
            count = int((4_000 if depth == 1 else 40_000) * scale)
            ours = partial(fs3_calls, channel, depth, count)
            limit = partial(raw_echo, scheme, address, depth, count)
            must = {"value": 40_000.0} if depth == 64 else {}
            rows.append(await _row(f"{scheme}: small calls, {depth} in flight", "/s", runs, ours, limit, **must))
        for size, depth in itertools.product((64 * KIB, MIB, 4 * MIB), (1, 4)):
            total = int((128 if size < MIB else 512) * MIB * scale)
            ours = partial(fs3_write, channel, size, depth, total)
            limit = partial(raw_bulk, scheme, address, b"W", size, depth, total)
            rows.append(await _row(f"{scheme}: write {size // KIB} KiB, {depth} in flight", "GB/s", runs, ours, limit))
        if scheme == "local":
            rows.append(await _compare_with_socket(channel, endpoint, runs, int(512 * MIB * scale)))
        elif allowed_devices():
            rows.append(await _compare_rdma(endpoint, runs, int(512 * MIB * scale)))
    finally:
        await channel.close()
    return rows


async def _compare_with_socket(channel: Channel, endpoint: str, runs: int, total: int) -> Row:
    """Pages from the file that the server has passed, and by its socket."""
    by_socket = LocalTransport(OsClock(), passes_files=False).connect(endpoint)
    try:
        figure = "local: page of 4.5 MB, verified, from the passed file"
        return await _read_in_turns(figure, channel, by_socket, runs, total, 1.8)
    finally:
        await by_socket.close()


async def _compare_rdma(endpoint: str, runs: int, total: int) -> Row:
    """Pages by RDMA, and by the socket. SystemExit says why there is no RDMA."""
    clock = OsClock()
    counts = RpcCounts(clock)
    by_path = TcpTransport(clock, counts=counts, paths=rdma_paths(clock, allowed_devices())).connect(endpoint)
    by_socket = TcpTransport(clock).connect(endpoint)
    try:
        await verified_read(by_path, PAGE_BYTES, total)  # the first call asks for the path
        (found,) = counts.open.report().connections
        if found.transport != "rdma":
            raise SystemExit(f"{endpoint} is not reached by RDMA: {found.why}")
        return await _read_in_turns("rdma: page of 4.5 MB, verified", by_path, by_socket, runs, total, None)
    finally:
        await by_path.close()
        await by_socket.close()


def _with_servers(scheme: str, loop: str, runs: int, scale: float) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="fs3-bench-") as directory:
        path = Path(directory) / "file"
        path.write_bytes(os.urandom(FILE_BYTES))
        endpoint = "tcp://127.0.0.1:0" if scheme == "tcp" else f"local://{directory}/fs3.sock"
        address: Any = ("127.0.0.1", 0) if scheme == "tcp" else f"{directory}/raw.sock"
        children, answers = [], []
        for target, arguments in ((_serve_fs3, (endpoint, str(path), loop)), (_serve_raw, (scheme, address, str(path)))):
            mine, its = _CONTEXT.Pipe()
            child = _CONTEXT.Process(target=target, args=(its, *arguments), daemon=True)
            child.start()
            children.append(child)
            answers.append(mine.recv())
        try:
            return list(_runner(loop)(_measure(scheme, answers[0], answers[1], runs, scale)))
        finally:
            for child in children:
                child.terminate()
                child.join()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and save when asked."""
    parser = argparse.ArgumentParser(prog="benches.transport", description=__doc__)
    parser.add_argument("--schemes", default="tcp,local,path", help="which transports; path: RDMA paths without a device")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument(
        "--scale", type=float, default=1.0, help="how much is moved, relative to the usual; below 1 nothing is saved"
    )
    parser.add_argument("--save", action="store_true", help="append to benches/results")
    options = parser.parse_args(arguments)
    schemes = options.schemes.split(",")
    unknown = [scheme for scheme in schemes if scheme not in SCHEMES]
    if unknown:
        parser.error(f"there is no transport {unknown[0]!r}; there are {', '.join(SCHEMES)}")
    console = Console(width=None if sys.stdout.isatty() else 180)
    rows: list[Row] = []
    for scheme in schemes:
        if scheme == "path":
            measured = _runner(options.loop)(bulk_paths.measure(options.runs, options.scale))
        else:
            measured = _with_servers(scheme, options.loop, options.runs, options.scale)
        rows += measured
        console.print(table(measured, f"{scheme}, {options.loop}"))
    if options.save and options.scale == 1:
        console.print(f"saved to {save(rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
