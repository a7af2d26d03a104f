"""What TLS costs on the framed wire: `python -m benches.tls [--runs 5] [--scale 1] [--save]`.

Reads of a warm file, client and server in processes of their own, measured in turns: fs3 by TLS, bare blocking TLS sockets that
read the file and send it, fs3 by TCP. Small calls, and one by one what a connection costs until it has carried a call.
"""

from __future__ import annotations

import argparse
import asyncio
import mmap
import multiprocessing
import os
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

from benches.record import Row, Spread, save
from benches.transport import FILE_BYTES, KIB, MIB, fs3_calls, fs3_read
from fs3.drivers.framed.tcp import TcpTransport
from fs3.drivers.framed.tls import TlsTransport
from fs3.drivers.os.clock import OsClock
from fs3.drivers.tls.credentials import TlsCredentials, TlsFiles
from fs3.drivers.tls.private_authority import issue, make_authority
from fs3.ports.rpc import Call, FileRange
from fs3.wire.methods import MGMTD, STORAGE
from fs3.wire.pb import mgmtd_pb2, storage_pb2

_CONTEXT = multiprocessing.get_context("spawn")


def _credentials(home: str) -> TlsCredentials:
    return TlsCredentials(TlsFiles(f"{home}/ca.crt", f"{home}/bench.crt", f"{home}/bench.key"), OsClock())


def _transport(scheme: str, home: str) -> TcpTransport:
    return TcpTransport(OsClock()) if scheme == "tcp" else TlsTransport(OsClock(), _credentials(home))


def _serve_fs3(pipe: Any, home: str) -> None:
    file = os.open(f"{home}/file", os.O_RDONLY)

    def heartbeat(call: Call) -> None:
        call.reply(mgmtd_pb2.HeartbeatReply(seq=call.request.seq, lease_ms=3000))

    def read(call: Call) -> None:
        length = call.request.lengths[0]
        call.reply(storage_pb2.ReadReply(codes=[0], lengths=[length]), [FileRange(file, call.request.offsets[0], length)])

    async def serve() -> None:
        handlers = {MGMTD.Heartbeat: heartbeat, STORAGE.Read: read}
        listeners = [await _transport(scheme, home).serve(f"{scheme}://127.0.0.1:0", handlers) for scheme in ("tls", "tcp")]
        pipe.send([listener.endpoint for listener in listeners])
        await asyncio.Event().wait()

    uvloop.run(serve())


def _serve_bare(pipe: Any, home: str) -> None:
    """Answers each request, a length in 8 bytes, with so many bytes of the file."""
    context = _credentials(home).server_context()
    file = os.open(f"{home}/file", os.O_RDONLY)
    buffer = memoryview(mmap.mmap(-1, 256 * KIB))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pipe.send(listener.getsockname())
        while True:
            bare, _ = listener.accept()
            bare.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with context.wrap_socket(bare, server_side=True) as sock:
                while request := sock.recv(8):
                    left, at = int.from_bytes(request, "little"), 0
                    while left:
                        count = os.preadv(file, [buffer[: min(left, len(buffer))]], at)
                        sock.sendall(buffer[:count])
                        at, left = at + count, left - count


