"""The data directory of a local cluster: what is in it, and who is running on it.

    DIR/cluster.json      what the cluster is, and each process: {name, role, pid, endpoints}
    DIR/<role>.toml       settings of the processes of one role, when somebody put them there
    DIR/<name>/           data of one process
    DIR/mgmtd/kv/         state of the managers, DIR/meta/kv/ the metadata: shared by all processes of the role
    DIR/<name>/process.lock   held (flock) by the process for as long as it lives
    DIR/run/<name>.sock   its local endpoint
    DIR/log/<name>.log    what it said
    DIR/supervised/       who is to run (`fs3.cli.supervision`), DIR/supervisor.lock: held by the process that sees to it

Whether a process runs is asked of its lock, never of its pid: a pid may have been given to another one.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.runtime.private_files import check_owner, make_private_directory, open_private

FORMAT = 1
_SOCKET_PATH_MAX = 100
"""sockaddr_un holds 108 bytes; some are left for the name."""
_LAST_LINE_BYTES_MAX = 4096
_SUPERVISOR_SECONDS = 60.0
"""How long a command waits for the supervisor, which has the lock of changes while a process it starts takes its own."""
_HOLDER_WRITES_SECONDS = 0.2
_LOOK_SECONDS_MAX = 0.2
"""Who looks whether a process runs has its lock for a moment: a process that takes it tries for so long."""


def host_port(host: str, port: int) -> str:
    """ "host:port"; an IPv6 address comes into brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


_NEW_KEYS = ("metrics_port", "zones", "tls", "insecure")
"""Of a shape, since the release that is recorded in `proto/released`."""


@dataclass
class Shape:
    """What `fs3 up` was told when it made the cluster; later starts reuse it."""

    storage: int = 3
    replicas: int = 3
    targets: int = 2
    port: int = 8000
    host: str = "127.0.0.1"
    mgmtds: int = 1
    metas: int = 1
    advertise: str = ""
    """Host name or address others reach this machine by; "": `host`."""
    kv: str = ""
    """Where managers and metadata keep their rows (`fs3.cli.stores`), when that is not in the directory."""
    metrics_port: int = 0
    """First port of the metrics, one for each process, on this machine only; 0: they are not served over HTTP."""
    zones: int = 0
    """Storage processes say that they stand in so many zones, by turns; 0: they say nothing."""
    tls: bool = False
    """Machines are spoken to by TLS, with the certificates in DIR/tls."""
    insecure: bool = False
    """It may listen on any address although it believes every caller."""

    def address(self, port: int) -> str:
        """ "host:port", as clients and the processes among themselves use it."""
        return host_port(self.advertise or self.host, port)

    def names(self) -> list[str]:
        """Process names in the order they are started."""
        storage = [f"storage-{index}" for index in range(1, self.storage + 1)]
        return [*self.managers(), "meta", *(f"meta-{index}" for index in range(2, self.metas + 1)), *storage]

    def manager_addresses(self) -> list[str]:
        """ "host:port" of every manager, as clients use it."""
        return [self.address(self.ports(name)[0]) for name in self.managers()]

    def managers(self) -> list[str]:
        """Names of the managers."""
        return ["mgmtd", *(f"mgmtd-{index}" for index in range(2, self.mgmtds + 1))]

    def ports(self, name: str) -> tuple[int, int]:
        """(framed, gRPC) ports: mgmtd P and P+1, meta P+2 and P+3, storage-i P+2+2i and P+3+2i, then mgmtd-2, meta-2,
        mgmtd-3, meta-3 …, so that nobody moves when managers or metadata processes are added."""
        role, _, number = name.partition("-")
        index = {"mgmtd": 0, "meta": 1, "storage": 1}[role]
        if role == "storage":
            index += int(number)
        elif number:
            index += 2 + self.storage + 2 * (int(number) - 2)
        return self.port + 2 * index, self.port + 2 * index + 1

    def metrics_port_of(self, name: str) -> int:
        """Where a process serves its metrics: in the order of `ports`. 0: nowhere."""
        return self.metrics_port + (self.ports(name)[0] - self.port) // 2 if self.metrics_port else 0

    def zone(self, name: str) -> str:
        """The zone that a storage process says it stands in; "" for none."""
        _, _, number = name.partition("-")
        return f"zone-{(int(number) - 1) % self.zones + 1}" if self.zones else ""

    def port_count(self) -> int:
        """Neighbouring ports the cluster needs."""
        return 2 * (2 + self.storage + 2 * (max(self.mgmtds, self.metas) - 1))


@dataclass
class Process:
    """One process of the cluster, as cluster.json lists it."""

    name: str
    role: str
    pid: int
    endpoints: dict[str, str] = field(default_factory=dict)


def _known(kind: type[Shape] | type[Process], said: dict[str, Any]) -> dict[str, Any]:
    return {each.name: said[each.name] for each in fields(kind) if each.name in said}


