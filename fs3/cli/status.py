"""`fs3 status`: is a cluster well, and if not, what is degraded, why, and how far the repair is."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.live import Live

from fs3.api.tls import manager_wire
from fs3.base.errors import FS3Error, Unreachable, error
from fs3.base.limits import manager_probe_ns
from fs3.base.status import Code
from fs3.base.units import SECOND, parse_duration
from fs3.cli import where
from fs3.cli.directory import ClusterDirectory, Shape
from fs3.cli.manager_client import open_manager_client
from fs3.cli.operator_keys import use_directory
from fs3.cli.output import print_json, table_console
from fs3.cli.status_view import render
from fs3.cli.supervision import SupervisedProcesses, describe_restarts
from fs3.cli.transports import read_transports, render_transports
from fs3.core.health.document import disk_documents, release_document, release_of, status_document
from fs3.core.health.problems import HealthProblem, health_of, problems_of, with_verdict
from fs3.model.cluster import ClusterInfo
from fs3.model.health import ClusterHealth, HealthKind

if TYPE_CHECKING:
    from fs3.client.connector import Connector

SERVING_SECONDS = 60.0
_WATCH_SECONDS = 0.5


def status(
    url: Annotated[str | None, typer.Argument(help=where.HELP, metavar="CLUSTER")] = None,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="directory of a cluster on this machine")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable")] = False,
    transports: Annotated[
        bool, typer.Option("--transports", help="show how payloads travel on each connection of its processes, and why")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="go on showing it until Ctrl-C")] = False,
    wait: Annotated[
        ClusterHealth | None, typer.Option("--wait", help="return once it is healthy (or degraded); see --timeout")
    ] = None,
    timeout: Annotated[str, typer.Option(help="with --wait: give up after so long, with exit status 1")] = "60s",
) -> None:
    """Show whether a cluster is well: managers, nodes, chains, targets, resync and scrub."""
    if data_dir is None and url is not None and where.is_directory(url):
        data_dir = Path(url)
    addresses = addresses_of(url, data_dir)
    if transports and (watch or wait is not None):
        raise error(Code.INVALID, "--transports shows connections once: leave out --watch and --wait")
    if transports:
        found = read_transports(addresses)
        if as_json:
            print_json(found)
        else:
            table_console().print(render_transports(found))
        return
    if wait is ClusterHealth.DOWN:
        raise error(Code.INVALID, "--wait down: wait for healthy or degraded")
    if wait is not None:
        wait_for_health(addresses, wait, parse_duration(timeout) / SECOND)
    if watch:
        _watch(addresses, data_dir)
        return
    document = _read_status(addresses, data_dir)
    if as_json:
        print_json(document)
    else:
        table_console().print(render(document))
    if "unreachable" in document:
        raise typer.Exit(1)


def addresses_of(url: str | None, data_dir: Path | None) -> list[str]:
    """mgmtd addresses ("host:port") from what names a cluster, or its data directory. Raises FS3Error when there is none."""
    if data_dir is not None:
        use_directory(data_dir)
        return where.addresses_in(ClusterDirectory(data_dir))
    return where.manager_addresses_of(url)


def manager_addresses(shape: Shape) -> list[str]:
    """mgmtd addresses ("host:port") of a local cluster."""
    return shape.manager_addresses()


async def fetch_status(addresses: Sequence[str]) -> dict[str, Any]:
    """The primary's view as plain data. Raises Unreachable naming the addresses."""
    from fs3.client.connector import Connector
    from fs3.drivers.os.clock import OsClock

    async with open_manager_client(addresses) as client, AsyncExitStack() as stack:
        connector = Connector([manager_wire(addresses, OsClock(), client.session)[0]], host="")
        stack.push_async_callback(connector.close)
        document = status_document(await client.status())
        answers = await asyncio.gather(*(_ask_manager(connector, manager["endpoints"]) for manager in document["managers"]))
        for manager, answer in zip(document["managers"], answers, strict=True):
            manager["answers"] = answer is not None
            manager["disks"] = [] if answer is None else disk_documents(answer.disks)
            manager.update(release_document(None if answer is None else release_of(answer)))
        return with_verdict(document)


