"""`fs3 up` and `fs3 down`."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from fs3.base.errors import error
from fs3.base.status import Code
from fs3.cli import cluster
from fs3.cli.directory import ClusterDirectory, Process, Shape
from fs3.cli.local_tls import client_files
from fs3.cli.operator_keys import use_directory
from fs3.cli.options import INSECURE_HELP, METRICS_HOST
from fs3.cli.supervision import RestartRecord, SupervisedProcesses, describe_restarts
from fs3.drivers.grpc import require_grpc

DataDir = Annotated[Path, typer.Option("--data-dir", help="where the cluster keeps everything; made when missing")]


def say(text: str) -> None:
    """One line for the person at the terminal."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def up(
    data_dir: DataDir,
    storage: Annotated[int | None, typer.Option(help="storage processes (3)")] = None,
    replicas: Annotated[int | None, typer.Option(help="copies of every chunk (3)")] = None,
    targets: Annotated[int | None, typer.Option(help="storage targets of each storage process (2)")] = None,
    zones: Annotated[int | None, typer.Option(help="zones that storage processes say they stand in, by turns (0)")] = None,
    mgmtds: Annotated[int | None, typer.Option(help="managers; all but one stand by (1)")] = None,
    metas: Annotated[int | None, typer.Option(help="metadata processes (1)")] = None,
    port: Annotated[int | None, typer.Option(help="first port; mgmtd's, the one in fs3:// URLs (8000)")] = None,
    host: Annotated[str | None, typer.Option(help="address to listen on, e.g. ::1 or 0.0.0.0 (127.0.0.1)")] = None,
    advertise: Annotated[
        str | None, typer.Option(help="name or address others reach this machine by; needed with 0.0.0.0 and ::")
    ] = None,
    kv: Annotated[
        str | None, typer.Option(help="etcd://host:port,host:port/NAME: metadata live there, not in the data directory")
    ] = None,
    metrics_port: Annotated[
        int | None, typer.Option(help="first port of Prometheus metrics, one for each process, on 127.0.0.1; 0: none (0)")
    ] = None,
    tls: Annotated[
        bool | None, typer.Option("--tls/--no-tls", help="speak TLS to other machines; certificates are made in DIR/tls (no)")
    ] = None,
    insecure: Annotated[bool | None, typer.Option("--insecure/--no-insecure", help=f"{INSECURE_HELP} (no)")] = None,
    only: Annotated[str | None, typer.Option(help="start just this process: mgmtd, meta, storage-1 …")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="return once everything serves")] = False,
) -> None:
    """Start a cluster on this machine, one process per service; or start again what is not running."""
    require_grpc()
    directory = ClusterDirectory(data_dir)
    use_directory(directory.path)
    wanted: dict[str, int | str | None] = {
        "storage": storage, "replicas": replicas, "targets": targets, "port": port, "host": host, "mgmtds": mgmtds,
        "metas": metas, "advertise": advertise, "kv": kv, "metrics_port": metrics_port, "zones": zones,
        "tls": tls, "insecure": insecure,
    }  # fmt: skip
    with directory.lock_changes():
        kept = directory.load()
        shape = cluster.choose_shape(wanted, kept[0] if kept else None, data_dir)
        names = shape.names()
        _check_wire(directory, kept[0] if kept else None, shape)
        if only is not None:
            cluster.check_name(shape, only, "--only")
            names = [only]
        running = {name: pid for name in names if (pid := directory.running_pid(name)) is not None}
        missing = [name for name in names if name not in running]
        if not missing and directory.supervisor_pid() is None:
            cluster.supervise(directory, names)
            say(f"{', '.join(names)} run already; they are supervised again")
            return
        if not missing:
            held = ", ".join(f"{name} by pid {pid}" for name, pid in running.items())
            raise error(Code.BUSY, f"already running: {held}", str(data_dir))
        processes = cluster.start(directory, shape, missing, say)
        supervised = SupervisedProcesses(directory)
        cluster.supervise(directory, [name for name in running if not supervised.has(name)])
        if only is None:
            from fs3.cli.status import manager_addresses, wait_until_healthy

            wait_until_healthy(manager_addresses(shape))
    _show(directory, shape, processes)
    if not detach:
        _follow(directory, missing)


