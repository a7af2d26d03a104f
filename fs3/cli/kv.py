"""`fs3 kv`: the namespaces of KVCaches, listed, emptied and deleted."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer
from rich.console import Console
from rich.progress import Progress, TextColumn

from fs3.base.units import format_size
from fs3.cli import where
from fs3.cli.admin import AsJson, open_client, print_json, print_table

if TYPE_CHECKING:
    from fs3.api.client import Client
    from fs3.api.kvcache import Progress as OnRemoved

app = typer.Typer(name="kv", help="List, empty and delete the namespaces of KVCaches.", no_args_is_help=True)

Cluster = Annotated[
    str | None,
    typer.Option("--cluster", help=where.HELP),
]
_Action: TypeAlias = "Callable[[Client, str, OnRemoved], Awaitable[int]]"
"""Given a client, the name of a namespace, and what to call with pages that were removed; returns how many those were."""
Names = Annotated[list[str], typer.Argument(help="names of namespaces")]


@app.command()
def ls(
    prefix: Annotated[str, typer.Argument(help="only names that begin with this")] = "",
    cluster: Cluster = None,
    as_json: AsJson = False,
) -> None:
    """List namespaces."""
    from fs3.api.kvcache import CacheNamespace, KVCache

    async def gather() -> list[CacheNamespace]:
        async with open_client(cluster) as client:
            return await KVCache.list_namespaces(client, prefix)

    found = asyncio.run(gather())
    if as_json:
        print_json(
            [
                {
                    "id": each.id,
                    "name": each.name,
                    "page_bytes": each.page_bytes,
                    "replicas": each.replicas,
                    "deleting": each.deleting,
                }
                for each in found
            ]
        )
        return
    rows = [(each.name, format_size(each.page_bytes), str(each.replicas), "being deleted" * each.deleting) for each in found]
    print_table(("namespace", "page", "replicas", ""), rows)


@app.command()
def rm(names: Names, cluster: Cluster = None) -> None:
    """Delete namespaces, and free what their pages take. Completes what was interrupted."""
    from fs3.api.kvcache import KVCache

    async def delete(client: Client, name: str, on_removed: OnRemoved) -> int:
        return await KVCache.delete_namespace(client, name, progress=on_removed)

    _for_each(names, cluster, "deleted", delete)


@app.command()
def clear(names: Names, cluster: Cluster = None) -> None:
    """Remove all pages of namespaces, which stay."""
    from fs3.api.kvcache import KVCache

    async def empty(client: Client, name: str, on_removed: OnRemoved) -> int:
        return await KVCache.clear_namespace(client, name, progress=on_removed)

    _for_each(names, cluster, "emptied", empty)


def _for_each(names: list[str], cluster: str | None, done: str, action: _Action) -> None:
    """Do something to each that there is, with a count of pages while it goes on. Exit status 1 when one is missing."""
    from fs3.base.errors import NotFound

    missing = False

    async def go() -> None:
        nonlocal missing
        bar = Progress(
            TextColumn("{task.description}: {task.completed:.0f} pages removed"),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        async with open_client(cluster) as client:
            with bar:
                for name in names:
                    task = bar.add_task(name, total=None)
                    try:
                        pages = await action(client, name, lambda count, task=task: bar.advance(task, count))  # type: ignore[misc]
                    except NotFound as why:
                        missing = True
                        sys.stderr.write(f"fs3: {why}\n")
                    else:
                        sys.stdout.write(f"{name}: {done}, {pages} pages removed\n")

    asyncio.run(go())
    if missing:
        raise typer.Exit(1)
