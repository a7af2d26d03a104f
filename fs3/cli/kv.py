"""`fs3 kv`: the namespaces of KVCaches: listed, made, shown, set, cleared, deleted, watched."""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from fs3.base.units import MILLISECOND, SECOND, format_duration, format_size, parse_duration, parse_size
from fs3.cli import where
from fs3.cli.admin import AsJson, open_client
from fs3.cli.output import print_json, print_table

if TYPE_CHECKING:
    from fs3.api.client import Client
    from fs3.api.kvcache import CacheNamespace, CacheUsage

app = typer.Typer(name="kv", help="List, make, set, clear and delete the namespaces of KVCaches.", no_args_is_help=True)

NONE = "none"
"""As a budget or a TTL: there is none."""


def _parse_size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as wrong:
        raise typer.BadParameter(str(wrong)) from None


def _parse_budget(text: str) -> float:
    return math.inf if text == NONE else _parse_size(text)


def _parse_ttl(text: str) -> float:
    if text == NONE:
        return math.inf
    try:
        return parse_duration(text) / SECOND
    except ValueError as wrong:
        raise typer.BadParameter(str(wrong)) from None


Cluster = Annotated[str | None, typer.Option("--cluster", help=where.HELP)]
Name = Annotated[str, typer.Argument(help="name of a namespace")]
Names = Annotated[list[str], typer.Argument(help="names of namespaces")]
Budget = Annotated[
    float | None,
    typer.Option("--budget", parser=_parse_budget, metavar="SIZE", help="what its pages may take, as 10GB; none: all there is"),
]
Ttl = Annotated[
    float | None,
    typer.Option("--ttl", parser=_parse_ttl, metavar="TIME", help="how long a page stays, as 30m, 1h or 7d; none: for ever"),
]
Pins = Annotated[
    int | None,
    typer.Option("--pins", parser=_parse_size, metavar="SIZE", help="what hard pins may hold of the budget; 0: there are none"),
]
Owner = Annotated[str | None, typer.Option("--owner", help="whom it belongs to")]
Tenant = Annotated[str | None, typer.Option("--tenant", help="whose users may use it, where the cluster has security")]
PageSize = Annotated[
    int, typer.Option("--page", parser=_parse_size, metavar="SIZE", help="size of its pages, as 4497408 or 2MiB")
]
Replicas = Annotated[int, typer.Option("--replicas", help="how many copies of each page; 0: the number of the cluster")]

NamedAction: TypeAlias = "Callable[[Client, str], Awaitable[Any]]"
NamespaceQuestion: TypeAlias = "Callable[[Client], Awaitable[CacheNamespace]]"
"""Given a client and the name of a namespace."""


@app.command()
def ls(
    prefix: Annotated[str, typer.Argument(help="only names that begin with this")] = "",
    cluster: Cluster = None,
    as_json: AsJson = False,
) -> None:
    """List namespaces."""
    from fs3.api.kvcache import KVCache

    async def gather() -> list[CacheNamespace]:
        async with open_client(cluster) as client:
            return await KVCache.list_namespaces(client, prefix)

    found = asyncio.run(gather())
    if as_json:
        print_json([_document(each) for each in found])
        return
    rows = [
        (
            each.name,
            format_size(each.page_bytes),
            str(each.replicas),
            _size(each.budget_bytes),
            _ttl(each),
            _size(each.pin_bytes),
            each.owner,
        )
        for each in found
    ]
    print_table(("namespace", "page", "replicas", "budget", "ttl", "pins", "owner"), rows)


@app.command()
def create(
    name: Name,
    page: PageSize,
    replicas: Replicas = 0,
    budget: Budget = None,
    ttl: Ttl = None,
    pins: Pins = None,
    owner: Owner = None,
    cluster: Cluster = None,
    as_json: AsJson = False,
) -> None:
    """Make a namespace. One that is opened by a program is made then, if there is none."""
    from fs3.api.kvcache import KVCache

    def make(client: Client) -> Awaitable[CacheNamespace]:
        return KVCache.create_namespace(
            client, name, page_bytes=page, replicas=replicas, budget_bytes=budget, ttl=ttl, pin_bytes=pins, owner=owner
        )

    _ask_and_show(make, cluster, as_json=as_json)


@app.command()
def show(name: Name, cluster: Cluster = None, as_json: AsJson = False) -> None:
    """Show a namespace and its settings."""
    from fs3.api.kvcache import KVCache

    _ask_and_show(lambda client: KVCache.get_namespace(client, name), cluster, as_json=as_json)


@app.command("set")
def set_(
    name: Name,
    budget: Budget = None,
    ttl: Ttl = None,
    pins: Pins = None,
    owner: Owner = None,
    tenant: Tenant = None,
    cluster: Cluster = None,
    as_json: AsJson = False,
) -> None:
    """Change settings of a namespace that is in use: those that are given."""
    from fs3.api.kvcache import KVCache

    if budget is None and ttl is None and pins is None and owner is None and tenant is None:
        raise typer.BadParameter("nothing to set: give --budget, --ttl, --pins, --owner or --tenant")

    def change(client: Client) -> Awaitable[CacheNamespace]:
        return KVCache.set_namespace(client, name, budget_bytes=budget, ttl=ttl, pin_bytes=pins, owner=owner, tenant=tenant)

    _ask_and_show(change, cluster, as_json=as_json)


@app.command()
def clear(names: Names, cluster: Cluster = None) -> None:
    """Take all pages of namespaces away. The namespaces and their settings stay."""
    from fs3.api.kvcache import KVCache

    _for_each(names, cluster, "cleared", KVCache.clear_namespace)


