"""`fs3 ls | cat | cp | mv | rm | mkdir | stat | du`, on fs3:// and any other fsspec URL.

A URL is a name when something is called so, and else may be a pattern of "*", "?" and "[...]"; `rm` and `mv` do not take brackets
for one, so that what is gone already never stands for something else.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Annotated, Any

import fsspec
import typer
from fsspec.implementations.local import LocalFileSystem
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from fs3.base.errors import error
from fs3.base.status import Code
from fs3.base.units import format_size
from fs3.cli.copying import COPY_BYTES, CopyItem, copy_item, is_inside, tree_items

Url = Annotated[
    str,
    typer.Argument(
        help="fs3://host:port/path, or any other fsspec URL such as file:///tmp/x; a pattern when nothing is called so"
    ),
]
_WILDCARDS = "*?"

out = Console(highlight=False, soft_wrap=True)
progress_to = Console(stderr=True)


def open_url(url: str, *, local: bool = False) -> tuple[Any, str]:
    """(filesystem, path) of a URL; with `local` also of a path of this machine, which has no scheme.

    Raises InvalidArgument when there is no scheme or one nobody implements.
    """
    scheme, separator, _ = url.partition("://")
    if not separator and local and url:
        slash = "/" if url.endswith("/") else ""
        return LocalFileSystem(), os.path.abspath(url) + slash
    if not separator:
        hint = f"file://{url}" if url.startswith("/") else "fs3://host:port/path"
        raise error(Code.INVALID, f"{url!r} has no scheme; write {hint}")
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as wrong:
        if isinstance(wrong, OSError):
            raise
        raise error(Code.INVALID, f"{url!r}: {scheme}:// is not a file system known here: {wrong}") from wrong
    return filesystem, path


def expand(filesystem: Any, path: str, url: str, letters: str = "*?[") -> list[str]:
    """The path itself when something is called so; else, when it has one of the letters, what it matches as a pattern.

    NotFound when that is nothing.
    """
    if not set(letters) & set(path) or filesystem.lexists(path):
        return [path]
    found: list[str] = sorted(filesystem.glob(path))
    if not found:
        raise error(Code.NOT_FOUND, "nothing matches", url)
    return found


def _time(info: dict[str, Any]) -> str:
    when = info.get("mtime") or info.get("created") or info.get("LastModified")
    if isinstance(when, (int, float)):
        when = datetime.fromtimestamp(when, tz=UTC)
    return f"{when:%Y-%m-%d %H:%M}" if isinstance(when, datetime) else ""


def ls(url: Url, long: Annotated[bool, typer.Option("-l", "--long", help="sizes and times")] = False) -> None:
    """List a directory; or show one file, or the names a pattern matches."""
    filesystem, path = open_url(url)
    found = expand(filesystem, path, url)
    listed = filesystem.ls(path, detail=True) if found == [path] else map(filesystem.info, found)
    entries = sorted(listed, key=lambda entry: str(entry["name"]))
    if not long:
        for entry in entries:
            sys.stdout.write(f"{_name(entry)}\n")
        return
    table = Table(box=None, show_header=False, padding=(0, 1))
    table.add_column(justify="right")
    for entry in entries:
        size = "" if entry["type"] == "directory" else format_size(entry.get("size") or 0)
        table.add_row(size, _time(entry), _name(entry))
    out.print(table)


def _name(entry: dict[str, Any]) -> str:
    return PurePosixPath(entry["name"]).name + ("/" if entry["type"] == "directory" else "")


def cat(urls: Annotated[list[str], typer.Argument(help="files to write to standard output; patterns too")]) -> None:
    """Write files to standard output."""
    for url in urls:
        filesystem, path = open_url(url)
        for name in expand(filesystem, path, url):
            with filesystem.open(name, "rb") as source:
                while data := source.read(COPY_BYTES):
                    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def cp(
    source: Annotated[str, typer.Argument(help="a URL, or a path of this machine; patterns as everywhere")],
    target: Annotated[str, typer.Argument(help="the same; a directory, or a name ending with /, is copied into")],
    recursive: Annotated[bool, typer.Option("-r", "--recursive", help="copy a directory and all below it")] = False,
) -> None:
    """Copy a file, or with -r a directory, between any two URLs or local paths.

    Symlinks below a directory are copied as symlinks. What cannot be copied is named, everything else is copied, and the exit
    status is 1.
    """
    from_fs, from_path = open_url(source, local=True)
    to_fs, to_path = open_url(target, local=True)
    sources = expand(from_fs, from_path, source)
    into = target.endswith("/") or to_fs.isdir(to_path)
    if len(sources) > 1 and not into:
        raise error(Code.NOT_A_DIRECTORY, f"{len(sources)} sources need a directory to be copied into", target)
    items: list[CopyItem] = []
    for path in sources:
        info = {**from_fs.info(path), "islink": False}  # one that is named is followed
        if info["type"] == "directory" and not recursive:
            raise error(Code.IS_A_DIRECTORY, "is a directory; use -r", source)
        goal = f"{to_path.rstrip('/')}/{PurePosixPath(path).name}" if into else to_path
        if info["type"] == "directory" and is_inside(from_fs, path, to_fs, goal):
            raise error(Code.INVALID, f"cannot be copied into itself, to {goal!r}", source)
        items += tree_items(from_fs, info, goal)
    failed = 0
    with _bar() as bar:
        task = bar.add_task("copying", total=sum(item.size for item in items))
        for item in items:
            try:
                copy_item(from_fs, to_fs, item, lambda count: bar.advance(task, count))
            except (OSError, ValueError) as wrong:
                if len(items) == 1:
                    raise
                failed += 1
                progress_to.print(f"fs3: {wrong}", markup=False)
    if failed:
        progress_to.print(f"fs3: {failed} of {len(items)} names were not copied", markup=False)
        raise typer.Exit(1)


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=progress_to,
        disable=not progress_to.is_terminal,
        transient=True,
    )


def mv(source: Url, target: Url) -> None:
    """Rename within one file system: atomic on fs3. In a pattern brackets mean themselves here."""
    from_fs, from_path = open_url(source)
    to_fs, to_path = open_url(target)
    if from_fs != to_fs:
        raise error(Code.UNSUPPORTED, f"{source} and {target} are on different file systems; use cp, then rm")
    sources = expand(from_fs, from_path, source, _WILDCARDS)
    into = target.endswith("/") or to_fs.isdir(to_path)
    if len(sources) > 1 and not into:
        raise error(Code.NOT_A_DIRECTORY, f"{len(sources)} sources need a directory to be moved into", target)
    for path in sources:
        goal = f"{to_path.rstrip('/')}/{PurePosixPath(path).name}" if into else to_path
        from_fs.mv(path, goal, recursive=from_fs.isdir(path))


def rm(
    urls: Annotated[list[str], typer.Argument(help="files or directories; patterns of * and ? too")],
    recursive: Annotated[bool, typer.Option("-r", "--recursive", help="directories and all below them")] = False,
) -> None:
    """Remove files, or with -r directories. Of a symlink, the symlink.

    In a pattern brackets mean themselves here.
    """
    for url in urls:
        filesystem, path = open_url(url)
        for name in expand(filesystem, path, url, _WILDCARDS):
            info = filesystem.info(name)
            if info.get("islink"):
                filesystem.rm_file(name)
            elif info["type"] == "directory" and not recursive:
                raise error(Code.IS_A_DIRECTORY, "is a directory; use -r", url)
            else:
                filesystem.rm([name], recursive=recursive)


def mkdir(
    url: Url, parents: Annotated[bool, typer.Option("-p", "--parents", help="missing parents too; exists is fine")] = False
) -> None:
    """Create a directory."""
    filesystem, path = open_url(url)
    if parents:
        filesystem.makedirs(path, exist_ok=True)
    else:
        filesystem.mkdir(path, create_parents=False)


def stat(url: Url) -> None:
    """Show everything known of a file or directory."""
    filesystem, path = open_url(url)
    for name in expand(filesystem, path, url):
        table = Table(box=None, show_header=False, padding=(0, 1))
        for key, value in sorted(filesystem.info(name).items()):
            shown = f"{value:o}" if key == "mode" and isinstance(value, int) else str(value)
            table.add_row(key, shown)
        out.print(table)


def du(url: Url, total: Annotated[bool, typer.Option("-s", "--summary", help="only the sum")] = False) -> None:
    """Bytes of each file below a directory, and their sum."""
    filesystem, path = open_url(url)
    sizes: dict[str, int] = {}
    for name in expand(filesystem, path, url):
        filesystem.info(name)
        sizes |= filesystem.du(name, total=False)
    if not total:
        for name, size in sorted(sizes.items()):
            sys.stdout.write(f"{size}\t{name}\n")
    sys.stdout.write(f"{sum(sizes.values())}\t{path}\n")
