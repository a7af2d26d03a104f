"""Ceph: Debian's `ceph-mon`, `ceph-mgr`, `ceph-osd`, `ceph-common` and `python3-rados`, of the same Python version.

A monitor, a manager and three OSDs (BlueStore on files), a pool of three copies, without authentication. A write is answered when
it is in the log of every OSD of its set, synced. Pages are objects, those of a call under way at once (librados, `aio`).
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from benches.peers.processes import running, wait_until_served
from fs3.cli.ports import free_ports

OSDS = 3
OSD_BYTES = 10 << 30
"""Of the file of an OSD, which is sparse at first."""
OSD_MEMORY_BYTES = 1 << 30
POOL = "bench"
PLACEMENT_GROUPS = 32
PROGRAMS = ("ceph", "ceph-mon", "ceph-mgr", "ceph-osd", "monmaptool")
DEBIAN_MODULES = "/usr/lib/python3/dist-packages"
CONFIGURATION = """[global]
fsid = {fsid}
mon_host = [v2:127.0.0.1:{port}]
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
public_addr = 127.0.0.1
osd_pool_default_size = {osds}
osd_pool_default_min_size = 2
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
osd_objectstore = bluestore
bluestore_block_size = {osd_bytes}
osd_memory_target = {memory}
mon_allow_pool_delete = true
mon_warn_on_insecure_global_id_reclaim_allowed = false
run_dir = {directory}
admin_socket = {directory}/$name.asok
log_file = {directory}/$name.log
pid_file = {directory}/$name.pid
mon_data = {directory}/$name
mgr_data = {directory}/$name
osd_data = {directory}/$name
mgr_initial_modules =
"""


class Ceph:
    """One client of the pool."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._put: set[str] = set()

    def put(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """All of them under way at once. librados takes `bytes` only."""
        under_way = [self._pool.aio_write_full(key.decode(), value) for key, value in zip(keys, values, strict=True)]
        for write in under_way:
            write.wait_for_complete_and_cb()
            if write.get_return_value() < 0:
                raise RuntimeError(f"a write answered {write.get_return_value()}")
        self._put.update(key.decode() for key in keys)

    def get(self, keys: Sequence[bytes], size: int) -> list[bytes]:
        """All of them under way at once; every object must be there, whole."""
        found: dict[int, bytes] = {}

        def ask(index: int, key: bytes) -> Any:
            return self._pool.aio_read(key.decode(), size, 0, lambda _, data: found.__setitem__(index, data))

        for read in [ask(index, key) for index, key in enumerate(keys)]:
            read.wait_for_complete_and_cb()
        if len(found) != len(keys) or any(data is None or len(data) != size for data in found.values()):
            raise RuntimeError("an object that was put is not there")
        return [found[index] for index in range(len(keys))]

    def clear(self) -> None:
        """Remove what was put."""
        for removal in [self._pool.aio_remove(key) for key in self._put]:
            removal.wait_for_complete_and_cb()
        self._put.clear()


def library() -> ModuleType | None:
    """librados for this Python, None where there is none."""
    if "rados" in sys.modules:
        return sys.modules["rados"]
    for directory in (*sys.path, DEBIAN_MODULES):
        for path in Path(directory or ".").glob(f"rados.{sys.implementation.cache_tag}*.so"):
            specification = importlib.util.spec_from_file_location("rados", path)
            if specification is not None and specification.loader is not None:
                module = importlib.util.module_from_spec(specification)
                specification.loader.exec_module(module)
                return module
    return None


@contextmanager
def ceph(directory: Path) -> Iterator[Ceph | None]:
    """A cluster of its own for the length of a `with` block; None where a program or the library is missing."""
    rados = library() if all(shutil.which(name) for name in PROGRAMS) else None
    if rados is None:
        yield None
        return
    with ExitStack() as stack:
        directory.mkdir(parents=True)
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        settings = _start(stack, directory)
        cluster = rados.Rados(conffile=str(settings))
        cluster.connect(timeout=60)
        stack.callback(cluster.shutdown)
        pool = cluster.open_ioctx(POOL)
        stack.callback(pool.close)
        yield Ceph(pool)


def _start(stack: ExitStack, directory: Path) -> Path:
    """The configuration of a cluster that serves the pool."""
    port = free_ports(1)
    fsid = str(uuid.uuid4())
    settings = directory / "ceph.conf"
    text = CONFIGURATION.format(
        fsid=fsid, port=port, osds=OSDS, osd_bytes=OSD_BYTES, memory=OSD_MEMORY_BYTES, directory=directory
    )
    settings.write_text(text)
    common = ["-c", str(settings)]
    log = directory / "programs.log"

    def call(*command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr[-2000:]}")
        return done.stdout

    def ask(*words: str) -> str:
        return call("ceph", *common, "--connect-timeout", "20", *words)

    monitors = str(directory / "monitors")
    call("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{port}]", monitors)
    call("ceph-mon", *common, "-i", "a", "--mkfs", "--monmap", monitors)
    monitor = stack.enter_context(running(["ceph-mon", *common, "-i", "a", "-f"], log))
    wait_until_served([monitor], lambda: ask("mon", "stat"), RuntimeError)
    (directory / "mgr.x").mkdir()
    stack.enter_context(running(["ceph-mgr", *common, "-i", "x", "-f"], log))
    osds = []
    for number in range(OSDS):
        name = str(uuid.uuid4())
        ask("osd", "new", name, str(number))
        (directory / f"osd.{number}").mkdir()
        call("ceph-osd", *common, "-i", str(number), "--mkfs", "--osd-uuid", name)
        osds.append(stack.enter_context(running(["ceph-osd", *common, "-i", str(number), "-f"], log)))

    def all_up() -> None:
        if f"{OSDS} up" not in ask("osd", "stat"):
            raise RuntimeError("an OSD is not up yet")

    wait_until_served(osds, all_up, RuntimeError)
    ask("osd", "pool", "create", POOL, str(PLACEMENT_GROUPS), str(PLACEMENT_GROUPS), "replicated")

    def pool_is_clean() -> None:
        groups = json.loads(ask("pg", "stat", "--format", "json"))["pg_summary"]["num_pg_by_state"]
        if [group["name"] for group in groups] != ["active+clean"] or groups[0]["num"] < PLACEMENT_GROUPS:
            raise RuntimeError("the pool is not clean yet")

    wait_until_served(osds, pool_is_clean, RuntimeError)
    return settings
