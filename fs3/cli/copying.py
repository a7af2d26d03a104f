"""What `fs3 cp` does: a tree between two file systems, with its empty directories and its symlinks.

What cannot be copied is named, and everything else is copied nevertheless.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from fs3.api.file import BytesProgress
from fs3.base.errors import error
from fs3.base.status import Code
from fs3.base.units import MIB

COPY_BYTES = 8 * MIB


@dataclass(frozen=True)
class CopyItem:
    """One name to copy."""

    info: dict[str, Any]
    """What the source says of it."""
    target: str

    @property
    def source(self) -> str:
        """Its path."""
        return str(self.info["name"])

    @property
    def size(self) -> int:
        """Bytes to copy."""
        return 0 if self.is_link or self.info["type"] != "file" else int(self.info.get("size") or 0)

    @property
    def is_link(self) -> bool:
        """A symlink. A file system that has none does not say."""
        return bool(self.info.get("islink"))


def tree_items(filesystem: Any, top: dict[str, Any], target: str) -> Iterator[CopyItem]:
    """A name and everything below it, directories before what is in them. Symlinks are not entered."""
    yield CopyItem(top, target)
    if top["type"] != "directory":
        return
    path = str(top["name"]).rstrip("/")
    for info in sorted(filesystem.ls(path or "/", detail=True), key=lambda info: str(info["name"])):
        name = str(info["name"]).rstrip("/")
        if name == path:
            continue  # object stores list the directory itself
        below = f"{target.rstrip('/')}/{name.rpartition('/')[2]}"
        if info.get("islink"):
            yield CopyItem(info, below)
        else:
            yield from tree_items(filesystem, info, below)


def copy_item(from_fs: Any, to_fs: Any, item: CopyItem, progress: BytesProgress) -> None:
    """Copy one name; an OSError or ValueError says why not. `progress` is told the bytes of each part."""
    kind = item.info["type"]
    if item.is_link:
        if hasattr(to_fs, "symlink"):
            _copy_link(to_fs, os.fsdecode(item.info["destination"]), item.target)
            return
        kind = _kind_behind(from_fs, item.source)
    elif kind == "directory":
        to_fs.makedirs(item.target, exist_ok=True)
        return
    if kind != "file":
        behind = " behind a symlink, and the target has no symlinks" if item.is_link else ""
        raise error(Code.UNSUPPORTED, f"not a file but {kind}{behind}", item.source)
    if is_same_file(from_fs, item.source, to_fs, item.target):
        raise error(Code.INVALID, "source and target are the same file", item.source)
    permissions = None if to_fs.lexists(item.target) else _special_permissions(item.info)
    with from_fs.open(item.source, "rb") as reader, to_fs.open(item.target, "wb") as writer:
        while data := reader.read(COPY_BYTES):
            writer.write(data)
            progress(len(data))
    if permissions is not None:
        _restrict(to_fs, item.target, permissions)


def _special_permissions(info: dict[str, Any]) -> int | None:
    """Those of a file that is executable, or not for all to read. None: they are those of any new file, or not known."""
    mode = info.get("mode")
    if not isinstance(mode, int) or mode & 0o777 | 0o022 == 0o666:
        return None
    return mode & 0o777


def _restrict(filesystem: Any, path: str, permissions: int) -> None:
    """Give a new file these, less the umask it was made with. A file system that knows no permissions has none to give."""
    local = isinstance(filesystem, LocalFileSystem)
    if not local and not hasattr(filesystem, "chmod"):
        return
    made = int(filesystem.info(path)["mode"]) & 0o777
    wanted = permissions & (made | (made & 0o444) >> 2)
    if wanted != made:
        (os.chmod if local else filesystem.chmod)(path, wanted)


def _kind_behind(filesystem: Any, link: str) -> str:
    try:
        return str(filesystem.info(link)["type"])
    except FileNotFoundError:
        return "nothing"


def _copy_link(to_fs: Any, destination: str, target: str) -> None:
    # fsspec's own method for this machine makes what the symlink says absolute.
    link = os.symlink if isinstance(to_fs, LocalFileSystem) else to_fs.symlink
    try:
        link(destination, target)
    except FileExistsError:
        if not to_fs.info(target).get("islink"):
            raise
        to_fs.rm_file(target)
        link(destination, target)


def is_same_file(from_fs: Any, source: str, to_fs: Any, target: str) -> bool:
    """Both name one file, so that writing the target would destroy the source."""
    if isinstance(from_fs, LocalFileSystem) and isinstance(to_fs, LocalFileSystem):
        return os.path.realpath(source) == os.path.realpath(target)
    return bool(from_fs == to_fs) and source == target


def is_inside(from_fs: Any, source: str, to_fs: Any, target: str) -> bool:
    """The target lies below the source, so that copying it would never end."""
    if isinstance(from_fs, LocalFileSystem) and isinstance(to_fs, LocalFileSystem):
        source, target = os.path.realpath(source), os.path.realpath(target)
    elif from_fs != to_fs:
        return False
    return f"{target.rstrip('/')}/".startswith(f"{source.rstrip('/')}/")
