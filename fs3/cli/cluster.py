"""Starting and stopping the processes of a local cluster: `fs3 up` and `fs3 down`."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from fs3.api.tls import remember_tls
from fs3.base.errors import FS3Error, error
from fs3.base.limits import managers_max
from fs3.base.status import Code
from fs3.cli.directory import ClusterDirectory, Process, Shape, host_port
from fs3.cli.local_tls import command_files, ensure_certificates, process_files
from fs3.cli.node_keys import admit_nodes
from fs3.cli.options import METRICS_HOST, STOP_TOGETHER
from fs3.cli.stores import parse_store
from fs3.cli.supervision import SupervisedProcesses

READY_SECONDS = 60.0
STOP_SECONDS = 30.0
KILLED_SECONDS = 60.0
"""What a process has to be gone after SIGKILL: one that waits for its disk ends when the disk has answered."""

_ENDING = (signal.SIGTERM, signal.SIGKILL, STOP_TOGETHER)
"""Signals after which a process is to stay down."""

Say = Callable[[str], None]

_CHILDREN: list[subprocess.Popen[bytes]] = []
"""Processes this one started, kept so that they can be reaped and are never reported as forgotten."""


def role_of(name: str) -> str:
    """ "storage-2" -> "storage". Raises FS3Error for a name no process has."""
    role, dash, number = name.partition("-")
    least = 1 if role == "storage" else 2
    if (
        role not in ("mgmtd", "meta", "storage")
        or (role == "storage" and not dash)
        or (dash and not _is_number_from(number, least))
    ):
        names = "mgmtd, meta, storage-1, storage-2 …, mgmtd-2, meta-2 …"
        raise error(Code.INVALID, f"{name!r} is not a process of a cluster; names are {names}")
    return role


def _is_number_from(number: str, least: int) -> bool:
    return number.isdecimal() and str(int(number)) == number and int(number) >= least


def check_name(shape: Shape, name: str, option: str) -> None:
    """FS3Error naming the option and the processes there are, when `name` is none of them."""
    role_of(name)
    if name not in shape.names():
        raise error(Code.INVALID, f"{option} {name}: this cluster has {', '.join(shape.names())}")


def ports_of(shape: Shape, name: str) -> tuple[int, int]:
    """(framed, gRPC) ports of a process."""
    return shape.ports(name)


def choose_shape(wanted: Mapping[str, int | str | None], kept: Shape | None, path: Path) -> Shape:
    """The shape to run with: what the directory has, or what was asked for; a contradiction is an error naming the option."""
    given = {key: value for key, value in wanted.items() if value is not None}
    if kept is not None:
        for key in ("storage", "replicas", "targets", "zones"):
            if key in given and given[key] != getattr(kept, key):
                raise error(
                    Code.INVALID, f"--{key} {given[key]}: the cluster in this directory has {getattr(kept, key)}", str(path)
                )
        if "kv" in given and given["kv"] != kept.kv:
            told = f"--kv {given['kv']}: the rows of this cluster are in {kept.kv or 'its directory'}"
            raise error(Code.INVALID, told, str(path))
        for key in ("mgmtds", "metas"):
            if key in given and int(str(given[key])) < getattr(kept, key):
                has = f"the cluster in this directory has {getattr(kept, key)}"
                raise error(Code.INVALID, f"--{key} {given[key]}: {has}; more can be added, none removed", str(path))
        shape = replace(kept, **given)  # type: ignore[arg-type]
    else:
        shape = Shape(**given)  # type: ignore[arg-type]
    if shape.kv and not parse_store(shape.kv).endpoints:
        told = f"--kv {shape.kv}: in the directory of the cluster by default, or etcd://host:port,host:port/NAME"
        raise error(Code.INVALID, told)
    shape.host, shape.advertise = _without_brackets(shape.host), _without_brackets(shape.advertise)
    if shape.host in ("0.0.0.0", "::", "") and not shape.advertise:
        reached = "--advertise must say the name or address by which others reach this machine"
        raise error(Code.INVALID, f"--host {shape.host}: it listens on every address, and {reached}")
    if not 1 <= shape.storage <= 64:
        raise error(Code.INVALID, f"--storage {shape.storage}: 1 to 64 storage processes")
    if not 1 <= shape.replicas <= shape.storage:
        raise error(Code.INVALID, f"--replicas {shape.replicas}: 1 to {shape.storage}, one storage process for each replica")
    if not 0 <= shape.zones <= shape.storage:
        raise error(Code.INVALID, f"--zones {shape.zones}: 0 to {shape.storage}, one storage process for each zone")
    if not 1 <= shape.targets <= 64:
        raise error(Code.INVALID, f"--targets {shape.targets}: 1 to 64 targets for each storage process")
    if not 1 <= shape.mgmtds <= managers_max:
        raise error(Code.INVALID, f"--mgmtds {shape.mgmtds}: 1 to {managers_max} managers")
    if not 1 <= shape.metas <= 64:
        raise error(Code.INVALID, f"--metas {shape.metas}: 1 to 64 metadata processes")
    if not 1 <= shape.port <= 65535 - shape.port_count():
        raise error(Code.INVALID, f"--port {shape.port}: this and the next {shape.port_count() - 1} ports are needed")
    if not 0 <= shape.metrics_port <= 65535 - shape.port_count() // 2:
        raise error(Code.INVALID, f"--metrics-port {shape.metrics_port}: it needs a port for each process from this one on")
    return shape


def _without_brackets(host: str) -> str:
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def start(
    directory: ClusterDirectory, shape: Shape, names: list[str], say: Say, *, supervised: bool = True
) -> dict[str, Process]:
    """Start processes: a manager first, then all others at once; returns them once they serve.

    When they are `supervised`, they are started again from then on when they end by themselves. On failure the ones started here
    are stopped.
    """
    kept = directory.load()
    processes = {name: kept[1][name] for name in shape.names() if kept and name in kept[1]}
    for name in names:
        for port in shape.ports(name):
            _check_port(shape.host, port, name)
        if shape.metrics_port:
            _check_port(METRICS_HOST, shape.metrics_port_of(name), name)
    if shape.tls:
        ensure_certificates(directory, shape, names)
        remember_tls(shape.manager_addresses(), command_files(directory))
    started: list[str] = []
    launched: list[_StartingProcess] = []
    supervisor = _launch_supervisor(directory) if supervised and names else None
    try:
        first = 1 if names[:1] == ["mgmtd"] else 0
        for group in (names[:first], names[first:]):
            admit_nodes(directory, shape, [name for name in group if role_of(name) != "mgmtd"])
            launched = [_launch(directory, shape, name) for name in group]
            while launched:
                process = _wait_ready(launched[0])
                launched.pop(0)
                processes[process.name] = process
                started.append(process.name)
                directory.save(shape, processes)
        if supervised:
            supervise(directory, started, supervisor)
    except FS3Error:
        for other in launched:
            other.abandon()
        for name in reversed(started):
            stop_process(directory, name)
        raise
    say(f"{', '.join(started)} started")
    return processes


def stop(directory: ClusterDirectory, names: list[str], say: Say) -> int:
    """Stop processes, the managers last. Returns how many ran.

    One after another, so that each hands over to the next; but when these are all that run, all at once, and nothing changes
    hands: started again, every target is where it was, and no chain has to be brought up to date.
    """
    running = [name for name in names if directory.running_pid(name) is not None]
    managers = [name for name in running if role_of(name) == "mgmtd"]
    others = sorted((name for name in running if name not in managers), key=lambda name: role_of(name) != "storage")
    kept = directory.load()
    everybody = kept[0].names() if kept is not None else names
    together = not any(directory.running_pid(name) is not None for name in everybody if name not in names)
    supervised = SupervisedProcesses(directory)
    for name in names:
        supervised.remove(name)
    for group in (others, managers):
        for name in group if together else ():
            _send_signal(directory, name, STOP_TOGETHER)
        for name in group:
            if not stop_process(directory, name, signalled=together):
                say(f"{name} did not stop in {STOP_SECONDS:.0f} s and was killed")
    if not supervised.names():
        _end_supervisor(directory)
    return len(running)


def supervise(directory: ClusterDirectory, names: list[str], supervisor: subprocess.Popen[bytes] | None = None) -> None:
    """See to it that processes that run are started again when they end by themselves. Belongs under the lock of changes.

    `supervisor`: the one that was launched for this. FS3Error UNAVAILABLE when none can be started.
    """
    supervised = SupervisedProcesses(directory)
    for name in names:
        supervised.add(name)
    supervisor = supervisor or _launch_supervisor(directory)
    deadline = time.monotonic() + READY_SECONDS
    while directory.supervisor_pid() is None:
        if (supervisor is not None and supervisor.poll() is not None) or time.monotonic() > deadline:
            raise error(
                Code.UNAVAILABLE, f"the supervisor did not start: {directory.last_line('supervisor') or 'it said nothing'}"
            )
        time.sleep(0.01)


def _launch_supervisor(directory: ClusterDirectory) -> subprocess.Popen[bytes] | None:
    """Start the process that starts others again; None when there is one."""
    if directory.supervisor_pid() is not None:
        return None
    with os.fdopen(directory.open_log("supervisor"), "ab") as out:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "fs3.cli.supervisor", str(directory.path)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    _CHILDREN.append(child)
    return child


def _end_supervisor(directory: ClusterDirectory) -> None:
    """Under the lock of changes, without which it starts no process: nothing is left half done."""
    pid = directory.supervisor_pid()
    if pid is None:
        return
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    while directory.supervisor_pid() is not None:
        time.sleep(0.01)
    _reap(pid)


def stop_process(directory: ClusterDirectory, name: str, *, signalled: bool = False) -> bool:
    """SIGTERM (unless it was `signalled` to stop already), then SIGKILL after STOP_SECONDS. True when it stopped by itself."""
    if not signalled:
        _send_signal(directory, name, signal.SIGTERM)
    return _wait_exit(directory, name, STOP_SECONDS) or not signal_process(directory, name, signal.SIGKILL)


def signal_process(directory: ClusterDirectory, name: str, number: signal.Signals) -> bool:
    """Signal a process; for SIGTERM and SIGKILL wait until it is gone, and it stays so until it is started. True when it is (or
    for other signals, was there)."""
    there = _send_signal(directory, name, number)
    if number in (signal.SIGTERM, signal.SIGKILL):
        return not there or _wait_exit(directory, name, STOP_SECONDS if number == signal.SIGTERM else KILLED_SECONDS)
    return there


def _send_signal(directory: ClusterDirectory, name: str, number: signal.Signals) -> bool:
    """Signal a process; one that is to end is not supervised any more. False when it does not run."""
    if number in _ENDING:
        SupervisedProcesses(directory).remove(name)
    pid = directory.running_pid(name)
    if pid is None:
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _wait_exit(directory: ClusterDirectory, name: str, patience: float) -> bool:
    pid = directory.running_pid(name)
    if pid is None:
        return True
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if directory.running_pid(name) is None:
            _reap(pid)
            return True
        time.sleep(0.01)
    return False


def _reap(pid: int) -> None:
    """Take leave of a process of ours that has let its lock go, which is the last thing a process does; and of all others of
    ours that have ended."""
    for child in _CHILDREN:
        if child.pid == pid:
            child.wait()
        else:
            child.poll()
    _CHILDREN[:] = [child for child in _CHILDREN if child.returncode is None]


def _check_port(host: str, port: int, name: str) -> None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with closing(socket.socket(family, kind, protocol)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror as wrong:
        raise error(Code.INVALID, f"--host {host}: {wrong.strerror}") from wrong
    except OSError as wrong:
        raise error(Code.UNAVAILABLE, f"{host_port(host, port)} is not free, {name} needs it: {wrong.strerror}") from wrong


def serve_command(shape: Shape, directory: ClusterDirectory, name: str) -> list[str]:
    """The command line of one process; the compose file uses the same one."""
    framed, grpc = shape.ports(name)
    role = role_of(name)
    command = [
        "serve", role, "--name", name, "--data-dir", str(directory.path / name),
        "--listen", host_port(shape.host, framed), "--grpc-listen", host_port(shape.host, grpc),
        "--local-listen", str(directory.socket_path(name)),
    ]  # fmt: skip
    if role in ("mgmtd", "meta"):
        command += ["--kv", shape.kv or str(directory.path / role / "kv")]
    if role == "mgmtd":
        command += ["--storage", str(shape.storage), "--replicas", str(shape.replicas), "--targets", str(shape.targets)]
    else:
        command += ["--mgmtd", ",".join(shape.address(shape.ports(manager)[0]) for manager in shape.managers())]
    if role == "storage" and shape.zones:
        command += ["--zone", shape.zone(name)]
    if shape.advertise:
        command += ["--advertise", shape.advertise]
    if shape.metrics_port:
        command += ["--metrics-port", str(shape.metrics_port_of(name))]
    if shape.tls:
        files = process_files(directory, name)
        command += ["--tls-ca", files.ca, "--tls-cert", files.cert, "--tls-key", files.key]
    if shape.insecure:
        command.append("--insecure")
    settings = directory.path / f"{role}.toml"
    return [*command, "--config", str(settings)] if settings.exists() else command


@dataclass
class _StartingProcess:
    """A process that has been started and has not said that it serves."""

    name: str
    child: subprocess.Popen[bytes]
    ready_fd: int
    """Descriptor it writes its endpoints to."""
    log: Path
    log_bytes_before: int
    """Length of the log before this start."""

    def abandon(self) -> None:
        """Kill it, when it is not waited for any more."""
        if self.ready_fd >= 0:
            os.close(self.ready_fd)
            self.ready_fd = -1
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()


def spawn(directory: ClusterDirectory, shape: Shape, name: str, ready_fd: int | None = None) -> subprocess.Popen[bytes]:
    """Start one process and wait for nothing. It writes its endpoints to `ready_fd` once it serves."""
    command = [sys.executable, "-P", "-m", "fs3.cli.main", *serve_command(shape, directory, name)]
    with os.fdopen(directory.open_log(name), "ab") as out:
        return subprocess.Popen(
            command if ready_fd is None else [*command, "--ready-fd", str(ready_fd)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            pass_fds=() if ready_fd is None else (ready_fd,),
            # Ctrl-C in the terminal reaches only `fs3 up`, which then stops the processes in the right order.
            start_new_session=True,
        )


def _launch(directory: ClusterDirectory, shape: Shape, name: str) -> _StartingProcess:
    log = directory.log_path(name)
    ready_in, ready_out = os.pipe()
    said_before = log.stat().st_size if log.exists() else 0
    child = spawn(directory, shape, name, ready_out)
    os.close(ready_out)
    return _StartingProcess(name, child, ready_in, log, said_before)


def _wait_ready(launched: _StartingProcess) -> Process:
    name, child, log = launched.name, launched.child, launched.log
    line = _read_line(launched.ready_fd, READY_SECONDS)
    if not line:
        launched.abandon()
        with log.open("rb") as tail:
            tail.seek(launched.log_bytes_before)
            said = tail.read().decode(errors="replace").strip().splitlines()[-8:]
        reason = "\n  ".join(said) or f"it said nothing; see {log}"
        raise error(Code.UNAVAILABLE, f"{name} did not start:\n  {reason}")
    os.close(launched.ready_fd)
    # The process outlives this object, on purpose when detached; whether it runs is asked of its lock, so that Popen's own
    # bookkeeping (and its warning about a child that still runs) is not needed. Zombies are reaped when the next one starts.
    _CHILDREN.append(child)
    return Process(name, role_of(name), child.pid, json.loads(line))


def _read_line(fd: int, seconds: float) -> bytes:
    deadline = time.monotonic() + seconds
    data = b""
    while b"\n" not in data:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([fd], [], [], left)[0]:
            return b""
        more = os.read(fd, 4096)
        if not more:
            return b""
        data += more
    return data
