"""The `fs3` command."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console

from fs3 import __version__
from fs3.cli import file_attributes, files
from fs3.cli.completion import completion, prepare_completion
from fs3.cli.examples import add_examples
from fs3.cli.operator_keys import forget_operator
from fs3.cli.output import describe

app = typer.Typer(
    name="fs3",
    help="A parallel file system and KV cache store.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"fs3 {__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    forget_operator()


for command in (files.ls, files.cat, files.cp, files.mv, files.rm, files.mkdir, files.stat, files.du):
    app.command()(command)
file_attributes.add_commands(app)


def _add_cluster_commands() -> None:
    from fs3.cli import (
        admin,
        admin_lists,
        admin_moves,
        certs,
        dashboard,
        demo,
        doctor,
        events,
        groups,
        kv,
        machines,
        mount,
        security,
        serve,
        settings,
        slow,
        status,
        top,
        trace,
        up,
        users,
    )

    app.command()(up.up)
    app.command()(up.down)
    app.command()(up.restart)
    app.command()(status.status)
    app.command()(dashboard.dashboard)
    app.command()(top.top)
    app.command()(slow.slow)
    app.command()(trace.trace)
    app.command()(events.events)
    app.command()(mount.mount)
    app.command()(mount.umount)
    app.add_typer(demo.app)
    admin_moves.register(admin.app)
    admin_lists.add_lists(admin.app)
    app.add_typer(admin.app)
    app.add_typer(kv.app)
    app.add_typer(certs.app)
    app.add_typer(machines.app)
    app.add_typer(settings.app)
    app.add_typer(users.app)
    app.add_typer(groups.app)
    app.add_typer(security.app)
    app.command()(serve.serve)
    app.command()(doctor.doctor)
    app.command()(completion)
    add_examples(app)


_add_cluster_commands()


def mount_helper() -> None:
    """Entry point of `mount.fs3`, which mount(8) calls for lines of fstab."""
    from fs3.cli.mount import helper_arguments

    try:
        arguments = helper_arguments(sys.argv[1:])
    except ValueError as wrong:
        sys.exit(f"mount.fs3: {wrong}")
    main(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Entry point: every expected error is one line on standard error and exit status 1."""
    prepare_completion()
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        app(arguments)
    except BrokenPipeError:
        # The reader of our output has gone (`fs3 ls | head`); point stdout elsewhere so that the exit flush is silent.
        sys.stdout = None
        sys.exit(1)
    except (OSError, ValueError) as wrong:
        errors.print(f"fs3: {describe(wrong)}", markup=False, emoji=False)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
