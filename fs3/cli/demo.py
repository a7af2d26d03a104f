"""`fs3 demo`: what fs3 does when things go wrong, to watch."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Protocol

import typer

from fs3.base.errors import error
from fs3.base.status import Code

app = typer.Typer(name="demo", help="Watch what fs3 does when things go wrong.", no_args_is_help=True)

DEMOS = "fs3.demos"
"""Entry point group. What breaks clusters is above this floor, so the commands find it by name."""


class FailoverRunner(Protocol):
    """What the entry point `failover` names."""

    def __call__(self, directory: Path | None, role: str, speed: float) -> None:
        """Run the demo and show it. `directory`: where the cluster's data stay; None: in a temporary one. `role`: of the process
        that is killed, in its chain. `speed`: 2 halves the pauses between the steps. FS3Error when the role is none, or the demo
        goes wrong."""
        ...


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
    if not 0.1 <= speed <= 20:
        raise error(Code.INVALID, f"--speed {speed}: 0.1 to 20")
    if directory is not None and directory.exists() and any(directory.iterdir()):
        raise error(Code.EXISTS, "is not empty; name a directory for the demo alone", str(directory))
    load_failover_demo()(directory, role, speed)


def load_failover_demo() -> FailoverRunner:
    """The demo that is installed. FS3Error UNSUPPORTED when none is."""
    for point in entry_points(group=DEMOS, name="failover"):
        run: FailoverRunner = point.load()
        return run
    raise error(
        Code.UNSUPPORTED,
        f"the demo is not installed (entry point group {DEMOS}, name failover); an editable installation from before there was "
        "one learns of it by `pip install --editable .`",
    )
