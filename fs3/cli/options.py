"""What a service process is told when it starts and when it is stopped: for `serve`, its wiring, and the starter of a cluster."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from fs3.base.errors import error
from fs3.base.status import Code
from fs3.cli.machine_directory import MachineIdentity
from fs3.cli.stores import StoreLocation
from fs3.drivers.tls.credentials import TlsCredentials
from fs3.model.domain import NOWHERE, Domain

STOP_TOGETHER = signal.SIGUSR1
"""Stop, and hand nothing over: all other processes of the cluster are being stopped as well."""
METRICS_HOST = "127.0.0.1"
"""Where metrics are served when only a port is given: to what runs on this machine."""


INSECURE_HELP = "listen on other addresses than loopback, although whatever reaches them may read and change everything"


def parse_metrics_port(text: str) -> tuple[str, int]:
    """Host and port of "9100", "host:9100" or "[::1]:9100". FS3Error INVALID for anything else."""
    host, colon, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > 65535 or (colon and not host):
        raise error(Code.INVALID, f"--metrics-port {text!r} is not PORT or HOST:PORT")
    return host.removeprefix("[").removesuffix("]") or METRICS_HOST, int(port)


class ServiceRole(StrEnum):
    """What a process can be."""

    mgmtd = "mgmtd"
    meta = "meta"
    storage = "storage"


@dataclass
class Shutdown:
    """When, how and why the process is being stopped."""

    requested: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it is to stop."""
    failure: BaseException | None = None
    """Why it cannot do its duty any more: it stops, and ends with this reason."""

    hand_over: bool = True
    """The others go on, and take over at once what this process had. Not so when all processes of a cluster stop together:
    then everything stays as it is, so that it is the same when they start again."""

    def fail(self, why: BaseException) -> None:
        """The process cannot do its duty any more. The first reason counts."""
        if self.failure is None:
            self.failure = why
        self.requested.set()


@dataclass(frozen=True)
class ServeOptions:
    """One service process, as its command line describes it."""

    role: ServiceRole
    name: str
    data_dir: Path
    listen: str
    grpc_listen: str
    local_listen: str
    advertise: str
    mgmtd: tuple[str, ...]
    storage: int
    replicas: int
    targets: int
    config: Path | None
    kv: StoreLocation | None = None
    disks: tuple[Path, ...] = ()
    """Of a storage process, besides `data_dir`."""
    machine: MachineIdentity | None = None
    """Where machines join the cluster: the one the process is on."""
    metrics: str = ""
    """PORT or HOST:PORT to serve metrics on; "": they are not served over HTTP."""
    counting: bool = True
    """False: nothing is counted, and there are no metrics."""
    domain: Domain = NOWHERE
    tls: TlsCredentials | None = None
    """It speaks TLS to other machines; None: it does not."""
    is_insecure: bool = False
    """It may listen where other machines reach it although it believes every caller: that was said in writing."""
    shutdown: Shutdown = field(default_factory=Shutdown)

    def store(self) -> StoreLocation:
        """Where the transactional store of a manager or metadata process is."""
        return self.kv if self.kv is not None else StoreLocation(self.data_dir / "kv")
