"""What this machine can do without fs3: the figure each bench is held against, measured in the same run.

Everything here is plain sockets, files and copies, with the other side in a process of its own, as a storage process is.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import random
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benches.crowd import Work, operations_per_second

MIB = 1 << 20
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__, "benches.record", "fs3.cli.local", "rich.console", "rich.table"])
"""Each measurement needs one to three new processes; importing everything anew in each would take longer than most of them."""
_REQUEST = 8


def _receive_exactly(connection: socket.socket, view: memoryview) -> bool:
    got = 0
    while got < len(view):
        count = connection.recv_into(view[got:])
        if not count:
            return False
        got += count
    return True


def _listen() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.listen(16)
    return listener


def _listen_on_path(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(1)
    return listener


@contextmanager
def _process(target: Callable[..., None], *arguments: object) -> Iterator[int]:
    """Run `target(pipe, *arguments)` in a process that sends back the port it listens on; ended afterwards."""
    mine, its = _CONTEXT.Pipe()
    child = _CONTEXT.Process(target=target, args=(its, *arguments), daemon=True)
    child.start()
    try:
        yield mine.recv()
    finally:
        child.terminate()
        child.join()


def _sendfile_server(pipe: object, path: str, socket_path: str = "") -> None:
    listener = _listen_on_path(socket_path) if socket_path else _listen()
    pipe.send(0 if socket_path else listener.getsockname()[1])  # type: ignore[attr-defined]
    file = os.open(path, os.O_RDONLY)
    connection, _ = listener.accept()
    if not socket_path:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    request = bytearray(_REQUEST)
    while _receive_exactly(connection, memoryview(request)):
        length = int.from_bytes(request, "little")
        sent = 0
        while sent < length:
            sent += os.sendfile(connection.fileno(), file, sent, length - sent)


def _connect(port: int, socket_path: str) -> socket.socket:
    if not socket_path:
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(socket_path)
    return connection


def sendfile_to_recv_into(directory: Path, size: int, total: int, ahead: int = 2, *, is_local: bool = False) -> float:
    """Bytes/s from a warm file in one process into a buffer in this one, in requests of `size`, `ahead` of them under way, over
    TCP; `is_local`: over a Unix socket."""
    with tempfile.NamedTemporaryFile(dir=directory) as file, tempfile.TemporaryDirectory() as short:
        file.write(os.urandom(size))
        file.flush()
        path = f"{short}/s" if is_local else ""
        with _process(_sendfile_server, file.name, path) as port, _connect(port, path) as connection:
            buffer = memoryview(mmap.mmap(-1, size))
            request = size.to_bytes(_REQUEST, "little")
            count = max(4, total // size)
            connection.sendall(request)
            _receive_exactly(connection, buffer)
            began = time.perf_counter()
            asked = 0
            for done in range(count):
                while asked < min(count, done + ahead):
                    connection.sendall(request)
                    asked += 1
                _receive_exactly(connection, buffer)
            return count * size / (time.perf_counter() - began)


def raw_copy(directory: Path, size: int, total: int, ahead: int = 2) -> float:
    """Bytes/s from a warm file in one process into another file that this one writes and has on disk at the end.

    Another thread syncs all the time, so that the disk works while bytes arrive.
    """
    with tempfile.NamedTemporaryFile(dir=directory) as source, tempfile.NamedTemporaryFile(dir=directory) as target:
        source.write(os.urandom(size))
        source.flush()
        arrived = threading.Event()

        def sync() -> None:
            while not arrived.is_set():
                os.fdatasync(target.fileno())

        with (
            _process(_sendfile_server, source.name) as port,
            socket.create_connection(("127.0.0.1", port)) as connection,
            ThreadPoolExecutor(1) as pool,
        ):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            buffer = memoryview(mmap.mmap(-1, size))
            request = size.to_bytes(_REQUEST, "little")
            count = max(4, total // size)
            began = time.perf_counter()
            syncing = pool.submit(sync)
            asked = 0
            for done in range(count):
                while asked < min(count, done + ahead):
                    connection.sendall(request)
                    asked += 1
                _receive_exactly(connection, buffer)
                os.pwrite(target.fileno(), buffer, done * size)
            arrived.set()
            syncing.result()
            os.fdatasync(target.fileno())
            return count * size / (time.perf_counter() - began)


def _echo_server(pipe: object, size: int) -> None:
    listener = _listen()
    pipe.send(listener.getsockname()[1])  # type: ignore[attr-defined]
    connection, _ = listener.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    buffer = bytearray(size)
    while _receive_exactly(connection, memoryview(buffer)):
        connection.sendall(buffer)


def echo(size: int, count: int) -> float:
    """Round trips/s of `size` bytes between two processes with blocking sockets, one at a time."""
    with _process(_echo_server, size) as port, socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        message = bytes(size)
        buffer = bytearray(size)
        began = time.perf_counter()
        for _ in range(count):
            connection.sendall(message)
            _receive_exactly(connection, memoryview(buffer))
        return count / (time.perf_counter() - began)


def echo_by_many(size: int, count: int, processes: int) -> float:
    """Round trips/s of `size` bytes by so many forked processes together, each with a server process of its own."""
    message, buffer = bytes(size), memoryview(bytearray(size))

    with ExitStack() as stack:
        ports = [stack.enter_context(_process(_echo_server, size)) for _ in range(processes)]

        def prepare(number: int) -> Work:
            connection = socket.create_connection(("127.0.0.1", ports[number]))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            def work(count: int) -> None:
                for _ in range(count):
                    connection.sendall(message)
                    _receive_exactly(connection, buffer)

            return work

        return operations_per_second(processes, prepare, count)


def preadv_random(path: Path, size: int, count: int) -> float:
    """Reads/s of `size` bytes at random aligned offsets of a warm file, one bare preadv each."""
    file = os.open(path, os.O_RDONLY)
    try:
        slots = os.fstat(file).st_size // size
        offsets = [random.randrange(slots) * size for _ in range(count)]
        buffers = [bytearray(size)]
        began = time.perf_counter()
        for offset in offsets:
            os.preadv(file, buffers, offset)
        return count / (time.perf_counter() - began)
    finally:
        os.close(file)


def _chain_hop(pipe: object, directory: str, name: str, size: int, next_port: int, streams: int) -> None:
    listener = _listen()
    pipe.send(listener.getsockname()[1])  # type: ignore[attr-defined]
    pool = ThreadPoolExecutor(streams)
    serving = []
    for stream in range(streams):
        connection, _ = listener.accept()
        serving.append(pool.submit(_chain_stream, connection, Path(directory) / f"{name}-{stream}", size, next_port))
    for each in serving:
        each.result()


def _chain_stream(connection: socket.socket, path: Path, size: int, next_port: int) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    onward = socket.create_connection(("127.0.0.1", next_port)) if next_port else None
    if onward:
        onward.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    buffer = memoryview(mmap.mmap(-1, size))
    ack = bytearray(1)
    offset = 0
    try:
        while _receive_exactly(connection, buffer):
            if onward:
                onward.sendall(buffer)
            os.pwrite(file, buffer, offset)
            os.fdatasync(file)
            offset = (offset + size) % (8 * size)  # overwritten soon: growing a file would cost the journal, too
            if onward:
                _receive_exactly(onward, memoryview(ack))
            connection.sendall(b"1")
    finally:
        os.close(file)


def raw_chain(directory: Path, size: int, count: int, streams: int = 1, hops: int = 3) -> float:
    """Bytes/s of user data through `hops` processes, one after the other, that each receive it, pass it on, and write and
    fdatasync it to a file.

    No protocol: a block is acknowledged once all have it on disk. `streams` blocks are under way at once. The hops work
    side by side (a hop passes a block on before it writes it), so this is an upper bound for chains that write first.
    """
    with ExitStack() as stack:
        port = 0
        for hop in range(hops):
            port = stack.enter_context(_process(_chain_hop, str(directory), f"raw-{hop}", size, port, streams))
        connections = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(streams)]
        data = os.urandom(size)

        def push(connection: socket.socket, times: int) -> None:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ack = bytearray(1)
            for _ in range(times):
                connection.sendall(data)
                _receive_exactly(connection, memoryview(ack))

        with ThreadPoolExecutor(streams) as pool:
            list(pool.map(push, connections, [2] * streams))
            began = time.perf_counter()
            list(pool.map(push, connections, [count // streams] * streams))
            elapsed = time.perf_counter() - began
    for path in directory.glob("raw-*"):
        path.unlink()
    return (count // streams) * streams * size / elapsed


def add_in_python(count: int) -> float:
    """Additions/s of a plain loop: how fast a machine, which may be shared, runs Python at the moment."""
    total = 0
    began = time.perf_counter()
    for index in range(count):
        total += index
    return count / (time.perf_counter() - began)


def touch_memory(size: int) -> float:
    """Bytes/s at which new anonymous memory is taken: every page written once, then all of it given back.

    Far below what a copy does where the host has to back the pages first.
    """
    piece = max(mmap.PAGESIZE, min(size, 256 * MIB) & -mmap.PAGESIZE)
    began = time.perf_counter()
    held = []
    for _ in range(max(1, size // piece)):
        memory = mmap.mmap(-1, piece)
        memory[:: mmap.PAGESIZE] = bytes(piece // mmap.PAGESIZE)
        held.append(memory)
    elapsed = time.perf_counter() - began
    return len(held) * piece / elapsed


def write_cached(directory: Path, size: int, count: int) -> float:
    """Bytes/s of `pwrite` into page cache that was not there before, nothing synced."""
    data = os.urandom(size)
    with tempfile.TemporaryFile(dir=directory) as file:
        began = time.perf_counter()
        for index in range(count):
            os.pwrite(file.fileno(), data, index * size)
        return count * size / (time.perf_counter() - began)


def write_synced(directory: Path, size: int, count: int) -> float:
    """Writes/s of `size` bytes over bytes that are there, each made durable by fdatasync."""
    data = os.urandom(size)
    with tempfile.TemporaryFile(dir=directory) as file:
        os.pwrite(file.fileno(), data, 0)
        os.fsync(file.fileno())
        began = time.perf_counter()
        for _ in range(count):
            os.pwrite(file.fileno(), data, 0)
            os.fdatasync(file.fileno())
        return count / (time.perf_counter() - began)


def list_files(directory: Path, files: int, times: int) -> list[float]:
    """Seconds that a listing of so many local files takes with the stat of each, so many times."""
    directory.mkdir(parents=True)
    try:
        for index in range(files):
            os.close(os.open(directory / f"{index:06}", os.O_CREAT | os.O_WRONLY))
        found = []
        for _ in range(times):
            began = time.perf_counter()
            with os.scandir(directory) as entries:
                details = [(entry.name, entry.stat()) for entry in entries]
            found.append(time.perf_counter() - began)
            del details
        return found
    finally:
        shutil.rmtree(directory)


def synced_commits(directory: Path, count: int) -> float:
    """LMDB transactions/s of one 100-byte row each, synced."""
    import lmdb

    with tempfile.TemporaryDirectory(dir=directory) as path, lmdb.open(path, map_size=256 * MIB) as env:
        began = time.perf_counter()
        for index in range(count):
            with env.begin(write=True) as txn:
                txn.put(index.to_bytes(8, "big"), bytes(100))
        return count / (time.perf_counter() - began)


def write_files(directory: Path, files: int, size: int, threads: int) -> float:
    """Local files/s of `size` bytes, each written aside, made durable and renamed, by so many threads."""
    data = bytes(size)

    def write(index: int) -> None:
        path = directory / str(index)
        aside = path.with_suffix(".part")
        with aside.open("wb") as out:
            out.write(data)
            out.flush()
            os.fdatasync(out.fileno())
        aside.rename(path)

    return _files_per_second(directory, write, files, threads)


def read_files(directory: Path, files: int, size: int, threads: int) -> float:
    """Local files/s of `size` bytes, each opened, read and closed, by so many threads; they are in the page cache."""
    directory.mkdir(parents=True, exist_ok=True)
    for index in range(files):
        (directory / str(index)).write_bytes(bytes(size))
    return _files_per_second(directory, lambda index: (directory / str(index)).read_bytes(), files, threads)


def _files_per_second(directory: Path, work: Callable[[int], object], files: int, threads: int) -> float:
    directory.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(files)))
    elapsed = time.perf_counter() - began
    shutil.rmtree(directory)
    return files / elapsed


def copy_files(source: Path, target: Path, *, synced: bool) -> float:
    """Local copies/s of the files of a tree, each written aside and renamed, by 8 threads; `synced`: each durable before that."""

    def copy(path: Path) -> None:
        to = target / path.relative_to(source)
        aside = to.with_name(f"{to.name}.part")
        with aside.open("wb") as out:
            out.write(path.read_bytes())
            if synced:
                out.flush()
                os.fdatasync(out.fileno())
        aside.rename(to)

    began = time.perf_counter()
    files = [path for path in source.rglob("*") if path.is_file()]
    for directory in {path.parent for path in files}:
        (target / directory.relative_to(source)).mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(copy, files))
    elapsed = time.perf_counter() - began
    shutil.rmtree(target)
    return len(files) / elapsed
