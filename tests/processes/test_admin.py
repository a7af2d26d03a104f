"""`fs3 admin` against real processes: what docs/admin.md says works, and damage is found, repaired, and gone."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from fs3.api.connect import connect
from fs3.base.ids import ROOT_INODE, ChainId, InodeId, file_chunk
from fs3.base.status import Code
from fs3.cli.local import LocalCluster
from fs3.cli.ports import free_ports
from fs3.core.files.write_plan import WriteIO
from fs3.core.meta import keys, rows
from fs3.core.meta.fsck.problems import name_of
from fs3.drivers.lmdb import LmdbKV
from fs3.model.check import ProblemKind
from fs3.model.chunk import UpdateKind

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "admin.md").read_text()
BIN = Path(sys.executable).parent


def admin(*arguments: str, status: int = 0) -> str:
    """Standard output of `fs3 admin …`, which ends with this exit status."""
    command = [sys.executable, "-m", "fs3.cli.main", "admin", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == status, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout if status != 2 else done.stderr


def kinds(output: str) -> list[str]:
    return sorted(problem["kind"] for problem in json.loads(output)["problems"])


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster() as local:
        asyncio.run(fill(local))
        yield local


async def fill(cluster: LocalCluster) -> None:
    async with await connect(cluster.url) as client:
        await client.makedirs("/d/e")
        for name in ("f", "g", "h"):
            file = await client.open(f"/d/{name}", "x")
            await client.pwrite(file, os.urandom(100_000), 0)
            await client.close(file)


def test_every_command_of_the_document(tmp_path: Path) -> None:
    port = str(free_ports(10))
    lines = [line for block in re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL) for line in block.splitlines()]
    assert all(line.startswith("fs3 ") for line in lines)
    assert {line.split()[2] for line in lines if line.startswith("fs3 admin ")} == {
        "fsck",
        "verify-replicas",
        "resync",
        "scrub",
        "chains",
        "chunk",
        "nodes",
        "targets",
        "tables",
    }
    script = "\n".join(lines).replace("/tmp/fs3-data", str(tmp_path / "data")).replace(":8000", f":{port}")
    script = script.replace("fs3 up ", f"fs3 up --port {port} ")
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    try:
        done = subprocess.run(["bash", "-euxc", script], capture_output=True, text=True, timeout=280, env=environment)
    finally:
        subprocess.run([str(BIN / "fs3"), "down", "--data-dir", str(tmp_path / "data")], check=False, capture_output=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "nothing is wrong" in done.stdout


def test_every_kind_of_problem_is_in_the_document() -> None:
    section = DOCUMENT.split("`fs3 admin fsck`\n", 1)[1].split("\n## ", 1)[0]
    documented = re.findall(r"^\| `([a-z-]+)` \|", section, re.MULTILINE)
    assert sorted(documented) == sorted(kind.name.lower().replace("_", "-") for kind in ProblemKind)
    assert name_of


def test_damage_of_the_namespace(cluster: LocalCluster) -> None:
    cluster.kill("meta")

    async def damage() -> None:
        kv = LmdbKV.open(cluster.directory.path / "meta" / "kv")

        async def op(txn: Any) -> None:
            d = (await rows.find_dirent(txn, keys.dirent_key(ROOT_INODE, b"d"))).inode  # type: ignore[union-attr]
            f, g = [(await rows.find_dirent(txn, keys.dirent_key(d, name))).inode for name in (b"f", b"g")]  # type: ignore[union-attr]
            txn.delete(keys.inode_key(f))
            rows.put_inode(txn, replace(await rows.get_inode(txn, g), nlink=2, length=5))
            txn.delete(keys.dirent_key(d, b"h"))

        await kv.transact(op)
        await kv.close()

    asyncio.run(damage())
    cluster.start(only="meta")
    found = admin("fsck", "--json", cluster.url, status=1)
    expected = [
        "directory-miscounted",
        "entry-without-inode",
        "miscounted",
        "orphan-chunk",
        "too-short",
        "without-name",
        "wrong-nlink",
    ]
    assert kinds(found) == expected
    assert "nlink says 2" in admin("fsck", cluster.url, status=1)
    repaired = admin("fsck", "--repair", cluster.url, status=1)
    assert "/lost+found/#" in repaired
    assert "not repaired" not in repaired
    assert kinds(admin("fsck", "--json", str(cluster.directory.path))) == []

    async def look() -> None:
        async with await connect(cluster.url) as client:
            assert sorted([entry.name async for entry in client.meta.entries("/d")]) == ["e", "g"]
            assert (await client.stat("/d/g")).length == 100_000
            (found,) = [entry.name async for entry in client.meta.entries("/lost+found")]
            assert (await client.stat(f"/lost+found/{found}")).length == 100_000

    asyncio.run(look())


def test_chunks_that_belong_to_nobody(cluster: LocalCluster) -> None:
    async def plant(inode: int, index: int) -> None:
        async with await connect(cluster.url) as client:
            write = WriteIO(file_chunk(InodeId(inode), index), ChainId(1), UpdateKind.WRITE, 0, memoryview(b"stray"))
            (result,) = await client.storage.update([write])
            assert result.code is Code.OK

    asyncio.run(plant(1, 9))
    shown = admin("chunk", "1/9", cluster.url)
    assert "there is no file with content 1" in shown
    assert shown.count("serving") == 3
    assert kinds(admin("fsck", "--json", cluster.url, status=1)) == ["misplaced-chunk"]
    admin("fsck", "--repair", cluster.url, status=1)
    assert kinds(admin("fsck", "--json", cluster.url)) == []
    admin("chunk", "1/9", cluster.url, status=1)


def test_a_node_that_is_away_is_said(cluster: LocalCluster) -> None:
    chains = json.loads(admin("chains", "--json", cluster.url))["chains"]
    assert [target["public_state"] for chain in chains for target in chain["targets"]] == ["serving"] * 6
    scrub = json.loads(admin("scrub", "--json", cluster.url))
    assert len(scrub["targets"]) == 6
    cluster.kill("storage-2")
    try:
        assert "storage-2 does not answer" in admin("scrub", cluster.url, status=2)
    finally:
        cluster.start(only="storage-2")


def test_what_cannot_be_checked(tmp_path: Path) -> None:
    port = free_ports(1)
    assert f"127.0.0.1:{port}" in admin("fsck", f"fs3://127.0.0.1:{port}", status=2)
    assert "neither fs3://host:port nor the data directory of a cluster" in admin("fsck", str(tmp_path), status=2)
    assert "is not a chunk" in admin("chunk", "1/x", f"fs3://127.0.0.1:{port}", status=2)
    assert "contradict" in admin("scrub", "--start", "--status", f"fs3://127.0.0.1:{port}", status=2)


def test_a_directory_of_embedded_services(tmp_path: Path) -> None:
    import fsspec

    filesystem = fsspec.filesystem("fs3", path=str(tmp_path / "embedded"), skip_instance_cache=True)
    filesystem.pipe_file("/f", b"content")
    filesystem.close()
    assert kinds(admin("fsck", "--json", str(tmp_path / "embedded"))) == []