class ClusterDirectory:
    """Reads and writes DIR/cluster.json and looks at the locks beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.file = self.path / "cluster.json"

    def load(self) -> tuple[Shape, dict[str, Process]] | None:
        """What cluster.json says; None when there is none. Raises FS3Error when it is not ours or of another version."""
        try:
            with self.file.open() as kept:
                # The user who wrote it says whom commands are to talk to, and which processes to stop.
                check_owner(os.fstat(kept.fileno()), str(self.file))
                document = json.load(kept)
        except FileNotFoundError:
            return None
        except FS3Error:
            raise
        except (OSError, ValueError) as wrong:
            raise error(Code.INVALID, f"{self.file} cannot be read as a cluster file: {wrong}") from wrong
        found = document.get("format") if isinstance(document, dict) else None
        if found != FORMAT:
            raise error(
                Code.INVALID, f"{self.file} has format {found!r}; this version of fs3 reads format {FORMAT}", str(self.path)
            )
        try:
            # A later release may have written more; the one before it reads what it knows.
            shape = Shape(**_known(Shape, document["shape"]))
            processes = {entry["name"]: Process(**_known(Process, entry)) for entry in document["processes"]}
        except (KeyError, TypeError) as wrong:
            raise error(Code.INVALID, f"{self.file} is damaged: {wrong}") from wrong
        return shape, processes

    def require(self) -> tuple[Shape, dict[str, Process]]:
        """`load`, or FS3Error NOT_FOUND naming the directory."""
        loaded = self.load()
        if loaded is None:
            raise error(Code.NOT_FOUND, "no fs3 cluster in this directory (no cluster.json)", str(self.path))
        return loaded

    def save(self, shape: Shape, processes: dict[str, Process]) -> None:
        """Replace cluster.json atomically."""
        document: dict[str, Any] = {
            "format": FORMAT,
            # The release before knows no key that is new: what is as by default is not said.
            "shape": {name: value for name, value in asdict(shape).items() if name not in _NEW_KEYS or value},
            "processes": [asdict(process) for process in processes.values()],
        }
        handle, temporary = tempfile.mkstemp(dir=self.path, prefix=".cluster-")
        with os.fdopen(handle, "w") as out:
            json.dump(document, out, indent=2)
            out.write("\n")
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, self.file)

    @contextmanager
    def lock_changes(self) -> Iterator[None]:
        """Held while processes are started or stopped, so that two commands do not do it at once.

        The supervisor has it for moments, which are waited for; FS3Error BUSY naming any other holder.
        """
        make_private_directory(self.path)
        handle = open_private(self.path / "cluster.lock", os.O_RDWR | os.O_CREAT)
        try:
            self._wait_for_supervisor(handle)
            _write_pid(handle)
            yield
        finally:
            os.close(handle)

    def _wait_for_supervisor(self, handle: int) -> None:
        """Take the lock of changes; while it is the supervisor that has it, wait."""
        began = other_since = time.monotonic()
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(handle, 32, 0).decode(errors="replace").strip() or "unknown"
            else:
                return
            now = time.monotonic()
            if holder == str(self.supervisor_pid()):
                other_since = now
            # A holder that has only just taken it has not written yet who it is.
            if now - other_since > _HOLDER_WRITES_SECONDS or now - began > _SUPERVISOR_SECONDS:
                raise error(Code.BUSY, f"another fs3 command (pid {holder}) is starting or stopping this cluster", str(self.path))
            time.sleep(0.01)

    def lock_path(self, name: str) -> Path:
        """The file process `name` holds locked while it lives."""
        return self.path / name / "process.lock"

    def running_pid(self, name: str) -> int | None:
        """Pid of the process that runs as `name`, None when none does."""
        return _find_holder(self.lock_path(name))

    @property
    def supervisor_lock_path(self) -> Path:
        """The file the supervisor holds locked while it lives."""
        return self.path / "supervisor.lock"

    def supervisor_pid(self) -> int | None:
        """Pid of the process that starts others again, None when there is none."""
        return _find_holder(self.supervisor_lock_path)

    @property
    def embedded_lock_path(self) -> Path:
        """The file that the process holds locked whose embedded services run on this directory."""
        return self.path / "process.lock"

    def embedded_pid(self) -> int | None:
        """Pid of that process, None when there is none."""
        return _find_holder(self.embedded_lock_path)

    def log_path(self, name: str) -> Path:
        """Where process `name` writes what it has to say."""
        return self.path / "log" / f"{name}.log"

    def open_log(self, name: str) -> int:
        """A descriptor that appends to it."""
        path = self.log_path(name)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        return open_private(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def last_line(self, name: str) -> str:
        """The last line process `name` wrote: why it ended, when it ended by itself."""
        try:
            with self.log_path(name).open("rb") as lines:
                lines.seek(max(0, lines.seek(0, os.SEEK_END) - _LAST_LINE_BYTES_MAX))
                said = lines.read().decode("utf-8", "replace").strip().splitlines()
        except OSError:
            return ""
        return said[-1] if said else ""

    def socket_path(self, name: str) -> Path:
        """Local endpoint of a process: below DIR, or in the temporary directory when DIR's path is too long for a socket."""
        path = self.path / "run" / f"{name}.sock"
        if len(os.fsencode(path)) > _SOCKET_PATH_MAX:
            digest = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]
            path = Path(tempfile.gettempdir()) / f"fs3-{os.getuid()}-{digest}" / f"{name}.sock"
        make_private_directory(path.parent)
        return path


def _find_holder(path: Path) -> int | None:
    """Pid of the process that has the lock of a file; None when none has, or there is no such file."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        check_owner(os.fstat(handle), str(path))
        # Shared: two that look do not take each other for the holder.
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.pread(handle, 32, 0) or b"0")
    finally:
        os.close(handle)
    return None


def acquire_process_lock(path: Path) -> int:
    """Take a process lock for life; returns the descriptor. Raises FS3Error BUSY naming the pid that has it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = open_private(path, os.O_RDWR | os.O_CREAT)
    deadline = time.monotonic() + _LOOK_SECONDS_MAX
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(0.005)
                continue
        holder = os.pread(handle, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(handle)
        raise error(Code.BUSY, f"already served by pid {holder}", str(path.parent))
    _write_pid(handle)
    return handle


def _write_pid(handle: int) -> None:
    """Say whose lock it is. In place, and cut afterwards: this needs no room on a disk that is full."""
    pid = str(os.getpid()).encode()
    os.pwrite(handle, pid, 0)
    os.ftruncate(handle, len(pid))
