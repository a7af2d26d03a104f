"""`fs3 ls | cat | cp | mv | rm | mkdir | stat | du`, on fs3:// and any other fsspec URL.

A URL is a name when something is called so, and else may be a pattern of "*", "?" and "[...]"; `rm` and `mv` do not take brackets
for one, so that what is gone already never stands for something else. Each takes several URLs: a failure of one is named, the
others are done, and the exit status is 1.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Annotated, Any

import fsspec
import typer
from fsspec.implementations.local import LocalFileSystem
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from fs3.api.url import SCHEME
from fs3.base.errors import error
from fs3.base.names import shown
from fs3.base.status import Code
from fs3.base.units import format_size
from fs3.cli.copying import COPY_BYTES, CopyItem, copy_item, is_inside, tree_items
from fs3.cli.output import print_json

Urls = Annotated[
    list[str],
    typer.Argument(
        help="fs3://host:port/path, or any other fsspec URL such as file:///tmp/x; a pattern when nothing is called so"
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="machine-readable")]
_WILDCARDS = "*?"
_MAGIC = re.compile("[*?[]")
_ADDRESS = re.compile(r"[^/]+:[0-9]+(/|$)")
_STANDALONE = f"{SCHEME}://", "file://"
"""URLs of file systems that lie on no other one: "::" in them is part of a name and chains nothing."""

progress_to = Console(stderr=True, soft_wrap=True)


class Failures:
    """What went wrong with some of many names: said at once, while the others go on."""

    def __init__(self) -> None:
        self.count = 0

    @contextmanager
    def catch(self) -> Iterator[None]:
        """Say an OSError or ValueError of the block, and count it."""
        try:
            yield
        except BrokenPipeError:  # the reader of standard output has gone
            raise
        except (OSError, ValueError) as wrong:
            self.count += 1
            progress_to.print(f"fs3: {wrong}", markup=False, highlight=False, emoji=False)

    def exit(self) -> None:
        """End the command with status 1 when there were any."""
        if self.count:
            raise typer.Exit(1)


def open_url(url: str, *, local: bool = False) -> tuple[Any, str]:
    """(filesystem, path) of a URL; with `local` also of a path of this machine, which has no scheme.

    Raises InvalidArgument when there is no scheme or one nobody implements.
    """
    scheme, separator, _ = url.partition("://")
    if not separator and local and url:
        slash = "/" if url.endswith("/") else ""
        return LocalFileSystem(), os.path.abspath(url) + slash
    if not separator:
        hint = f"file://{url}" if url.startswith("/") else f"{SCHEME}://{url if _ADDRESS.match(url) else 'host:port/path'}"
        raise error(Code.INVALID, f"{url!r} has no scheme; write {hint}")
    try:
        if url.startswith(_STANDALONE):
            kind = fsspec.get_filesystem_class(scheme)
            return kind(**kind._get_kwargs_from_urls(url)), kind._strip_protocol(url)
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


def ls(
    urls: Urls,
    long: Annotated[bool, typer.Option("-l", "--long", help="sizes and times")] = False,
    as_json: AsJson = False,
) -> None:
    """List directories; or show files, or the names a pattern matches."""
    failures = Failures()
    gap = ""
    documents: list[dict[str, Any]] = []
    for url in urls:
        with failures.catch():
            filesystem, path = open_url(url)
            found = expand(filesystem, path, url)
            is_name = found == [path]
            listed = filesystem.ls(path, detail=True) if is_name else map(filesystem.info, found)
            entries = sorted(listed, key=lambda entry: str(entry["name"]))
            if as_json:
                documents += map(_document, entries)
                continue
            if len(urls) > 1 and is_name and not (len(entries) == 1 and entries[0]["name"] == path):
                _write(f"{gap}{url}:\n")
            _show(entries, "" if is_name else _directory_of_pattern(path), long)
            gap = "\n"
    if as_json:
        print_json(documents)
    failures.exit()


def _document(info: dict[str, Any]) -> dict[str, Any]:
    """What is known of a file or directory, for programs. What JSON has no word for is text."""
    plain = bool, int, float, str, list, type(None)
    return {key: value if isinstance(value, plain) else str(value) for key, value in info.items()}


def _directory_of_pattern(path: str) -> str:
    """The directory up to where names are matched: what is found is told relative to it."""
    found = _MAGIC.search(path)
    assert found is not None
    return path[: path.rfind("/", 0, found.start()) + 1]


def _show(entries: list[dict[str, Any]], above: str, long: bool) -> None:
    """A line for each entry. `above`: the directory that all are told relative to; its own, when it is empty."""
    sizes = ["" if entry["type"] == "directory" else format_size(entry.get("size") or 0) for entry in entries]
    width = max(map(len, sizes), default=0)
    for entry, size in zip(entries, sizes, strict=True):
        name = str(entry["name"]).rstrip("/")
        name = name[len(above) :] if above and name.startswith(above) else PurePosixPath(name).name
        if entry["type"] == "directory":
            name += "/"
        _write(f"{size:>{width}}  {_time(entry):16}  {name}\n" if long else f"{name}\n")


def _write(text: str) -> None:
    """To standard output, with names that are not UTF-8 as `ls` has them: escaped on a terminal, as they are for programs."""
    sys.stdout.buffer.write(os.fsencode(shown(text) if sys.stdout.isatty() else text))


def cat(urls: Annotated[list[str], typer.Argument(help="files to write to standard output; patterns too")]) -> None:
    """Write files to standard output."""
    failures = Failures()
    for url in urls:
        with failures.catch():
            filesystem, path = open_url(url)
            for name in expand(filesystem, path, url):
                with failures.catch(), filesystem.open(name, "rb") as source:
                    while data := source.read(COPY_BYTES):
                        sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
    failures.exit()


def cp(
    sources: Annotated[list[str], typer.Argument(help="URLs, or paths of this machine; patterns as everywhere")],
    target: Annotated[str, typer.Argument(help="the same; a directory, or a name ending with /, is copied into")],
    recursive: Annotated[bool, typer.Option("-r", "--recursive", help="copy a directory and all below it")] = False,
) -> None:
    """Copy files, or with -r directories, between any URLs or local paths.

    Symlinks below a directory are copied as symlinks. What cannot be copied is named, everything else is copied, and the exit
    status is 1.
    """
    to_fs, to_path = open_url(target, local=True)
    failures = Failures()
    found = _found(sources, failures, local=True)
    goals = Goals(to_fs, to_path, target, max(len(found), len(sources)))
    items: list[tuple[Any, CopyItem]] = []
    for from_fs, path, source in found:
        with failures.catch():
            info = {**from_fs.info(path), "islink": False}  # one that is named is followed
            if info["type"] == "directory" and not recursive:
                raise error(Code.IS_A_DIRECTORY, "is a directory; use -r", source)
            goal = goals.take(path, source)
            if info["type"] == "directory" and is_inside(from_fs, path, to_fs, goal):
                raise error(Code.INVALID, f"cannot be copied into itself, to {goal!r}", source)
            items += [(from_fs, item) for item in tree_items(from_fs, info, goal)]
    count = len(items) + failures.count
    with _bar() as bar:
        task = bar.add_task("copying", total=sum(item.size for _, item in items))
        for from_fs, item in items:
            with failures.catch():
                copy_item(from_fs, to_fs, item, lambda count: bar.advance(task, count))
    if failures.count and count > 1:
        progress_to.print(f"fs3: {failures.count} of {count} names were not copied", markup=False, highlight=False)
    failures.exit()


def _found(urls: list[str], failures: Failures, letters: str = "*?[", *, local: bool = False) -> list[tuple[Any, str, str]]:
    """(filesystem, path, URL) of all that the URLs stand for."""
    found: list[tuple[Any, str, str]] = []
    for url in urls:
        with failures.catch():
            filesystem, path = open_url(url, local=local)
            found += [(filesystem, name, url) for name in expand(filesystem, path, url, letters)]
    return found


class Goals:
    """Where names are copied or moved: to the target, or into it when it is a directory or ends with a slash."""

    def __init__(self, filesystem: Any, path: str, url: str, count: int) -> None:
        """For so many names. NotADirectory when they need a directory, and there is none."""
        self._path = path
        self._into = url.endswith("/") or bool(filesystem.isdir(path))
        self._taken: set[str] = set()
        if count > 1 and not self._into:
            raise error(Code.NOT_A_DIRECTORY, f"{count} sources need a directory to be put into", url)

    def take(self, source: str, url: str) -> str:
        """The path for a source. Exists when another source has got it: neither may vanish below the other."""
        goal = f"{self._path.rstrip('/')}/{PurePosixPath(source).name}" if self._into else self._path
        if goal in self._taken:
            raise error(Code.EXISTS, f"{source!r} would overwrite another source, as {goal!r}", url)
        self._taken.add(goal)
        return goal


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


def mv(
    sources: Annotated[list[str], typer.Argument(help="URLs; patterns of * and ? too, when nothing is called so")],
    target: Annotated[str, typer.Argument(help="a URL; a directory, or a name ending with /, is moved into")],
) -> None:
    """Rename within one file system: atomic on fs3. In a pattern brackets mean themselves here."""
    to_fs, to_path = open_url(target)
    failures = Failures()
    found = _found(sources, failures, _WILDCARDS)
    goals = Goals(to_fs, to_path, target, max(len(found), len(sources)))
    for from_fs, path, source in found:
        with failures.catch():
            if from_fs != to_fs:
                raise error(Code.UNSUPPORTED, f"{source} and {target} are on different file systems; use cp, then rm")
            goal = goals.take(path, source)
            from_fs.mv(path, goal, recursive=from_fs.isdir(path))
    failures.exit()


def rm(
    urls: Annotated[list[str], typer.Argument(help="files or directories; patterns of * and ? too")],
    recursive: Annotated[bool, typer.Option("-r", "--recursive", help="directories and all below them")] = False,
) -> None:
    """Remove files, or with -r directories. Of a symlink, the symlink.

    In a pattern brackets mean themselves here.
    """
    failures = Failures()
    for filesystem, name, url in _found(urls, failures, _WILDCARDS):
        with failures.catch():
            info = filesystem.info(name)
            if info.get("islink"):
                filesystem.rm_file(name)
            elif info["type"] == "directory" and not recursive:
                raise error(Code.IS_A_DIRECTORY, f"{name!r} is a directory; use -r", url)
            else:
                filesystem.rm([name], recursive=recursive)
    failures.exit()


def mkdir(
    urls: Annotated[list[str], typer.Argument(help="URLs; always names, never patterns")],
    parents: Annotated[bool, typer.Option("-p", "--parents", help="missing parents too; exists is fine")] = False,
) -> None:
    """Create directories."""
    failures = Failures()
    for url in urls:
        with failures.catch():
            filesystem, path = open_url(url)
            if parents:
                filesystem.makedirs(path, exist_ok=True)
            else:
                filesystem.mkdir(path, create_parents=False)
    failures.exit()


def stat(urls: Urls, as_json: AsJson = False) -> None:
    """Show everything known of files or directories."""
    failures = Failures()
    documents = []
    for filesystem, name, _ in _found(urls, failures):
        with failures.catch():
            info = filesystem.info(name)
            if as_json:
                xattrs = list(filesystem.listxattr(name)) if hasattr(filesystem, "listxattr") else []
                documents.append(_document({**info, "xattrs": xattrs}))
                continue
            width = max(map(len, info))
            for key, value in sorted(info.items()):
                shown = f"{value:o}" if key == "mode" and isinstance(value, int) else str(value)
                _write(f"{key:{width}}  {shown}\n")
            if attributes := filesystem.listxattr(name) if hasattr(filesystem, "listxattr") else []:
                _write(f"{'xattrs':{width}}  {', '.join(attributes)}\n")
    if as_json:
        print_json(documents)
    failures.exit()


def du(
    urls: Urls,
    total: Annotated[bool, typer.Option("-s", "--summary", help="only the sum")] = False,
    as_json: AsJson = False,
) -> None:
    """Bytes of each file below directories, and their sum."""
    failures = Failures()
    documents: list[dict[str, Any]] = []
    for url in urls:
        with failures.catch():
            filesystem, path = open_url(url)
            sizes: dict[str, int] = {}
            for name in expand(filesystem, path, url):
                filesystem.info(name)
                sizes |= filesystem.du(name, total=False)
            if as_json:
                documents.append({"name": path, "bytes": sum(sizes.values())} | ({} if total else {"files": sizes}))
                continue
            if not total:
                for name, size in sorted(sizes.items()):
                    _write(f"{size}\t{name}\n")
            _write(f"{sum(sizes.values())}\t{path}\n")
    if as_json:
        print_json(documents)
    failures.exit()
