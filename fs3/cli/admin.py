"""`fs3 admin`: look into a cluster, check it, repair it."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeAlias, TypeVar

import msgspec
import typer
from rich.console import Console

from fs3.base.errors import error
from fs3.base.ids import TargetId
from fs3.base.status import Code
from fs3.base.units import format_size
from fs3.cli import admin_kv
from fs3.cli.operator_keys import operator_credentials
from fs3.cli.output import print_json, print_table
from fs3.cli.where import HELP as where_help
from fs3.cli.where import is_embedded, manager_addresses_of

if TYPE_CHECKING:
    from fs3.api.client import Client

app = typer.Typer(name="admin", help="Look into a cluster, check it, repair it.", no_args_is_help=True)
app.add_typer(admin_kv.app)

TargetRequest: TypeAlias = "Callable[[Client, TargetId], Awaitable[dict[str, Any]]]"
"""What one target is asked for; the answer names the target, its node and its chain."""

Where = Annotated[
    str | None,
    typer.Argument(help=where_help, metavar="CLUSTER"),
]
AsJson = Annotated[bool, typer.Option("--json", help="machine-readable")]

CLEAN, FOUND, NOT_CHECKED = 0, 1, 2
"""Exit status."""

T = TypeVar("T")


@asynccontextmanager
async def open_client(where: str | None) -> AsyncIterator[Client]:
    """A client of a cluster. FS3Error when it cannot be reached, or the argument names none."""
    from fs3.api.connect import connect, connect_embedded

    if where is not None and is_embedded(where):
        client = await connect_embedded(where)
    else:
        client = await connect(",".join(manager_addresses_of(where)), credentials=operator_credentials())
    try:
        yield client
    finally:
        await client.aclose()


def run_with_client(where: str | None, action: Callable[[Client], Awaitable[T]]) -> T:
    """The result of an action with a client. Ends the process with `NOT_CHECKED` and one line when it cannot be had."""

    async def with_client() -> T:
        async with open_client(where) as client:
            return await action(client)

    try:
        return asyncio.run(with_client())
    except (OSError, ValueError) as wrong:
        exit_not_checked(wrong)


def exit_not_checked(wrong: Exception) -> NoReturn:
    """One line on standard error, exit status `NOT_CHECKED`."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"fs3: {wrong}", markup=False)
    raise typer.Exit(NOT_CHECKED)


@app.command()
def fsck(
    where: Where = None,
    repair: Annotated[bool, typer.Option("--repair", help="repair what was found")] = False,
    as_json: AsJson = False,
) -> None:
    """Check the namespace, the chunks and their replicas, while the cluster is in use.

    Exit status: 0 all is well, 1 problems were found (also when they were repaired), 2 it could not be checked.
    """
    from fs3.cli.admin_fsck import check

    run_check(where, check, repair=repair, as_json=as_json, names=True, files=True, replicas=True)


@app.command()
def verify_replicas(where: Where = None, as_json: AsJson = False) -> None:
    """Compare versions and checksums of every chunk on all replicas that serve.

    The bytes behind the checksums are read and verified by `fs3 admin scrub`. Exit status as of fsck.
    """
    from fs3.cli.admin_fsck import check

    run_check(where, check, repair=False, as_json=as_json, names=False, files=False, replicas=True)


def run_check(where: str | None, check: Callable[..., Awaitable[bool]], **options: bool) -> None:
    """Runs a check and ends the process with its exit status."""

    async def action(client: Client) -> bool:
        return await check(client, **options)

    if not run_with_client(where, action):
        raise typer.Exit(FOUND)


@app.command()
def chains(where: Where = None, as_json: AsJson = False) -> None:
    """Show the chains with their targets, in chain order: who serves, who is being brought up to date, who is away."""
    from fs3.cli.admin_chains import describe_chains

    found = run_with_client(where, describe_chains)
    if as_json:
        print_json(found)
        return
    rows = []
    for chain in found["chains"]:
        tables = ", ".join(str(table) for table in chain["tables"])
        for place, target in enumerate(chain["targets"]):
            first = (str(chain["chain"]), str(chain["version"]), tables) if place == 0 else ("", "", "")
            used, free = format_size(target["used_bytes"]), format_size(target["free_bytes"])
            states = target["public_state"], target["local_state"]
            rows.append((*first, str(target["target"]), target["node"], *states, str(target["chunks"]), used, free))
    print_table(("chain", "version", "tables", "target", "node", "public", "local", "chunks", "used", "free"), rows)


@app.command()
def chunk(
    chunk_id: Annotated[str, typer.Argument(metavar="CHUNK", help="inode/index of a file's chunk, or 32 hexadecimal digits")],
    where: Where = None,
    as_json: AsJson = False,
) -> None:
    """Show where a chunk is, and which version each replica has. Exit status 1 when no target has it."""
    from fs3.cli.admin_chains import find_chunk
    from fs3.core.meta.fsck.problems import parse_chunk_name

    try:
        wanted = parse_chunk_name(chunk_id)
    except ValueError as wrong:
        exit_not_checked(wrong)

    async def action(client: Client) -> dict[str, Any]:
        return await find_chunk(client, wanted)

    found = run_with_client(where, action)
    if as_json:
        print_json(found)
    else:
        rows = [
            (str(copy["chain"]), str(copy["target"]), copy["node"], copy["state"], *_copy_columns(copy))
            for copy in found["copies"]
        ]
        headings = "chain", "target", "node", "public", "version", "pending", "chain version", "bytes", "checksum", ""
        print_table(headings, rows, found["what"])
    if not found["inline"] and not any(copy["exists"] for copy in found["copies"]):
        raise typer.Exit(FOUND)


