"""`fs3 serve mgmtd|meta|storage`: one service process. This is where services meet their drivers. And `fs3 serve --config FILE`,
without a role: all processes of a machine of a cluster."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import typer

from fs3.api.tls import choose_tls, read_tls
from fs3.base.errors import error
from fs3.base.status import Code
from fs3.cli import stores
from fs3.cli.directory import acquire_process_lock
from fs3.cli.machine_directory import load_identity
from fs3.cli.options import INSECURE_HELP, STOP_TOGETHER, ServeOptions, ServiceRole
from fs3.drivers.os.clock import OsClock
from fs3.model.domain import Domain
from fs3.runtime.logs import LogFormat, set_up_logging
from fs3.runtime.private_files import PRIVATE_UMASK
from fs3.runtime.serving import tune_collector

log = logging.getLogger("fs3.serve")

TLS_CA_HELP = "PEM file of the authorities that certificates of the cluster are of: TLS is spoken, and nothing else"


def serve(
    role: Annotated[ServiceRole | None, typer.Argument(help="mgmtd, meta or storage; none: all of this machine")] = None,
    name: Annotated[str, typer.Option(help="unique in the cluster, e.g. storage-1", envvar="FS3_NAME")] = "",
    data_dir: Annotated[Path | None, typer.Option(help="where it keeps its data", envvar="FS3_DATA_DIR")] = None,
    disk: Annotated[list[Path] | None, typer.Option(help="storage: one more data directory, on another disk")] = None,
    listen: Annotated[str, typer.Option(help="host:port of the framed wire", envvar="FS3_LISTEN")] = "127.0.0.1:0",
    grpc_listen: Annotated[str, typer.Option(help="host:port of gRPC", envvar="FS3_GRPC_LISTEN")] = "127.0.0.1:0",
    local_listen: Annotated[str, typer.Option(help="Unix socket path; empty: none", envvar="FS3_LOCAL_LISTEN")] = "",
    advertise: Annotated[
        str, typer.Option(help="host name others reach this process by, when it listens on 0.0.0.0", envvar="FS3_ADVERTISE")
    ] = "",
    mgmtd: Annotated[
        str, typer.Option(help="host:port[,host:port] of the managers; grpc://host:port: by gRPC", envvar="FS3_MGMTD")
    ] = "",
    storage: Annotated[int, typer.Option(help="mgmtd: storage processes to wait for", envvar="FS3_STORAGE")] = 3,
    replicas: Annotated[int, typer.Option(help="mgmtd: copies of every chunk", envvar="FS3_REPLICAS")] = 3,
    targets: Annotated[int, typer.Option(help="mgmtd: targets of each storage process", envvar="FS3_TARGETS")] = 2,
    config: Annotated[
        Path | None,
        typer.Option(help="TOML file: of the machine (/etc/fs3/node.toml), or of the role's settings", envvar="FS3_CONFIG"),
    ] = None,
    machine: Annotated[
        Path | None, typer.Option(help="directory of the machine's identity, where machines join the cluster")
    ] = None,
    kv: Annotated[
        str,
        typer.Option(help=f"mgmtd, meta: {stores.HELP}; default DATA_DIR/kv", envvar="FS3_KV"),
    ] = "",
    metrics_port: Annotated[
        str,
        typer.Option(
            help="PORT (on 127.0.0.1) or HOST:PORT of Prometheus metrics over HTTP; none by default", envvar="FS3_METRICS_PORT"
        ),
    ] = "",
    count: Annotated[
        bool, typer.Option("--count/--no-count", help="count calls and times for metrics", envvar="FS3_COUNT")
    ] = True,
    log_format: Annotated[
        LogFormat, typer.Option(help="text, or json: an object per line", envvar="FS3_LOG_FORMAT")
    ] = LogFormat.text,
    zone: Annotated[str, typer.Option(help="storage: the room or power supply it stands in", envvar="FS3_ZONE")] = "",
    rack: Annotated[str, typer.Option(help="storage: the rack it stands in, within its zone", envvar="FS3_RACK")] = "",
    tls_ca: Annotated[str, typer.Option(help=TLS_CA_HELP, envvar="FS3_TLS_CA")] = "",
    tls_cert: Annotated[str, typer.Option(help="PEM file of the certificate of this machine", envvar="FS3_TLS_CERT")] = "",
    tls_key: Annotated[str, typer.Option(help="PEM file of its key, for its owner alone", envvar="FS3_TLS_KEY")] = "",
    insecure: Annotated[bool, typer.Option("--insecure", help=INSECURE_HELP, envvar="FS3_INSECURE")] = False,
    ready_fd: Annotated[int | None, typer.Option(help="descriptor to write the endpoints to once it serves")] = None,
    lifeline_fd: Annotated[int | None, typer.Option(help="descriptor at whose end the process stops")] = None,
) -> None:
    """Run all processes of this machine, or one, in the foreground."""
    if role is None:
        _serve_machine(config, name, data_dir, log_format)
        return
    if not name or data_dir is None:
        raise error(Code.INVALID, f"serve {role} needs --name and --data-dir; without a role, --config says what to run")
    addresses = tuple(part.strip() for part in mgmtd.split(",") if part.strip())
    if role is not ServiceRole.mgmtd and not addresses:
        raise error(Code.INVALID, f"--mgmtd is needed by {role}: host:port of the managers")
    options = ServeOptions(
        role, name, data_dir, listen, grpc_listen, local_listen, advertise, addresses, storage, replicas, targets, config,
        stores.parse_store(kv) if kv else stores.store_in_config(config), tuple(disk or ()),
        load_identity(machine) if machine is not None else None, metrics_port, count, Domain(zone, rack),
        read_tls(choose_tls((), tls_ca, tls_cert, tls_key), OsClock()), insecure,
    )  # fmt: skip
    os.umask(PRIVATE_UMASK)
    set_up_logging(log_format, role, name)
    acquire_process_lock(
        data_dir / "process.lock"
    )  # let go by the end of the process: who sees it free knows that nobody is left
    log.info("%s starts", name)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_run(options, ready_fd, lifeline_fd))


def _serve_machine(config: Path | None, name: str, data_dir: Path | None, log_format: LogFormat) -> None:
    """All processes that the file of the machine names, once it has joined a cluster."""
    from fs3.cli.machine_supervisor import run_machine
    from fs3.cli.node_config import DEFAULT_PATH, load_node_config

    if name or data_dir is not None:
        raise error(Code.INVALID, "serve needs mgmtd, meta or storage with --name and --data-dir, or --config alone")
    found = load_node_config(config or DEFAULT_PATH)
    identity = load_identity(found.data_dir)
    identity.require_cluster()
    os.umask(PRIVATE_UMASK)
    acquire_process_lock(found.data_dir / "process.lock")
    set_up_logging(log_format, "machine", identity.name)
    run_machine(found)


def loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    """uvloop, where it is installed; None: asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop


