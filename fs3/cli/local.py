"""A cluster of real processes for the length of a `with` block: for tests, benches, and other people's CI."""

from __future__ import annotations

import asyncio
import shutil
import signal
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fs3.base.errors import error
from fs3.base.status import Code
from fs3.cli import cluster
from fs3.cli.directory import ClusterDirectory, Process, Shape
from fs3.cli.operator_keys import use_directory
from fs3.cli.ports import free_ports
from fs3.cli.status import SERVING_SECONDS, fetch_status, manager_addresses, wait_until_healthy


class LocalCluster:
    """One process per service on loopback, in a directory of its own unless one is given.

    with LocalCluster() as local:
        fsspec.filesystem("fs3", cluster=local.address)

    Processes are called as in `Shape.names`: "mgmtd", "meta", "storage-1", ..., "mgmtd-2", "meta-2", ...
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        storage: int = 3,
        replicas: int = 3,
        targets: int = 2,
        port: int | None = None,
        mgmtds: int = 1,
        metas: int = 1,
        kv: str = "",
        supervised: bool = True,
        tls: bool = False,
    ) -> None:
        """`kv`: where metadata live, as `fs3 up --kv` says it; empty: in the directory. `supervised`: processes that end by
        themselves are started again, as under `fs3 up`; those that are stopped or killed here stay down. `tls`: machines are
        spoken to by TLS."""
        self._own = None if data_dir is not None else Path(tempfile.mkdtemp(prefix="fs3-"))
        self.directory = ClusterDirectory(data_dir if data_dir is not None else self._own or Path())
        kept = self.directory.load()
        wanted = Shape(storage, replicas, targets, mgmtds=mgmtds, metas=metas, kv=kv, tls=tls)
        wanted.port = port or free_ports(wanted.port_count())
        self.shape = kept[0] if kept else wanted
        self._supervised = supervised
        self.processes: dict[str, Process] = {}

    @property
    def address(self) -> str:
        """ "host:port" of the manager."""
        return self.shape.address(self.shape.port)

    @property
    def addresses(self) -> list[str]:
        """ "host:port" of every manager."""
        return manager_addresses(self.shape)

    @property
    def url(self) -> str:
        """URL of the root directory."""
        return f"fs3://{self.address}/"

    def start(self, only: str | None = None) -> None:
        """Start what does not run, or one process."""
        names = [only] if only else self.shape.names()
        with self.directory.lock_changes():
            missing = [name for name in names if self.directory.running_pid(name) is None]
            self.processes = cluster.start(self.directory, self.shape, missing, lambda text: None, supervised=self._supervised)
        if only is None:
            self.wait_healthy()

    def stop(self, *names: str) -> None:
        """Stop processes cleanly: all of them when none is named."""
        with self.directory.lock_changes():
            cluster.stop(self.directory, list(names) or self.shape.names(), lambda text: None)

    def restart(self, name: str) -> None:
        """Stop one process cleanly and start it again."""
        self.stop(name)
        self.start(name)

    def pause(self, *names: str) -> None:
        """SIGSTOP: the processes stand still in the middle of whatever they do, and know nothing of it afterwards."""
        self.kill(*names, number=signal.SIGSTOP)

    def resume(self, *names: str) -> None:
        """SIGCONT, after `pause`."""
        self.kill(*names, number=signal.SIGCONT)

    def wipe(self, name: str) -> None:
        """Throw away everything a stopped process has stored, as when its disk is replaced by an empty one.

        Not for a manager or metadata process whose directory holds the store of all: FS3Error INVALID.
        """
        if self.directory.running_pid(name) is not None:
            raise error(Code.BUSY, f"{name} is running; stop or kill it first")
        home = self.directory.path / name
        if (home / "kv").exists():
            raise error(Code.INVALID, f"{name} has the only copy of the {name} store", str(home))
        shutil.rmtree(home)

    def wait_healthy(self, seconds: float = SERVING_SECONDS) -> None:
        """Return once every target serves and is up to date, every node is alive and a manager leads. FS3Error if not in time."""
        use_directory(self.directory.path)
        wait_until_healthy(self.addresses, seconds)

    def status(self) -> dict[str, Any]:
        """What `fs3 status --json` shows."""
        use_directory(self.directory.path)
        return asyncio.run(fetch_status(self.addresses))

    def kill(self, *names: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Signal processes (all of them when none is named), and after SIGKILL wait until they are gone. FS3Error BUSY naming one
        that is not: started now, it would be taken for one that runs."""
        for name in names or self.shape.names():
            is_gone = cluster.signal_process(self.directory, name, number)
            if number == signal.SIGKILL and not is_gone:
                told = f"{name} was killed and has not ended in {cluster.KILLED_SECONDS:.0f} s"
                raise error(Code.BUSY, told, str(self.directory.path))

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._clean_up()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.stop()
        finally:
            self._clean_up()

    def _clean_up(self) -> None:
        if self._own is not None:
            shutil.rmtree(self._own, ignore_errors=True)