@app.command()
def resync(
    target: Annotated[int, typer.Argument(metavar="TARGET", help="number of the target, as `fs3 admin chains` shows it")],
    where: Where = None,
    as_json: AsJson = False,
) -> None:
    """Have a target leave its chain for a moment and come back: every chunk is compared, and filled where it differs."""
    from fs3.cli.admin_chains import resync_target

    _ask_target(where, target, resync_target, "is compared with chain {chain}; see fs3 status --wait", as_json=as_json)


@app.command("accept-loss")
def accept_loss(
    target: Annotated[int, typer.Argument(metavar="TARGET", help="number of the target, as `fs3 admin chains` shows it")],
    where: Where = None,
    as_json: AsJson = False,
) -> None:
    """Let a target serve with what it has, when no target of its chain has the newest data. What it lacks is lost."""
    from fs3.cli.admin_chains import accept_loss_of

    _ask_target(where, target, accept_loss_of, "serves chain {chain} with what it has", as_json=as_json)


def _ask_target(
    where: str | None,
    target: int,
    ask: TargetRequest,
    said: str,
    *,
    as_json: bool,
) -> None:
    """Ask one target something, and say what it does now."""

    async def action(client: Client) -> dict[str, Any]:
        return await ask(client, TargetId(target))

    asked = run_with_client(where, action)
    if as_json:
        print_json(asked)
    else:
        sys.stdout.write(f"target {asked['target']} of {asked['node']} {said.format(chain=asked['chain'])}\n")


def _copy_columns(copy: dict[str, Any]) -> tuple[str, ...]:
    if not copy["exists"]:
        return ("-", "-", "-", "-", "-", copy["reason"])
    pending = str(copy["pending"]) if copy["pending"] else ""
    bad = "bad" if copy["bad"] else ""
    return (str(copy["version"]), pending, str(copy["chain_version"]), str(copy["bytes"]), copy["checksum"], bad)


@app.command()
def scrub(
    where: Where = None,
    start: Annotated[bool, typer.Option("--start", help="begin one now on every target where none is under way")] = False,
    status: Annotated[bool, typer.Option("--status", help="only show how far it is; this is what happens by default")] = False,
    as_json: AsJson = False,
) -> None:
    """Show how far the background verification of all stored bytes is, and what it has found.

    Exit status: 0 no chunk is known to be bad, 1 some are, 2 a node did not answer.
    """
    from fs3.cli.admin_scrub import gather_scrubs

    if start and status:
        exit_not_checked(error(Code.INVALID, "--start and --status contradict each other"))

    async def action(client: Client) -> dict[str, Any]:
        return await gather_scrubs(client, begin=start)

    found = run_with_client(where, action)
    if as_json:
        print_json(found)
    else:
        rows = [
            (
                str(target["target"]),
                target["node"],
                f"{target['done_chunks']} of {target['total_chunks']} chunks" if target["running"] else "at rest",
                str(target["passes"]),
                format_size(target["bytes"]),
                str(target["repaired_chunks"]),
                str(target["bad_chunks"]),
                " ".join(target["bad"]),
            )
            for target in found["targets"]
        ]
        print_table(("target", "node", "now", "passes", "read", "repaired", "bad", ""), rows)
    for node, reason in found["silent"].items():
        sys.stderr.write(f"fs3: {node} does not answer: {reason}\n")
    if found["silent"]:
        raise typer.Exit(NOT_CHECKED)
    if any(target["bad_chunks"] for target in found["targets"]):
        raise typer.Exit(FOUND)


StoreDir = Annotated[
    Path, typer.Argument(metavar="STORE", help="data directory of a cluster on this machine, or of a metadata store (--kv)")
]
CopyDir = Annotated[Path, typer.Argument(metavar="COPY", help="directory of the copy")]


@app.command()
def backup_meta(store: StoreDir, copy: CopyDir, as_json: AsJson = False) -> None:
    """Copy the metadata into a new directory, as they are at one moment. The cluster may be in use."""
    from fs3.cli.metadata_copy import back_up, store_of

    made = back_up(store_of(store), copy)
    if as_json:
        print_json(msgspec.to_builtins(made))
    else:
        sys.stdout.write(f"{made.rows} rows, {format_size(made.bytes)}, are copied to {copy}\n")


@app.command()
def restore_meta(copy: CopyDir, store: StoreDir, as_json: AsJson = False) -> None:
    """Put a copy in the place of a metadata store. Its metadata processes must be stopped; what was there is kept beside it."""
    from fs3.cli.metadata_copy import place_of, put_back, when

    done = put_back(copy, place_of(store), time.time_ns())
    if as_json:
        print_json(done)
    else:
        kept = f"; what was there is {done['replaced']}" if done["replaced"] else ""
        sys.stdout.write(f"{done['store']} has the {done['rows']} rows of {when(done['made_at_ns'])}{kept}\n")
        sys.stdout.write("start the cluster, then look at `fs3 admin fsck`: docs/metadata-recovery.md\n")
