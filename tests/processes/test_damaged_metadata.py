"""Damaged metadata of a cluster are EIO and shown by `fs3 status`; the document's commands repair them and put back a copy."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest

from fs3.api.client import Client
from fs3.api.connect import connect
from fs3.base.errors import FS3Error
from fs3.base.ids import ROOT_INODE, InodeId
from fs3.cli.local import LocalCluster
from fs3.cli.ports import free_ports
from fs3.cli.status import fetch_status
from fs3.core.meta import keys

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

DOCUMENT = (Path(__file__).parents[2] / "docs" / "metadata-recovery.md").read_text()
BIN = Path(sys.executable).parent


def test_every_command_of_the_document(tmp_path: Path) -> None:
    port = str(free_ports(10))
    lines = [line for block in re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL) for line in block.splitlines()]
    assert all(line.startswith("fs3 ") for line in lines)
    assert {line.split()[2] for line in lines if line.startswith("fs3 admin ")} == {"backup-meta", "restore-meta", "fsck", "kv"}
    script = "\n".join(lines).replace("/tmp/fs3-", f"{tmp_path}/")
    script = script.replace("fs3 up ", f"fs3 up --port {port} ", 1)
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    try:
        done = subprocess.run(["bash", "-ec", script], env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "rows, " in done.stdout
        assert "what was there is" in done.stdout
        assert done.stdout.count("nothing is wrong\n") == 3
        assert "nothing is wrong with the namespace" in done.stdout
    finally:
        subprocess.run([BIN / "fs3", "down", "--data-dir", str(tmp_path / "data")], capture_output=True, timeout=60, check=False)


def rot(store: Path, key: bytes) -> None:
    """Flip a bit of a row's value, as it is in the file."""
    with lmdb.open(str(store), max_dbs=1, map_size=1 << 30) as env:
        database = env.open_db(b"rows")
        with env.begin(write=True, db=database) as txn:
            sealed = bytearray(txn.get(key))
            sealed[-1] ^= 1
            txn.put(key, bytes(sealed))


async def stat(client: Client, path: str) -> int:
    """0, or the errno it fails with."""
    try:
        await client.stat(path)
    except FS3Error as why:
        return why.errno or 0
    return 0


def test_a_rotten_entry_is_an_error_until_it_is_repaired(tmp_path: Path) -> None:
    with LocalCluster(tmp_path / "cluster", storage=1, replicas=1, targets=1) as cluster:

        async def fill() -> InodeId:
            async with await connect(cluster.url) as client:
                await client.mkdir("/dir")
                await client.close(await client.open("/dir/below", "x"))
                for name in ("one", "two", "three"):
                    await client.close(await client.open(f"/{name}", "x"))
                return (await client.stat("/dir")).id

        async def look() -> None:
            async with await connect(cluster.url) as client:
                assert [await stat(client, f"/{name}") for name in ("one", "two", "three")] == [0, errno.EIO, 0]
                assert await stat(client, "/dir/below") == errno.EIO
                with pytest.raises(FS3Error, match=r"the entry 'two' of directory 1 is damaged.*fs3 admin fsck"):
                    await client.open("/two", "x")
                with pytest.raises(FS3Error, match="damaged"):
                    await client.list_all("/")
            document = await fetch_status(cluster.addresses)
            assert document["health"] == "degraded"
            assert any("node meta: its store has damaged rows" in problem["text"] for problem in document["problems"])

        async def look_again() -> None:
            async with await connect(cluster.url) as client:
                assert {entry.name for entry in await client.list_all("/")} == {"one", "three", "dir", "lost+found"}
                assert {entry.name for entry in await client.list_all("/dir")} == {"below"}
                assert len(await client.list_all("/lost+found")) == 1

        directory = asyncio.run(fill())
        cluster.stop("meta")
        rot(cluster.directory.path / "meta" / "kv", keys.inode_key(directory))
        rot(cluster.directory.path / "meta" / "kv", keys.dirent_key(ROOT_INODE, b"two"))
        cluster.start("meta")
        asyncio.run(look())
        repaired = subprocess.run(
            [BIN / "fs3", "admin", "fsck", "--repair", cluster.url], capture_output=True, text=True, timeout=120
        )
        assert "unreadable" in repaired.stdout
        assert repaired.returncode == 1
        again = subprocess.run([BIN / "fs3", "admin", "fsck", cluster.url], capture_output=True, text=True, timeout=120)
        assert (again.returncode, "nothing is wrong" in again.stdout) == (0, True), again.stdout
        asyncio.run(look_again())
