"""`fs3 doctor`: will this machine do? Looked at before its processes are started, and whenever something is odd."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from fs3.cli.node_config import DEFAULT_PATH, load_node_config
from fs3.cli.output import print_json, table_console

_STYLES = {"ok": "green", "warn": "yellow", "bad": "red", "skipped": "dim"}


def doctor(
    config: Annotated[Path, typer.Option("--config", help="TOML file of this machine")] = DEFAULT_PATH,
    running: Annotated[bool, typer.Option("--running", help="its processes run: their ports are taken, by them")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable")] = False,
) -> None:
    """Look whether this machine can do what its file says. Exit status: 0 it can, also with warnings; 1 it cannot."""
    from fs3.cli.machine_checks import CheckOutcome, run_checks
    from fs3.cli.security_checks import check_exposure_of

    machine = load_node_config(config)
    checks = [*run_checks(machine, running=running), *check_exposure_of(machine)]
    good = not any(check.outcome is CheckOutcome.BAD for check in checks)
    if as_json:
        found = [
            {"check": check.name, "of": check.subject, "outcome": check.outcome.value, "told": check.told, "remedy": check.remedy}
            for check in checks
        ]
        print_json({"good": good, "checks": found})
    else:
        table = Table(box=None)
        for heading in ("", "check", "of", "found"):
            table.add_column(heading, overflow="fold")
        for check in checks:
            told = f"{check.told}; {check.remedy}" if check.remedy else check.told
            outcome = check.outcome.value
            table.add_row(Text(outcome, style=_STYLES[outcome]), check.name, check.subject, told)
        table_console().print(table)
    if not good:
        sys.stderr.write("fs3: this machine cannot do what its file says\n")
        raise typer.Exit(1)
