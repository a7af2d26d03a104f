"""`fs3 demo`: what fs3 does when things go wrong, to watch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fs3.base.errors import error
from fs3.base.status import Code

app = typer.Typer(name="demo", help="Watch what fs3 does when things go wrong.", no_args_is_help=True)

ROLES = ("head", "middle", "tail")


@app.callback()
def _group() -> None:
    pass


@app.command()
def failover(
    directory: Annotated[Path | None, typer.Option("--dir", help="keep the cluster's data here; else a temporary one")] = None,
    role: Annotated[str, typer.Option(help="whom to kill: head, middle or tail of the chain")] = "head",
    speed: Annotated[float, typer.Option(help="2: pause half as long between the steps")] = 1.0,
) -> None:
    """Kill a storage process under verified load, start it again, watch it heal, check every byte. About half a minute."""
    if role not in ROLES:
        raise error(Code.INVALID, f"--role {role}: {', '.join(ROLES)}")
    if not 0.1 <= speed <= 20:
        raise error(Code.INVALID, f"--speed {speed}: 0.1 to 20")
    if directory is not None and directory.exists() and any(directory.iterdir()):
        raise error(Code.EXISTS, "is not empty; name a directory for the demo alone", str(directory))
    from fs3.drill.failover_demo import run_demo

    run_demo(directory, role, speed)
