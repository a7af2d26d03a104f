"""Redis or Valkey: `redis-server` on the PATH and redis-py in the environment.

`Redis` speaks to it as its users do, by redis-py; `raw_get` by a bare socket that knows how long the answer is. One copy: with
`DURABLE` it is on disk before the reply, with `VOLATILE` it is in memory only.
"""

from __future__ import annotations

import importlib
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benches.peers.processes import running, wait_until_served
from fs3.cli.ports import free_ports

DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
VOLATILE = ("--appendonly", "no")


class Redis:
    """One server and one connection to it."""

    def __init__(self, client: Any, port: int) -> None:
        self._client = client
        self._port = port

    def put(self, keys: Sequence[bytes], values: Sequence[memoryview]) -> None:
        """One MSET."""
        self._client.mset(dict(zip(keys, values, strict=True)))

    def get(self, keys: Sequence[bytes]) -> list[bytes]:
        """One MGET; every key must be there."""
        found: list[bytes] = self._client.mget(keys)
        if any(value is None for value in found):
            raise RuntimeError("a key that was put is not there")
        return found

    def count(self, keys: Sequence[bytes]) -> int:
        """How many of these keys exist, by one EXISTS."""
        return int(self._client.exists(*keys))

    def clear(self) -> None:
        """Forget everything."""
        self._client.flushall()

    def raw_get(self, keys: Sequence[bytes], value_bytes: int, calls: int) -> float:
        """Seconds that `calls` MGETs of these keys take over a bare socket into one buffer."""
        head = b"*%d\r\n$4\r\nMGET\r\n" % (len(keys) + 1)
        request = head + b"".join(b"$%d\r\n%s\r\n" % (len(key), key) for key in keys)
        answer_bytes = len(b"*%d\r\n" % len(keys)) + len(keys) * (len(b"$%d\r\n" % value_bytes) + value_bytes + 2)
        buffer = memoryview(bytearray(answer_bytes))
        with socket.create_connection(("127.0.0.1", self._port)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            began = time.perf_counter()
            for _ in range(calls):
                connection.sendall(request)
                got = 0
                while got < answer_bytes:
                    received = connection.recv_into(buffer[got:])
                    if not received:
                        raise RuntimeError("the server closed the connection")
                    got += received
            return time.perf_counter() - began


@contextmanager
def redis(directory: Path, settings: Sequence[str] = VOLATILE) -> Iterator[Redis | None]:
    """A server of its own for the length of a `with` block; None where there is none or no redis-py."""
    server = shutil.which("redis-server") or shutil.which("valkey-server")
    try:
        library: Any = importlib.import_module("redis")
    except ImportError:
        server = None
    if server is None:
        yield None
        return
    directory.mkdir(parents=True, exist_ok=True)
    port = free_ports(1)
    command = [server, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), "--save", "", *settings]
    try:
        with running(command, directory / "log") as process:
            client = library.Redis(host="127.0.0.1", port=port)
            wait_until_served([process], client.ping, library.exceptions.RedisError)
            yield Redis(client, port)
            client.close()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