async def _ask_manager(connector: Connector, endpoints: Sequence[str]) -> ClusterInfo | None:
    """What a manager says of itself; None when it does not answer."""
    from fs3.client.mgmtd.selector import ask_cluster

    try:
        return await ask_cluster(connector.channel(endpoints), manager_probe_ns)
    except FS3Error:
        return None


def wait_until_healthy(addresses: Sequence[str], seconds: float = SERVING_SECONDS) -> None:
    """Return once the cluster is healthy: every target serves and says so. FS3Error saying what is missing otherwise."""
    wait_for_health(addresses, ClusterHealth.HEALTHY, seconds)


def wait_for_health(addresses: Sequence[str], wanted: ClusterHealth, seconds: float) -> None:
    """Return once the cluster is as well as that, or better; what waiting does not mend (a disk that is nearly full) does not
    count. FS3Error saying what is missing otherwise."""
    deadline = time.monotonic() + seconds
    good = list(ClusterHealth)[: list(ClusterHealth).index(wanted) + 1]
    while True:
        try:
            document = asyncio.run(fetch_status(addresses))
        except FS3Error as wrong:
            missing = str(wrong)
        else:
            problems = [problem for problem in problems_of(document) if problem.may_pass]
            if health_of(problems) in good:
                return
            missing = "; ".join(problem.text for problem in problems[:3])
        if time.monotonic() >= deadline:
            raise error(Code.UNAVAILABLE, f"the cluster is not {wanted.value} after {seconds:.0f} s: {missing}")
        time.sleep(0.05)


def _read_status(addresses: Sequence[str], data_dir: Path | None) -> dict[str, Any]:
    """The document, and with a data directory also which processes run; then it is also there when no manager answers."""
    if data_dir is None:
        try:
            return asyncio.run(fetch_status(addresses))
        except Unreachable as why:
            others = "; if the cluster has other managers, name them too: host:port,host:port" if len(addresses) == 1 else ""
            raise error(why.code, f"{why.strerror}{others}", why.filename) from why
    try:
        document = asyncio.run(fetch_status(addresses))
    except FS3Error as wrong:
        document = _unreachable_document(str(wrong))
    add_processes(document, ClusterDirectory(data_dir))
    return document


def add_processes(document: dict[str, Any], directory: ClusterDirectory) -> None:
    """What the directory of a cluster on this machine knows: who runs, who was started again how often and why."""
    _, processes = directory.require()
    supervised = SupervisedProcesses(directory)
    document["supervisor"] = directory.supervisor_pid()
    document["processes"] = []
    for name, process in processes.items():
        pid, record = directory.running_pid(name), supervised.record(name)
        document["processes"].append(
            {
                "name": name,
                "role": process.role,
                "pid": process.pid if pid is None else pid,
                "running": pid is not None,
                "supervised": supervised.has(name),
                **msgspec.structs.asdict(record),
            }
        )
        if record.given_up:
            text = f"process {name} {describe_restarts(record)}"
            document["problems"].append(HealthProblem(HealthKind.PROCESS_GIVEN_UP, text).to_document())
            if document["health"] == ClusterHealth.HEALTHY.value:
                document["health"] = ClusterHealth.DEGRADED.value


def _unreachable_document(why: str) -> dict[str, Any]:
    empty: dict[str, Any] = {key: [] for key in ("managers", "nodes", "chains", "tables", "targets", "namespaces", "resyncs")}
    problem = HealthProblem(HealthKind.UNREACHABLE, why).to_document()
    return {
        "health": ClusterHealth.DOWN.value, "problems": [problem], "unreachable": True, "cluster_id": "", "software": "",
        "routing_version": 0, "epoch": 0, "primary_for_ms": 0, "store": "", "secured": False, **empty,
    }  # fmt: skip


def _watch(addresses: Sequence[str], data_dir: Path | None) -> None:
    console = table_console()
    with Live(console=console, auto_refresh=False, screen=True) if console.is_terminal else nullcontext() as live:
        while True:
            try:
                document = _read_status(addresses, data_dir)
            except FS3Error as wrong:
                document = _unreachable_document(str(wrong))
            if live is not None:
                live.update(render(document), refresh=True)
            else:
                console.print(render(document))
                sys.stdout.flush()
            time.sleep(_WATCH_SECONDS)
