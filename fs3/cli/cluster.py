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
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.cli.directory import ClusterDirectory, Process, Shape

READY_SECONDS = 60.0
STOP_SECONDS = 30.0

Say = Callable[[str], None]

_CHILDREN: list[subprocess.Popen[bytes]] = []
"""Processes this one started, kept so that they can be reaped and are never reported as forgotten."""


def role_of(name: str) -> str:
    """ "storage-2" -> "storage". Raises FS3Error for a name no process has."""
    role = name.partition("-")[0]
    if role not in ("mgmtd", "meta", "storage") or (role == "storage") != ("-" in name):
        raise error(Code.INVALID, f"{name!r} is not a process of a cluster; names are mgmtd, meta, storage-1, storage-2 …")
    return role


def ports_of(shape: Shape, name: str) -> tuple[int, int]:
    """(framed, gRPC) ports: mgmtd P and P+1, meta P+2 and P+3, storage-i P+2+2i and P+3+2i."""
    index = shape.names().index(name)
    return shape.port + 2 * index, shape.port + 2 * index + 1


def choose_shape(wanted: dict[str, int | str | None], kept: Shape | None, path: Path) -> Shape:
    """The shape to run with: what the directory has, or what was asked for; a contradiction is an error naming the option."""
    given = {key: value for key, value in wanted.items() if value is not None}
    if kept is not None:
        for key in ("storage", "replicas", "targets"):
            if key in given and given[key] != getattr(kept, key):
                raise error(
                    Code.INVALID, f"--{key} {given[key]}: the cluster in this directory has {getattr(kept, key)}", str(path)
                )
        return replace(kept, **given)  # type: ignore[arg-type]
    shape = Shape(**given)  # type: ignore[arg-type]
    if not 1 <= shape.storage <= 64:
        raise error(Code.INVALID, f"--storage {shape.storage}: 1 to 64 storage processes")
    if not 1 <= shape.replicas <= shape.storage:
        raise error(Code.INVALID, f"--replicas {shape.replicas}: 1 to {shape.storage}, one storage process for each replica")
    if not 1 <= shape.targets <= 64:
        raise error(Code.INVALID, f"--targets {shape.targets}: 1 to 64 targets for each storage process")
    if not 1 <= shape.port <= 65535 - 2 * (shape.storage + 2):
        raise error(Code.INVALID, f"--port {shape.port}: this and the next {2 * (shape.storage + 2) - 1} ports are needed")
    return shape


def start(directory: ClusterDirectory, shape: Shape, names: list[str], say: Say) -> dict[str, Process]:
    """Start processes in order, each once the one before serves; returns them. On failure the ones started here are stopped."""
    kept = directory.load()
    processes = {name: kept[1][name] for name in shape.names() if kept and name in kept[1]}
    for name in names:
        for port in ports_of(shape, name):
            _check_port(shape.host, port, name)
    started: list[str] = []
    try:
        for name in names:
            processes[name] = _start_one(directory, shape, name)
            started.append(name)
            directory.save(shape, processes)
    except FS3Error:
        for name in reversed(started):
            stop_one(directory, name)
        raise
    say(f"{', '.join(started)} started")
    return processes


def stop(directory: ClusterDirectory, names: list[str], say: Say) -> int:
    """Stop processes, storage first so that what they hold is flushed while the others listen. Returns how many ran."""
    stopped = 0
    for name in sorted(names, key=lambda name: (role_of(name) != "storage", role_of(name) != "meta")):
        pid = directory.holder(name)
        if pid is None:
            continue
        if not stop_one(directory, name):
            say(f"{name} (pid {pid}) did not stop in {STOP_SECONDS:.0f} s and was killed")
        stopped += 1
    return stopped


def stop_one(directory: ClusterDirectory, name: str) -> bool:
    """SIGTERM, then SIGKILL after STOP_SECONDS. True when it stopped by itself."""
    return signal_one(directory, name, signal.SIGTERM, STOP_SECONDS) or not signal_one(directory, name, signal.SIGKILL)


def signal_one(directory: ClusterDirectory, name: str, number: signal.Signals, patience: float = 5.0) -> bool:
    """Signal a process; for SIGTERM and SIGKILL wait until it is gone. True when it is (or for other signals, was there)."""
    pid = directory.holder(name)
    if pid is None:
        return number in (signal.SIGTERM, signal.SIGKILL)
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return True
    if number not in (signal.SIGTERM, signal.SIGKILL):
        return True
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if directory.holder(name) is None:
            _reap(pid)
            return True
        time.sleep(0.01)
    return False


def _reap(pid: int) -> None:
    """Take leave of a process of ours that has let its lock go, which is the last thing a process does."""
    for child in _CHILDREN:
        if child.pid == pid:
            child.wait()
    _CHILDREN[:] = [child for child in _CHILDREN if child.returncode is None]


def _check_port(host: str, port: int, name: str) -> None:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as wrong:
            raise error(Code.UNAVAILABLE, f"{host}:{port} is not free, {name} needs it: {wrong.strerror}") from wrong


def serve_command(shape: Shape, directory: ClusterDirectory, name: str) -> list[str]:
    """The command line of one process; the compose file uses the same one."""
    framed, grpc = ports_of(shape, name)
    command = [
        "serve", role_of(name), "--name", name, "--data-dir", str(directory.path / name),
        "--listen", f"{shape.host}:{framed}", "--grpc-listen", f"{shape.host}:{grpc}",
        "--local-listen", str(directory.socket_path(name)),
    ]  # fmt: skip
    if name == "mgmtd":
        command += ["--storage", str(shape.storage), "--replicas", str(shape.replicas), "--targets", str(shape.targets)]
    else:
        command += ["--mgmtd", f"{shape.host}:{ports_of(shape, 'mgmtd')[1]}"]
    settings = directory.path / f"{role_of(name)}.toml"
    return [*command, "--config", str(settings)] if settings.exists() else command


def _start_one(directory: ClusterDirectory, shape: Shape, name: str) -> Process:
    command = [sys.executable, "-m", "fs3.cli.main", *serve_command(shape, directory, name)]
    log = directory.log_path(name)
    log.parent.mkdir(parents=True, exist_ok=True)
    ready_in, ready_out = os.pipe()
    said_before = log.stat().st_size if log.exists() else 0
    with log.open("ab") as out:
        child = subprocess.Popen(
            [*command, "--ready-fd", str(ready_out)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            pass_fds=(ready_out,),
            # Ctrl-C in the terminal reaches only the supervisor, which then stops the processes in the right order.
            start_new_session=True,
        )
    os.close(ready_out)
    try:
        line = _read_line(ready_in, READY_SECONDS)
    finally:
        os.close(ready_in)
    if not line:
        if child.poll() is None:
            child.kill()
        child.wait()
        with log.open("rb") as tail:
            tail.seek(said_before)
            said = tail.read().decode(errors="replace").strip().splitlines()[-8:]
        reason = "\n  ".join(said) or f"it said nothing; see {log}"
        raise error(Code.UNAVAILABLE, f"{name} did not start:\n  {reason}")
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
