"""Walking trees: many directories listed at once, inodes included, symlinks resolved in one request per group."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

from fs3.api.client import Client
from fs3.api.fsspec.info import Info, info_of
from fs3.api.io.budget import gather_bounded
from fs3.api.namespace import is_missing
from fs3.base.errors import FS3Error
from fs3.base.limits import batch_items_max, name_bytes_max
from fs3.base.names import to_bytes
from fs3.base.status import Code
from fs3.model.inode import Inode, InodeType
from fs3.model.namespace import Entry

client_lists_max = 32
"""Directories one walk lists at once."""


def join(directory: str, name: str) -> str:
    """The path of an entry."""
    return f"/{name}" if directory in ("", "/") else f"{directory}/{name}"


async def list_infos(client: Client, path: str) -> list[Info]:
    """The infos of a directory's entries, by name. NotADirectory for anything else."""
    found: list[Info] = []
    stem = join(path, "")
    async with aclosing(client.list_pages(path, with_inodes=True)) as pages:
        async for page in pages:
            found += await _infos(client, [(stem + entry.name, inode) for entry in page if (inode := entry.inode) is not None])
    return found


async def info_at(client: Client, path: str) -> Info:
    """The info of what a path names."""
    inode = await client.lstat(path)
    if inode.type is not InodeType.SYMLINK:
        return info_of(path, inode)
    (behind,) = await client.batch_stat([path])
    return info_of(path, inode, behind)


async def find_infos(client: Client, root: str, maxdepth: int | None = None, prefix: str = "") -> list[Info]:
    """Everything below a directory, breadth first; nothing when it does not exist. NotADirectory when it is none.

    `maxdepth` 1: its own entries only. `prefix`: only paths that begin with it, counted from the root; other branches are not
    visited. Symlinks are listed and not entered, so there are no cycles. What vanishes during the walk is left out. An FS3Error
    with NAME_TOO_LONG for what lies deeper than a path can say.
    """
    found: list[tuple[str, Inode]] = []
    level = [""]  # relative to the root
    depth = 0
    while level and (maxdepth is None or depth < maxdepth):
        depth += 1
        listings = await gather_bounded((_list(client, root, branch, prefix) for branch in level), client_lists_max)
        branches = []
        for branch, entries in zip(level, listings, strict=True):
            for entry in entries:
                relative = f"{branch}{entry.name}"
                if entry.inode is not None and relative.startswith(prefix):
                    found.append((join(root, relative), entry.inode))
                if entry.type is InodeType.DIRECTORY and _leads_to(relative, prefix):
                    branches.append(f"{relative}/")
        level = branches
    return await _infos(client, found)


async def _list(client: Client, root: str, branch: str, prefix: str) -> list[Entry]:
    stem = prefix[len(branch) :].partition("/")[0] if prefix.startswith(branch) else ""
    path = join(root, branch.rstrip("/")) if branch else root
    entries = []
    try:
        if not stem:
            return await client.list_all(path, with_inodes=True)
        async for entry in client.list(path, with_inodes=True, after=name_before(stem)):
            if stem and not entry.name.startswith(stem):
                if to_bytes(entry.name) > to_bytes(stem):
                    break
                continue
            entries.append(entry)
    except FS3Error as failure:
        if not is_missing(failure) or is_too_deep(failure) or (not branch and isinstance(failure, NotADirectoryError)):
            raise
        return []
    return entries


def is_too_deep(failure: OSError) -> bool:
    """The path of a directory that was just listed is longer than any call takes: what is in it must not be left out in silence.

    Renames make such trees: each half is short enough.
    """
    return isinstance(failure, FS3Error) and failure.code is Code.NAME_TOO_LONG


def _leads_to(directory: str, prefix: str) -> bool:
    """Something below a directory can begin with the prefix."""
    return f"{directory}/".startswith(prefix) or prefix.startswith(f"{directory}/")


def name_before(stem: str) -> str:
    """A name that comes before every name with this stem and, but for odd ones, after all others before them; "" when in doubt.

    A listing that continues after it starts at the stem. Names are ordered by their bytes, which is the order of their code
    points where they are UTF-8.
    """
    if not stem:
        return ""
    if 0xDC80 <= ord(stem[-1]) <= 0xDCFF:  # a byte that is not UTF-8, so none of its neighbours need be
        return stem[:-1]
    last = ord(stem[-1]) - 1
    if last == ord("/"):
        last -= 1
    elif 0xD800 <= last <= 0xDFFF:  # surrogates are no characters
        last = 0xD7FF
    if last <= 0:
        return stem[:-1]
    before = stem[:-1] + chr(last) + "\U0010ffff"
    return before if len(to_bytes(before)) <= name_bytes_max else ""


async def _infos(client: Client, found: Sequence[tuple[str, Inode]]) -> list[Info]:
    links = [path for path, inode in found if inode.type is InodeType.SYMLINK]
    behind: dict[str, Inode | FS3Error] = {}
    for start in range(0, len(links), batch_items_max):
        group = links[start : start + batch_items_max]
        behind.update(zip(group, await client.batch_stat(group), strict=True))
    return [info_of(path, inode, behind.get(path)) for path, inode in found]
