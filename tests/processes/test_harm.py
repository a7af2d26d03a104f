"""A running cluster that is treated badly: random bytes on every port, a disk that fills. Other work goes on, nothing is lost."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from fs3.api.connect import connect
from fs3.base.errors import FS3Error
from fs3.cli.local import LocalCluster

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

MIB = 1 << 20


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster() as local:
        yield local


def garbage(prng: random.Random) -> list[bytes]:
    """What strangers send: noise, other protocols, and frames of ours gone wrong."""
    header = struct.Struct("<HBBHHQIII")
    good = (0x3F53, 1, 1, 0x0202, 0, 1, 0, 0, 1000)
    spoiled = []
    for place, value in ((0, 0xFFFF), (1, 250), (2, 99), (3, 0xFFFF), (6, 0xFFFFFFFF), (7, 0xFFFFFFFF), (6, 0xFFFF)):
        fields = list(good)
        fields[place] = value
        spoiled.append(header.pack(*fields) + prng.randbytes(200))
    return [
        b"",
        b"\0" * 5000,
        prng.randbytes(70_000),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + prng.randbytes(500),
        bytes.fromhex("160301020001") + prng.randbytes(500),
        header.pack(*good)[:11],
        *spoiled,
    ]


def test_random_bytes_on_every_port(cluster: LocalCluster) -> None:
    prng = random.Random(7)
    tried = 0
    for process in cluster.processes.values():
        for endpoint in process.endpoints.values():
            scheme, _, where = endpoint.partition("://")
            for data in garbage(prng):
                family = socket.AF_UNIX if scheme == "local" else socket.AF_INET
                with closing(socket.socket(family, socket.SOCK_STREAM)) as stranger:
                    stranger.settimeout(5)
                    host, _, port = where.rpartition(":")
                    stranger.connect(where if scheme == "local" else (host, int(port)))
                    with suppress(BrokenPipeError, ConnectionResetError):  # it may be shown the door before it has finished
                        stranger.sendall(data)
                    tried += 1
    assert tried >= 5 * 3 * 14
    assert all(cluster.directory.running_pid(name) == process.pid for name, process in cluster.processes.items())

    async def still_works() -> None:
        async with await connect(cluster.url) as client:
            file = await client.open("/after-garbage", "x")
            await client.pwrite(file, b"fine", 0)
            await client.close(file)
            file = await client.open("/after-garbage", "r")
            assert await client.pread(file, 10, 0) == b"fine"

    asyncio.run(still_works())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A cluster directory whose storage-2 has a disk of 512 MiB."""
    data = tmp_path / "cluster"
    mount = data / "storage-2"
    mount.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512m", "fs3-test", str(mount)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield data
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


def test_a_full_disk_during_a_write(small_disk: Path) -> None:
    """One disk of the chain fills: ENOSPC for what no longer fits, everything acknowledged stays, reads and removal go on."""
    (small_disk / "meta.toml").write_text("garbage_delay_ms = 0\ngarbage_interval_ms = 50\n")
    with LocalCluster(small_disk) as cluster:

        async def run() -> None:
            async with await connect(cluster.url) as client:
                written: dict[int, bytes] = {}
                file = await client.open("/big", "x")
                refused = None
                for index in range(200):
                    data = os.urandom(4 * MIB)
                    try:
                        await client.pwrite(file, data, index * 4 * MIB)
                    except FS3Error as failure:
                        refused = failure
                        break
                    written[index] = data
                assert refused is not None
                assert refused.errno == errno.ENOSPC, refused
                assert written
                for index, data in written.items():
                    assert await client.pread(file, 4 * MIB, index * 4 * MIB) == data
                await client.close(file)
                # Overwriting the refused range works once there is room again.
                await client.unlink("/big")
                async with asyncio.timeout(60):
                    while True:
                        small = await client.open("/small", "w")
                        try:
                            await client.pwrite(small, os.urandom(4 * MIB), 0)
                        except FS3Error as failure:
                            await client.close(small)
                            if failure.errno != errno.ENOSPC:
                                raise
                            await asyncio.sleep(0.2)  # reclaiming is a background duty; its end is what is waited for
                            continue
                        await client.close(small)
                        break

        asyncio.run(run())
