"""Disks that lie, lose and fill: repaired from the chain, or said clearly; whatever else is on them goes on."""

from __future__ import annotations

import asyncio
import mmap
import os
import shutil
from pathlib import Path

import pytest

from fs3.api.connect import connect
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.cli.local import LocalCluster
from fs3.client.routing import StaticRouting
from fs3.core.files.read_plan import ReadIO
from fs3.drill.journal import register_bytes, register_chunk
from fs3.drill.load import FIRST_SETTLED, REGISTERS_MAX
from fs3.drill.roles import is_excluded, process_in_role, serving_processes, status_of, wait_healthy, wait_status
from fs3.drill.verify import pin_replica

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]


def data_of(cluster: LocalCluster, name: str) -> Path:
    """Where the targets of a process are."""
    return cluster.directory.path / name / "targets"


def flip_a_byte_of(directory: Path, content: bytes) -> int:
    """Change one byte of a chunk where it lies on disk; how many copies of it were found."""
    found = 0
    for path in directory.rglob("*"):
        if not path.is_file() or path.stat().st_size < len(content) or path.suffix == ".mdb":
            continue
        with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as view:
            at = view.find(content[:4096])
            if at >= 0:
                view[at + 2000] ^= 0x40
                view.flush()
                found += 1
    return found


async def _read_at(cluster: LocalCluster, name: str, register: int, size: int) -> tuple[Code, bytes]:
    """A register as one process has it."""
    async with await connect(cluster.url) as client:
        chain = min(client.manager.routing.chains)
        place = serving_processes(await asyncio.to_thread(status_of, cluster), chain).index(name)
        pinned = client.storage.with_routing(StaticRouting(pin_replica(client.manager.routing, place)))
        buffer = bytearray(size)
        (outcome,) = await pinned.read([ReadIO(register_chunk(register), chain, 0, memoryview(buffer))], timeout_ns=2 * SECOND)
        await pinned.close()
        return outcome.code, bytes(buffer)


@pytest.mark.parametrize("role", ["head", "tail"])
def test_a_block_that_went_bad(drilled: LocalCluster, under_load, role: str) -> None:
    """A read finds it: the reader gets the bytes elsewhere, and the block is filled again from the chain."""
    victim = process_in_role(status_of(drilled), role)
    with under_load(drilled, register_bytes=200_000, registers=4, settled=4) as load:
        settled = load.options.seed * REGISTERS_MAX + FIRST_SETTLED
        content = register_bytes(settled, 1, 200_000)
        assert flip_a_byte_of(data_of(drilled, victim), content) == 1

        async def until_repaired() -> None:
            async with asyncio.timeout(40):
                while await _read_at(drilled, victim, settled, 200_000) != (Code.OK, content):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)

        asyncio.run(until_repaired())
        load.wait_progress("settled", 50, 20)
        load.wait_progress("write", 50, 20)
        assert serving_processes(status_of(drilled), 1), "no target had to leave for it"


def test_an_index_that_was_cut_off(drilled: LocalCluster, under_load) -> None:
    """The process starts with half an index: it says so, serves nothing of it, and is filled from the chain."""
    victim = process_in_role(status_of(drilled), "middle")
    with under_load(drilled) as load:
        drilled.kill(victim)
        wait_status(drilled, is_excluded(victim), 20, f"{victim} to be left out")
        (index,) = data_of(drilled, victim).glob("*/index/data.mdb")
        os.truncate(index, index.stat().st_size // 2)
        drilled.start(only=victim)
        wait_healthy(drilled)
        load.wait_progress("write", 50, 20)
    said = drilled.directory.log_path(victim).read_text()
    assert "index" in said
    assert "damaged" in said or "cannot" in said
    shutil.rmtree(drilled.directory.path / "quarantine", ignore_errors=True)


def test_a_disk_that_was_replaced_by_an_empty_one(drilled: LocalCluster, under_load) -> None:
    """Everything of the process is gone; it rejoins by itself and is filled."""
    victim = process_in_role(status_of(drilled), "tail")
    with under_load(drilled) as load:
        drilled.kill(victim)
        wait_status(drilled, is_excluded(victim), 20, f"{victim} to be left out")
        shutil.rmtree(drilled.directory.path / victim)
        drilled.start(only=victim)
        wait_healthy(drilled)
        load.wait_progress("write", 50, 20)


def test_an_empty_disk_at_once(drilled: LocalCluster, under_load) -> None:
    """It comes back empty before anybody has noticed that it was gone."""
    victim = process_in_role(status_of(drilled), "head")
    with under_load(drilled) as load:
        drilled.kill(victim)
        shutil.rmtree(drilled.directory.path / victim)
        drilled.start(only=victim)
        load.wait_progress("write", 100, 30)
        wait_healthy(drilled)
        load.wait_progress("write", 50, 20)


def test_a_disk_that_fills_and_is_freed(small_disk: Path, under_load) -> None:
    """Somebody else fills the disk: writes are refused as NO_SPACE and as nothing else, reads go on; then there is room again."""
    with (
        LocalCluster(small_disk, targets=1) as cluster,
        under_load(cluster, may_fail=lambda kind, why: "NO_SPACE" in why, files=0, pages=0) as load,
    ):
        ballast = small_disk / "storage-2" / "ballast"
        with ballast.open("wb") as out:
            os.posix_fallocate(out.fileno(), 0, os.statvfs(small_disk / "storage-2").f_bavail * 4096 - (100 << 20))
        load.wait_until(lambda journal: any("NO_SPACE" in why for _, why in journal.failed), 30, "a refused write")
        load.wait_progress("settled", 100, 20)
        ballast.unlink()
        load.wait_progress("write", 100, 30)
