"""`fs3 dashboard`: where the web page of a cluster is."""

from __future__ import annotations

import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fs3.base.errors import error
from fs3.base.status import Code
from fs3.cli import where
from fs3.cli.manager_client import ask_manager
from fs3.cli.output import print_json
from fs3.cli.status import addresses_of
from fs3.core.dashboard.page import page_of
from fs3.drivers.http.http_messages import is_loopback
from fs3.model.cluster import ManagerInfo


def dashboard(
    url: Annotated[str | None, typer.Argument(help=where.HELP, metavar="CLUSTER")] = None,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="directory of a cluster on this machine")] = None,
    open_it: Annotated[bool, typer.Option("--open", help="open it in the browser of this machine")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable: the page of every manager")] = False,
) -> None:
    """Show where the web page of a cluster is: health, nodes, chains, space, throughput, events, live and read-only."""
    status = ask_manager(addresses_of(url, data_dir), lambda manager: manager.status())
    if as_json:
        print_json([{"name": each.name, "primary": each.is_primary, "url": page_of(each.endpoints)} for each in status.managers])
        return
    leading = next((each for each in status.managers if each.is_primary), None)
    page = page_of(leading.endpoints) if leading is not None else ""
    if leading is None or not page:
        name = leading.name if leading is not None else "the manager"
        raise error(
            Code.NOT_FOUND, f"{name} serves no page: `fs3 up --metrics-port 9400` and `fs3 serve --metrics-port` make it do"
        )
    sys.stdout.write(f"{page}/\n")
    if far := explain_loopback(leading, page):
        Console(stderr=True, highlight=False, soft_wrap=True).print(far, markup=False)
    if open_it and not webbrowser.open(f"{page}/"):
        raise error(Code.UNAVAILABLE, "no browser could be opened on this machine")


def explain_loopback(manager: ManagerInfo, page: str) -> str:
    """What to do where the page is served to the manager's own machine only, which may be another one; "" where it is not so."""
    address = page.partition("://")[2]
    tcp = next((each.partition("://")[2] for each in manager.endpoints if each.startswith(("tcp://", "tls://"))), "")
    if not is_loopback(address) or not tcp or is_loopback(tcp):
        return ""
    host, port = tcp.rpartition(":")[0].strip("[]"), address.rpartition(":")[2]
    return f"only the machine of {manager.name} reaches it; from another one: ssh -L {port}:{address} {host}"
