"""`fs3 ln | chmod | chown | layout`: names and attributes of files and directories, on fs3:// URLs."""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from fs3.api.url import cluster_addresses, split_url
from fs3.base.errors import error
from fs3.base.status import Code
from fs3.base.units import format_size, parse_size
from fs3.cli.output import print_json, print_table
from fs3.model.inode import MODE_BITS, InodeType, Layout

if TYPE_CHECKING:
    from fs3.api.client import Client

at_once_max = 64
"""Entries of a tree that are changed at a time."""

FileChange: TypeAlias = "Callable[[Client, str], Awaitable[object]]"
"""What is done to one name."""
Urls = Annotated[list[str], typer.Argument(help="fs3:// URLs of files or directories; always names, never patterns")]
Recursive = Annotated[bool, typer.Option("-R", "--recursive", help="directories and all below them; symlinks are left alone")]


def add_commands(app: typer.Typer) -> None:
    """Put the commands into an application."""
    for command in (ln, chmod, chown, layout):
        app.command()(command)


def ln(
    source: Annotated[str, typer.Argument(help="fs3:// URL of a file; with -s any text that the link is to lead to")],
    url: Annotated[str, typer.Argument(metavar="URL", help="fs3:// URL of the new name")],
    symbolic: Annotated[bool, typer.Option("-s", "--symbolic", help="a symbolic link")] = False,
) -> None:
    """Give a file another name, or make a symbolic link."""
    path = _path_of(url)
    if symbolic:
        _run([url], lambda client, _: client.symlink(source, path))
        return
    if cluster_addresses(source) != cluster_addresses(url):
        raise error(Code.INVALID, f"{source} and {url} are on different clusters: a file has all of its names on one")
    _run([url], lambda client, _: client.link(_path_of(source), path))


def chmod(
    mode: Annotated[str, typer.Argument(metavar="MODE", help="octal, e.g. 640 or 1777")], urls: Urls, recursive: Recursive = False
) -> None:
    """Set the permission bits of files and directories."""
    if not re.fullmatch(r"[0-7]{1,5}", mode) or int(mode, 8) > MODE_BITS:
        raise error(Code.INVALID, f"mode {mode!r} is no octal number up to {MODE_BITS:o}")
    bits = int(mode, 8)
    _run(urls, lambda client, path: client.chmod(path, bits), recursive=recursive)


def chown(
    owner: Annotated[str, typer.Argument(metavar="OWNER[:GROUP]", help="names or numbers of this machine; :GROUP alone too")],
    urls: Urls,
    recursive: Recursive = False,
) -> None:
    """Set the owner and group of files and directories."""
    uid, gid = parse_owner(owner)
    _run(urls, lambda client, path: client.chown(path, uid, gid), recursive=recursive)


def parse_owner(text: str) -> tuple[int | None, int | None]:
    """(uid, gid) of "OWNER", "OWNER:GROUP" or ":GROUP"; None for what is not said. FS3Error INVALID naming what is unknown."""
    user, _, group = text.partition(":")
    if not user and not group:
        raise error(Code.INVALID, f"{text!r} names neither an owner nor a group")
    try:
        uid = None if not user else int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid
    except KeyError:
        raise error(Code.INVALID, f"there is no user {user!r} on this machine; its number does") from None
    try:
        gid = None if not group else int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise error(Code.INVALID, f"there is no group {group!r} on this machine; its number does") from None
    return uid, gid


def layout(
    urls: Urls,
    chunk_size: Annotated[str | None, typer.Option(help="of new files below these directories, e.g. 1MiB; 0: inherit")] = None,
    stripe: Annotated[int | None, typer.Option(help="chains of each new file; 0: inherit")] = None,
    table: Annotated[int | None, typer.Option(help="chain table of new files (`fs3 admin tables`); 0: inherit")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable")] = False,
) -> None:
    """Show where the bytes of files are, or set how new files below directories are laid out."""
    wanted = {"chunk_size": None if chunk_size is None else parse_size(chunk_size), "stripe": stripe, "table": table}
    given = {name: value for name, value in wanted.items() if value is not None}
    found: list[dict[str, object]] = []

    async def handle(client: Client, path: str) -> None:
        inode = await client.stat(path)
        if given:
            if inode.type is not InodeType.DIRECTORY:
                raise error(Code.NOT_A_DIRECTORY, "the layout of a file stays; set that of its directory, and copy it", path)
            now = {"table": inode.layout.table, "chunk_size": inode.layout.chunk_size, "stripe": inode.layout.stripe} | given
            inode = await client.set_layout(path, Layout(**now))  # type: ignore[arg-type]
        shown = inode.layout
        found.append(
            {
                "path": path,
                "type": inode.type.name.lower(),
                "table": shown.table,
                "chunk_size": shown.chunk_size,
                "stripe": shown.stripe,
                "chains": list(shown.chains),
            }
        )

    _run(urls, handle)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            str(each["path"]),
            str(each["type"]),
            str(each["table"] or "inherits"),
            format_size(int(str(each["chunk_size"]))) if each["chunk_size"] else "inherits",
            str(each["stripe"] or "inherits"),
            " ".join(map(str, each["chains"])) if isinstance(each["chains"], list) else "",
        )
        for each in found
    ]
    print_table(("name", "type", "table", "chunk size", "stripe", "chains"), rows)


def _path_of(url: str) -> str:
    path = split_url(url)[1]
    if not path:
        raise error(Code.INVALID, f"{url!r} names no file or directory: fs3://host:port/path")
    return path


def _run(urls: Sequence[str], change: FileChange, *, recursive: bool = False) -> None:
    """Do something to each name; with `recursive` to all that is below it as well."""
    from fs3.api.connect import connect

    async def run() -> None:
        for url in urls:
            path = _path_of(url)
            async with await connect(",".join(cluster_addresses(url))) as client:
                await change(client, path)
                if recursive:
                    await _change_below(client, path, change)

    asyncio.run(run())


async def _change_below(client: Client, top: str, change: FileChange) -> None:
    waiting: list[str] = []
    async for path in _walk(client, top):
        waiting.append(path)
        if len(waiting) == at_once_max:
            await asyncio.gather(*(change(client, each) for each in waiting))
            waiting = []
    await asyncio.gather(*(change(client, each) for each in waiting))


async def _walk(client: Client, top: str) -> AsyncIterator[str]:
    """All names below a directory but those of symlinks; none below a file."""
    if (await client.stat(top)).type is not InodeType.DIRECTORY:
        return
    above = [top]
    while above:
        directory = above.pop()
        async for entry in client.list(directory):
            path = os.path.join(directory, entry.name)
            if entry.type is InodeType.SYMLINK:
                continue
            yield path
            if entry.type is InodeType.DIRECTORY:
                above.append(path)
