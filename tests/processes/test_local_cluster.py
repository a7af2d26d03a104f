"""Real processes: started, killed, started again; what was acknowledged is there."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest

from fs3.api.connect import connect
from fs3.api.kvcache import KVCache, Status
from fs3.cli.local import LocalCluster
from fs3.cli.ports import free_ports

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

MIB = 1 << 20


def fs3(*arguments: str, check: bool = True, **options: object) -> subprocess.CompletedProcess[str]:
    """Run the command line as a person does."""
    command = [sys.executable, "-m", "fs3.cli.main", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, **options)  # type: ignore[call-overload]
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
    return done


FILES_BEFORE_KILL = 30
FILES_MAX = 60
"""The load ends with the cluster it was killed with, and with this many files in any case."""


def is_running(pid: int) -> bool:
    """The process is there and has not ended; one that only waits to be reaped by its parent has."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in ("Z", "X")


def contents(index: int) -> bytes:
    """Bytes of a test file, of odd sizes from nothing to several chunks."""
    size = [0, 1, 4095, 65_536, 65_537, MIB, 5 * MIB + 3][index % 7]
    return hashlib.shake_128(index.to_bytes(4, "little")).digest(size)


def test_the_whole_life_of_a_cluster(tmp_path: Path) -> None:
    data = tmp_path / "cluster"
    port = str(free_ports(10))
    started = fs3("up", "--data-dir", str(data), "--port", port, "--detach")
    try:
        assert f"serving fs3://127.0.0.1:{port}/" in started.stdout
        document = json.loads((data / "cluster.json").read_text())
        assert [process["name"] for process in document["processes"]] == ["mgmtd", "meta", "storage-1", "storage-2", "storage-3"]
        for process in document["processes"]:
            assert is_running(process["pid"])
            assert process["endpoints"]["tcp"].startswith("tcp://127.0.0.1:")
            assert process["endpoints"]["grpc"].startswith("grpc://127.0.0.1:")
        filesystem = fsspec.filesystem("fs3", cluster=f"127.0.0.1:{port}")
        filesystem.makedirs("/a/b", exist_ok=True)
        for index in range(7):
            filesystem.pipe_file(f"/a/b/{index}", contents(index))

        again = fs3("up", "--data-dir", str(data), "--detach", check=False)
        assert again.returncode == 1
        assert "already running" in again.stderr
        assert str(document["processes"][0]["pid"]) in again.stderr

        status = json.loads(fs3("status", f"fs3://127.0.0.1:{port}", "--json").stdout)
        assert {node["name"]: node["alive"] for node in status["nodes"]}["storage-3"] is True
        assert len(status["chains"]) == 2
        assert all(target["public_state"] == "serving" for target in status["targets"])
        assert "storage-2" in fs3("status", "--data-dir", str(data)).stdout

        fs3("down", "--data-dir", str(data))
        assert "nothing was running" in fs3("down", "--data-dir", str(data)).stdout
        assert not any(is_running(process["pid"]) for process in document["processes"])

        fs3("up", "--data-dir", str(data), "--detach")
        for index in range(7):
            assert filesystem.cat_file(f"/a/b/{index}") == contents(index)
    finally:
        fs3("down", "--data-dir", str(data), check=False)


def test_kill_everything_while_writing(tmp_path: Path) -> None:
    """kill -9 of every process; every acknowledged file and page is there afterwards, with the right bytes."""
    with LocalCluster(tmp_path / "cluster") as cluster:
        files: dict[str, bytes] = {}
        keys: dict[bytes, bytes] = {}

        async def load() -> None:
            client = await connect(cluster.url)
            cache = await KVCache.of(client, namespace="kill", page_bytes=100_000, replicas=2, timeout=5)
            await client.makedirs("/kill")
            killed = False
            try:
                for index in range(FILES_MAX):
                    if index == FILES_BEFORE_KILL:
                        cluster.kill()
                        killed = True
                    data = contents(index)
                    file = await asyncio.wait_for(client.open(f"/kill/{index}", "x"), 10)
                    if data:
                        await asyncio.wait_for(client.pwrite(file, data, 0), 10)
                    await asyncio.wait_for(client.close(file), 10)
                    files[f"/kill/{index}"] = data
                    page = hashlib.shake_128(b"page%d" % index).digest(100_000)
                    (stored,) = await cache.put_from([b"%d" % index], [page])
                    if stored.ok:
                        keys[b"%d" % index] = page
            except (OSError, TimeoutError):
                assert killed
            finally:
                await client.aclose()

        asyncio.run(load())
        assert len(files) >= FILES_BEFORE_KILL
        assert len(keys) >= FILES_BEFORE_KILL - 1
        cluster.start()

        async def verify() -> None:
            async with await connect(cluster.url) as client:
                for path, data in files.items():
                    file = await client.open(path, "r")
                    assert await client.pread(file, len(data) + 1, 0) == data, path
                    await client.close(file)
                cache = await KVCache.of(client, namespace="kill", page_bytes=100_000, replicas=2)
                for key, page in keys.items():
                    buffer = bytearray(100_000)
                    assert await cache.get_into([key], [buffer]) == [Status.OK]
                    assert buffer == page
                # And the cluster still takes new writes to the same chunks.
                file = await client.open("/kill/6", "r+")
                await client.pwrite(file, b"again", 10)
                await client.close(file)
                file = await client.open("/kill/6", "r")
                assert (await client.pread(file, 15, 5))[5:10] == b"again"

        asyncio.run(verify())


def test_one_storage_process_killed_and_started_again(tmp_path: Path) -> None:
    with LocalCluster(tmp_path / "cluster") as cluster:

        async def run() -> None:
            async with await connect(cluster.url) as client:
                file = await client.open("/one", "x")
                first = os.urandom(3 * MIB)
                await client.pwrite(file, first, 0)
                cluster.kill("storage-2")
                buffer = bytearray(len(first))
                # Another replica serves.
                assert await client.pread_into(file, buffer, 0) == len(first)
                assert buffer == first
                cluster.start(only="storage-2")
                await client.pwrite(file, b"later", 100)
                await client.close(file)
                file = await client.open("/one", "r")
                assert await client.pread(file, 5, 100) == b"later"

        asyncio.run(run())


def test_sigterm_in_the_foreground_stops_everything(tmp_path: Path) -> None:
    data = tmp_path / "cluster"
    command = [sys.executable, "-m", "fs3.cli.main", "up", "--data-dir", str(data), "--port", str(free_ports(6)),
               "--storage", "1", "--replicas", "1", "--targets", "1"]  # fmt: skip
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        for line in child.stdout:
            if "Ctrl-C" in line:
                break
        pids = [process["pid"] for process in json.loads((data / "cluster.json").read_text())["processes"]]
        child.send_signal(signal.SIGINT)
        output, errors = child.communicate(timeout=60)
        assert child.returncode == 0, errors
        assert "stopped" in output
        assert not any(map(is_running, pids))
    finally:
        child.kill()
        child.wait()
        fs3("down", "--data-dir", str(data), check=False)
