"""`fs3 ls | cat | cp | mv | rm | mkdir | stat | du`, on fs3:// and any other fsspec URL."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Annotated, Any

import fsspec
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from fs3.base.errors import error
from fs3.base.status import Code
from fs3.base.units import MIB, format_size

COPY_BYTES = 8 * MIB
Url = Annotated[str, typer.Argument(help="fs3://host:port/path, or any other fsspec URL such as file:///tmp/x")]

out = Console(highlight=False, soft_wrap=True)
progress_to = Console(stderr=True)


def open_url(url: str) -> tuple[Any, str]:
    """(filesystem, path) of a URL. Raises InvalidArgument when it has no scheme or one nobody implements."""
    scheme, separator, _ = url.partition("://")
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


def _time(info: dict[str, Any]) -> str:
    when = info.get("mtime") or info.get("created") or info.get("LastModified")
    if isinstance(when, (int, float)):
        when = datetime.fromtimestamp(when, tz=UTC)
    return f"{when:%Y-%m-%d %H:%M}" if isinstance(when, datetime) else ""


def ls(url: Url, long: Annotated[bool, typer.Option("-l", "--long", help="sizes and times")] = False) -> None:
    """List a directory, or show one file."""
    filesystem, path = open_url(url)
    entries = sorted(filesystem.ls(path, detail=True), key=lambda entry: str(entry["name"]))
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


def cat(urls: Annotated[list[str], typer.Argument(help="files to write to standard output")]) -> None:
    """Write files to standard output."""
    for url in urls:
        filesystem, path = open_url(url)
        with filesystem.open(path, "rb") as source:
            while data := source.read(COPY_BYTES):
                sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def cp(
    source: Url,
    target: Url,
    recursive: Annotated[bool, typer.Option("-r", "--recursive", help="copy a directory and all below it")] = False,
) -> None:
    """Copy a file, or with -r a directory, between any two URLs."""
    from_fs, from_path = open_url(source)
    to_fs, to_path = open_url(target)
    into = target.endswith("/") or to_fs.isdir(to_path)
    if from_fs.isdir(from_path):
        if not recursive:
            raise error(Code.IS_A_DIRECTORY, "is a directory; use -r", source)
        base = from_path.rstrip("/")
        names = [(name, name[len(base) :].lstrip("/")) for name in from_fs.find(base)]
        root = f"{to_path.rstrip('/')}/{PurePosixPath(base).name}" if into else to_path
        pairs = [(name, f"{root}/{rest}") for name, rest in names]
        to_fs.makedirs(root, exist_ok=True)
    else:
        info = from_fs.info(from_path)
        pairs = [(info["name"], f"{to_path.rstrip('/')}/{PurePosixPath(from_path).name}" if into else to_path)]
    total = sum(from_fs.size(name) or 0 for name, _ in pairs)
    with _bar() as bar:
        task = bar.add_task("copying", total=total)
        for name, destination in pairs:
            parent = destination.rpartition("/")[0]
            if parent and recursive:
                to_fs.makedirs(parent, exist_ok=True)
            with from_fs.open(name, "rb") as reader, to_fs.open(destination, "wb") as writer:
                while data := reader.read(COPY_BYTES):
                    writer.write(data)
                    bar.advance(task, len(data))


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
    """Rename within one file system: atomic on fs3."""
    from_fs, from_path = open_url(source)
    to_fs, to_path = open_url(target)
    if from_fs != to_fs:
        raise error(Code.UNSUPPORTED, f"{source} and {target} are on different file systems; use cp, then rm")
    if target.endswith("/") or to_fs.isdir(to_path):
        to_path = f"{to_path.rstrip('/')}/{PurePosixPath(from_path).name}"
    from_fs.mv(from_path, to_path, recursive=from_fs.isdir(from_path))


def rm(
    urls: Annotated[list[str], typer.Argument(help="files or directories")],
    recursive: Annotated[bool, typer.Option("-r", "--recursive", help="directories and all below them")] = False,
) -> None:
    """Remove files, or with -r directories."""
    for url in urls:
        filesystem, path = open_url(url)
        if not recursive and filesystem.isdir(path):
            raise error(Code.IS_A_DIRECTORY, "is a directory; use -r", url)
        filesystem.rm(path, recursive=recursive)


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
    table = Table(box=None, show_header=False, padding=(0, 1))
    for key, value in sorted(filesystem.info(path).items()):
        shown = f"{value:o}" if key == "mode" and isinstance(value, int) else str(value)
        table.add_row(key, shown)
    out.print(table)


def du(url: Url, total: Annotated[bool, typer.Option("-s", "--summary", help="only the sum")] = False) -> None:
    """Bytes of each file below a directory, and their sum."""
    filesystem, path = open_url(url)
    filesystem.info(path)
    sizes: dict[str, int] = filesystem.du(path, total=False)
    if not total:
        for name, size in sorted(sizes.items()):
            sys.stdout.write(f"{size}\t{name}\n")
    sys.stdout.write(f"{sum(sizes.values())}\t{path}\n")