def bare_read(home: str, address: Any, size: int, depth: int, total: int) -> float:
    """Bytes/s of bare TLS sockets, `depth` requests ahead."""
    context = ssl.create_default_context(cafile=f"{home}/ca.crt")
    with context.wrap_socket(socket.create_connection(address), server_hostname="127.0.0.1") as sock:
        buffers = [memoryview(mmap.mmap(-1, size)) for _ in range(depth)]
        for buffer in buffers:
            buffer[:] = bytes(size)
        request, count, asked = size.to_bytes(8, "little"), max(2, total // size // depth) * depth, 0
        began = time.perf_counter()
        for done in range(count):
            while asked < min(count, done + depth):
                sock.sendall(request)
                asked += 1
            view = buffers[done % depth]
            while view:
                view = view[sock.recv_into(view) :]
        return count * size / (time.perf_counter() - began)


async def connects(scheme: str, home: str, endpoint: str, count: int) -> float:
    """Connections/s, one after the other, each of which carries a call."""
    transport = _transport(scheme, home)
    began = time.perf_counter()
    for _ in range(count):
        channel = transport.connect(endpoint)
        await channel.call(MGMTD.Heartbeat, mgmtd_pb2.HeartbeatRequest(seq=1))
        await channel.close()
    return count / (time.perf_counter() - began)


async def _measure(home: str, endpoints: list[str], address: Any, runs: int, scale: float) -> list[Row]:
    secured, plain = (_transport(endpoint.partition(":")[0], home).connect(endpoint) for endpoint in endpoints)
    rows = []
    try:
        for size, depth in ((MIB, 1), (MIB, 2), (4 * MIB, 2)):
            total = int(256 * MIB * scale)
            ours, limits, open_ones = [], [], []
            for _ in range(runs):
                limits.append(bare_read(home, address, size, depth, total))
                ours.append(await fs3_read(secured, size, depth, total))
                open_ones.append(await fs3_read(plain, size, depth, total))
            figure, spread = f"read {size // MIB} MiB, {depth} in flight", Spread.of(ours)
            rows.append(Row("tls", figure, "B/s", spread, "bare TLS socket", Spread.of(limits), must_ratio=0.7))
            rows.append(Row("tls", f"{figure}: TLS beside TCP", "B/s", spread, "fs3 by TCP", Spread.of(open_ones)))
        for depth, count in ((1, 2_000), (64, 20_000)):
            ours, open_ones = [], []
            for _ in range(runs):
                ours.append(await fs3_calls(secured, depth, int(count * scale)))
                open_ones.append(await fs3_calls(plain, depth, int(count * scale)))
            rows.append(_beside_tcp(f"small calls, {depth} in flight", ours, open_ones))
        ours, open_ones = [], []
        for _ in range(runs):
            ours.append(await connects("tls", home, endpoints[0], max(5, int(100 * scale))))
            open_ones.append(await connects("tcp", home, endpoints[1], max(5, int(100 * scale))))
        rows.append(_beside_tcp("connections, each with a call", ours, open_ones))
    finally:
        await secured.close()
        await plain.close()
    return rows


def _beside_tcp(figure: str, ours: list[float], plain: list[float]) -> Row:
    return Row("tls", f"{figure}: TLS beside TCP", "1/s", Spread.of(ours), "fs3 by TCP", Spread.of(plain))


def measure(runs: int, scale: float) -> list[Row]:
    """All figures."""
    with tempfile.TemporaryDirectory(prefix="fs3-tls-") as home:
        (Path(home) / "file").write_bytes(os.urandom(FILE_BYTES))
        make_authority(Path(home), "bench")
        issue(Path(home), Path(home), "bench", ["127.0.0.1"])
        children, answers = [], []
        for target in (_serve_fs3, _serve_bare):
            mine, its = _CONTEXT.Pipe()
            child = _CONTEXT.Process(target=target, args=(its, home), daemon=True)
            child.start()
            children.append(child)
            answers.append(mine.recv())
        try:
            return uvloop.run(_measure(home, answers[0], answers[1], runs, scale))
        finally:
            for child in children:
                child.terminate()
                child.join()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and save when asked."""
    parser = argparse.ArgumentParser(prog="benches.tls", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="how much is moved, relative to the usual")
    parser.add_argument("--save", action="store_true", help="append to benches/results")
    options = parser.parse_args(arguments)
    rows = measure(options.runs, options.scale)
    table = Table("figure", "fs3 by TLS", "beside", "median", "ratio", title=ssl.OPENSSL_VERSION)
    for row in rows:
        limit = row.limit
        assert limit is not None
        unit, by = ("GB/s", 1e9) if row.unit == "B/s" else ("1/s", 1.0)
        missed = {True: "", False: " (missed)", None: ""}[row.reached]
        table.add_row(
            row.figure,
            f"{row.value.median / by:,.2f} {unit}",
            row.limit_name,
            f"{limit.median / by:,.2f} {unit}",
            f"{row.ratio:.2f}{missed}",
        )
    console = Console(width=140)
    console.print(table)
    if options.save:
        console.print(f"saved to {save(rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