@app.command()
def rm(names: Names, cluster: Cluster = None) -> None:
    """Delete namespaces."""
    from fs3.api.kvcache import KVCache

    _for_each(names, cluster, "deleted", KVCache.delete_namespace)


@app.command()
def stat(
    name: Name,
    key: Annotated[str | None, typer.Argument(help="key of a page, as text; none: tell of the namespace")] = None,
    is_hex: Annotated[bool, typer.Option("--hex", help="the key is given as hexadecimal digits")] = False,
    cluster: Cluster = None,
    as_json: AsJson = False,
) -> None:
    """Show whether a page is there, and what each target of its chain has of it. Exit status 1 when it is not there. Without a
    key: what the namespace takes, and all that was counted of it."""
    from fs3.cli.kv_usage import describe_page, find_usage, print_usage, usage_document

    if key is None:

        async def count() -> CacheUsage:
            async with open_client(cluster) as client:
                return await find_usage(client, name)

        usage = asyncio.run(count())
        if as_json:
            print_json(usage_document(usage))
        else:
            print_usage(usage)
        return
    try:
        packed = bytes.fromhex(key) if is_hex else key.encode(errors="surrogateescape")
    except ValueError:
        raise typer.BadParameter(f"{key!r} is not hexadecimal") from None

    async def look() -> dict[str, Any]:
        async with open_client(cluster) as client:
            return await describe_page(client, name, packed)

    found = asyncio.run(look())
    if as_json:
        print_json(found)
    else:
        sys.stdout.write(f"{'stored' if found['stored'] else 'not there'}: {found['bytes']} bytes, page {found['page_id']}\n")
        rows = [
            (str(copy["target"]), str(copy["node"]), copy["state"], copy["page"], str(copy["bytes"])) for copy in found["copies"]
        ]
        print_table(("target", "node", "state", "page", "bytes"), rows, title=f"chain {found['chain']}")
    if not found["stored"]:
        raise typer.Exit(1)


@app.command()
def events(
    name: Name,
    since: Annotated[str, typer.Option("--since", metavar="TOKEN", help="go on behind the event that had this token")] = "",
    count: Annotated[int | None, typer.Option("--count", min=1, help="end after so many; else with Ctrl-C")] = None,
    cluster: Cluster = None,
    as_json: AsJson = False,
) -> None:
    """Show what happens to the pages of a namespace, a line each, with keys: stored, evicted, expired, removed, lost, cleared.
    A missed says that there may have been others, which are not told: list the pages again."""
    from fs3.cli.kv_events import print_events

    async def follow() -> None:
        async with open_client(cluster) as client:
            await print_events(client, name, since, count, as_json=as_json)

    asyncio.run(follow())


@app.command()
def top(
    prefix: Annotated[str, typer.Argument(help="only names that begin with this")] = "",
    by_owner: Annotated[bool, typer.Option("--owners", help="sums of the namespaces of each owner, once")] = False,
    cluster: Cluster = None,
    as_json: AsJson = False,
) -> None:
    """Show what namespaces take and do: again and again on a terminal, once elsewhere."""
    from fs3.api.kvcache import KVCache
    from fs3.cli.kv_owners import owner_document, print_owners, sum_by_owner
    from fs3.cli.kv_usage import show_top, usage_document

    async def show() -> None:
        async with open_client(cluster) as client:
            if by_owner:
                sums = sum_by_owner(await KVCache.list_usage(client, prefix))
                if as_json:
                    print_json([owner_document(each) for each in sums])
                else:
                    print_owners(sums)
            elif as_json:
                print_json([usage_document(usage) for usage in await KVCache.list_usage(client, prefix)])
            else:
                await show_top(client, prefix)

    asyncio.run(show())


def _for_each(names: list[str], cluster: str | None, done: str, action: NamedAction) -> None:
    """Do something to each that there is. Exit status 1 when one is missing, or cannot be."""
    from fs3.base.errors import InvalidArgument, NotFound

    missing = False

    async def go() -> None:
        nonlocal missing
        async with open_client(cluster) as client:
            for name in names:
                try:
                    await action(client, name)
                except (InvalidArgument, NotFound) as why:
                    missing = True
                    sys.stderr.write(f"fs3: {why}\n")
                else:
                    sys.stdout.write(f"{name}: {done}\n")

    asyncio.run(go())
    if missing:
        raise typer.Exit(1)


def _ask_and_show(ask: NamespaceQuestion, cluster: str | None, *, as_json: bool) -> None:
    async def answer() -> CacheNamespace:
        async with open_client(cluster) as client:
            return await ask(client)

    _show(asyncio.run(answer()), as_json=as_json)


def _show(namespace: CacheNamespace, *, as_json: bool) -> None:
    if as_json:
        print_json(_document(namespace))
        return
    rows = [
        ("name", namespace.name),
        ("page", f"{format_size(namespace.page_bytes)} ({namespace.page_bytes} bytes)"),
        ("replicas", str(namespace.replicas)),
        ("budget", _size(namespace.budget_bytes)),
        ("ttl", _ttl(namespace)),
        ("pins", _size(namespace.pin_bytes)),
        ("owner", namespace.owner or NONE),
        ("tenant", namespace.tenant or NONE),
        ("id", str(namespace.id)),
    ]
    print_table(("namespace", ""), rows)


def _size(count: int) -> str:
    return format_size(count) if count else NONE


def _ttl(namespace: CacheNamespace) -> str:
    return format_duration(namespace.ttl_ms * MILLISECOND) if namespace.ttl_ms else NONE


def _document(namespace: CacheNamespace) -> dict[str, Any]:
    fields = ("id", "name", "page_bytes", "replicas", "budget_bytes", "ttl_ms", "pin_bytes", "owner", "tenant")
    return {name: getattr(namespace, name) for name in fields}