def down(
    data_dir: DataDir,
    only: Annotated[str | None, typer.Option(help="stop just this process, which hands over to the others")] = None,
) -> None:
    """Stop every process of a cluster; its data stays."""
    directory = ClusterDirectory(data_dir)
    shape, _ = directory.require()
    if only is not None:
        cluster.check_name(shape, only, "--only")
    with directory.lock_changes():
        stopped = cluster.stop(directory, [only] if only else shape.names(), say)
    say(f"{stopped} processes stopped" if stopped else "nothing was running")


def restart(
    data_dir: DataDir,
    names: Annotated[list[str], typer.Argument(help="mgmtd, meta, storage-1, mgmtd-2 …", metavar="NAME…")],
) -> None:
    """Stop processes of a cluster and start them again, one by one, each once the cluster is healthy: nothing is interrupted."""
    from fs3.cli.status import manager_addresses, wait_until_healthy

    require_grpc()
    directory = ClusterDirectory(data_dir)
    use_directory(directory.path)
    shape, _ = directory.require()
    for name in names:
        cluster.check_name(shape, name, "restart")
    for name in names:
        with directory.lock_changes():
            cluster.stop(directory, [name], say)
            cluster.start(directory, shape, [name], say)
            wait_until_healthy(manager_addresses(shape))


def _check_wire(directory: ClusterDirectory, kept: Shape | None, shape: Shape) -> None:
    """Processes that speak TLS and others that do not cannot talk to each other: FS3Error BUSY while some run as before."""
    if kept is None or kept.tls == shape.tls:
        return
    running = [name for name in kept.names() if directory.running_pid(name) is not None]
    if running:
        told = f"--{'tls' if shape.tls else 'no-tls'}: {', '.join(running)} run without that: stop them first, with `fs3 down`"
        raise error(Code.BUSY, told, str(directory.path))


def _show(directory: ClusterDirectory, shape: Shape, processes: dict[str, Process]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None)
    for heading in ("process", "pid", "endpoint", "grpc"):
        table.add_column(heading)
    for process in processes.values():
        table.add_row(process.name, str(process.pid), _of(process, "tcp", "tls"), _of(process, "grpc", "grpcs"))
    console = Console(highlight=False)
    console.print(table)
    if shape.tls:
        console.print(f"clients need FS3_TLS_CA={client_files(directory).ca}")
    console.print(f"serving fs3://{','.join(shape.manager_addresses())}/")
    if shape.metrics_port:
        ports = sorted(shape.metrics_port_of(name) for name in shape.names())
        console.print(f"metrics at http://{METRICS_HOST}:{ports[0]}/metrics, and so on up to port {ports[-1]}")
        console.print(f"page of the cluster at http://{METRICS_HOST}:{shape.metrics_port_of('mgmtd')}/")


def _of(process: Process, *schemes: str) -> str:
    """The endpoint that others reach it by on a wire."""
    return next((process.endpoints[scheme] for scheme in schemes if scheme in process.endpoints), "")


def _follow(directory: ClusterDirectory, names: list[str]) -> None:
    """Say what becomes of processes until Ctrl-C, SIGTERM, or the end of all of them; then stop them in order."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    say("Ctrl-C stops the cluster")
    supervised = SupervisedProcesses(directory)
    known = {name: RestartRecord() for name in names}
    gone: set[str] = set()
    while not stop.wait(0.5):
        for name in names:
            record = supervised.record(name)
            if record != known[name]:
                known[name] = record
                what = describe_restarts(record)
            elif not supervised.has(name) and directory.running_pid(name) is None and name not in gone:
                said = directory.last_line(name)
                what = f"has ended{f': {said}' if said else ''}"
            else:
                continue
            say(f"{name} {what}; see {directory.log_path(name)}")
            if record.given_up or not supervised.has(name):
                gone.add(name)
        gone = {name for name in gone if not supervised.has(name)}
        if len(gone) == len(names):
            raise error(Code.UNAVAILABLE, "every process has ended", str(directory.path))
    with directory.lock_changes():
        cluster.stop(directory, names, say)
    say("stopped")