async def _run(options: ServeOptions, ready_fd: int | None, lifeline_fd: int | None = None) -> None:
    stopping = options.shutdown.requested
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)

    def stop_together() -> None:
        options.shutdown.hand_over = False
        stopping.set()

    loop.add_signal_handler(STOP_TOGETHER, stop_together)
    if lifeline_fd is not None:
        # Nothing is ever written to it: it becomes readable when the one that could is gone.
        loop.add_reader(lifeline_fd, stopping.set)
    async with AsyncExitStack() as stack:
        from fs3.cli.wiring import start_service

        starting = asyncio.ensure_future(start_service(options, stack))
        stopped_early = asyncio.ensure_future(stopping.wait())
        await asyncio.wait({starting, stopped_early}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.wait({starting})
            _raise_failure(options)
            return
        endpoints = await starting
        tune_collector()
        log.info("%s serves on %s", options.name, ", ".join(endpoints.values()))
        if ready_fd is not None:
            os.write(ready_fd, json.dumps(endpoints).encode() + b"\n")
            os.close(ready_fd)
        await stopped_early
        log.info("%s stops", options.name)
    _raise_failure(options)
    log.info("%s has stopped", options.name)


def _raise_failure(options: ServeOptions) -> None:
    """FS3Error with the reason when the process has ended because it could not do its duty: the last line it says."""
    if options.shutdown.failure is not None:
        raise error(Code.UNAVAILABLE, f"{options.name} has ended, as it cannot do its duty: {options.shutdown.failure}")
