"""Copying trees within the cluster and between it and this machine, where names with "[", "]", "?" and "*" are names.

fsspec takes such a name for a pattern. These methods look whether it is there, and then say which file goes where themselves.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from glob import has_magic
from typing import Any

from fsspec.implementations.local import LocalFileSystem, make_path_posix
from fsspec.utils import other_paths

from fs3.api.fsspec.arguments import paths_of
from fs3.api.fsspec.listing import ListingMethods
from fs3.api.fsspec.walk import join
from fs3.base.errors import error
from fs3.base.status import Code

Paths = str | Sequence[str]


class CopyMethods(ListingMethods):
    """`copy`, `get` and `put`, as fsspec describes them but for what is a pattern."""

    async def _copy(self, path1: Any, path2: Any, recursive: bool = False, maxdepth: int | None = None, **kwargs: Any) -> Any:
        path1, path2 = paths_of(path1, "path1"), paths_of(path2, "path2")
        if isinstance(path1, str) and isinstance(path2, str) and await self._is_odd_name(self._strip_protocol(path1)):
            sources = await self._tree_of(path1, recursive, maxdepth)
            into = path2.endswith("/") or (await self._isdir(path2) and not path1.endswith("/"))
            path1, path2 = sources, _destinations(sources, self._strip_protocol(path1), self._strip_protocol(path2), into)
        return await super()._copy(path1, path2, recursive=recursive, maxdepth=maxdepth, **kwargs)

    async def _get(self, rpath: Any, lpath: Any, recursive: bool = False, maxdepth: int | None = None, **kwargs: Any) -> Any:
        rpath, lpath = paths_of(rpath, "rpath"), paths_of(lpath, "lpath")
        if isinstance(rpath, str) and isinstance(lpath, str):
            name = self._strip_protocol(rpath)
            if await self._is_odd_name(name):
                sources = await self._tree_of(rpath, recursive, maxdepth)
                local = make_path_posix(lpath)
                into = _is_local_goal(local, rpath)
                rpath, lpath = sources, _destinations(sources, name, local, into)
        return await super()._get(rpath, lpath, recursive=recursive, maxdepth=maxdepth, **kwargs)

    async def _put(self, lpath: Any, rpath: Any, recursive: bool = False, maxdepth: int | None = None, **kwargs: Any) -> Any:
        lpath, rpath = paths_of(lpath, "lpath"), paths_of(rpath, "rpath")
        if isinstance(lpath, str) and isinstance(rpath, str):
            local = make_path_posix(lpath)
            name = local.rstrip("/")
            if _is_odd_local_name(name):
                sources = await asyncio.to_thread(_local_tree, name, recursive, maxdepth)
                into = rpath.endswith("/") or (await self._isdir(rpath) and not local.endswith("/"))
                lpath, rpath = sources, _destinations(sources, name, self._strip_protocol(rpath), into)
        elif isinstance(rpath, str) and any(map(_is_odd_local_name, lpath)):
            lpath = await asyncio.to_thread(_expand_local, lpath, recursive, maxdepth)
            rpath = other_paths(lpath, self._strip_protocol(rpath), exists=False, flatten=True)
        try:
            return await super()._put(lpath, rpath, recursive=recursive, maxdepth=maxdepth, **kwargs)
        except FileNotFoundError as missing:
            if missing.errno is None:  # fsspec's, of a local pattern or tree
                raise error(Code.NOT_FOUND, "nothing on this machine matches", str(lpath)) from None
            raise

    async def _is_odd_name(self, name: str) -> bool:
        """It looks like a pattern, and is the name of something."""
        return has_magic(name) and await self._lexists(name)

    async def _tree_of(self, path: str, recursive: bool, maxdepth: int | None) -> list[str]:
        """What copying a path copies: it, or with `recursive` what is below it too. A directory only then."""
        name = self._strip_protocol(path)
        found = await self._expand_path(name, recursive=recursive, maxdepth=maxdepth, assume_literal=True)
        if recursive and maxdepth is None:
            return found
        return [one for one in found if not await self._isdir(one)]


def _local_tree(name: str, recursive: bool, maxdepth: int | None) -> list[str]:
    """The same for a path of this machine."""
    if not os.path.isdir(name):
        return [name]
    if not recursive:
        return []
    found: list[str] = LocalFileSystem().find(name, maxdepth=maxdepth, withdirs=True)
    return found if maxdepth is None else [one for one in found if not os.path.isdir(one)]


def _expand_local(paths: Sequence[str], recursive: bool, maxdepth: int | None) -> list[str]:
    found: list[str] = []
    for path in paths:
        name = make_path_posix(path).rstrip("/")
        if os.path.lexists(name):
            found += _local_tree(name, recursive, maxdepth)
        else:
            found += LocalFileSystem().expand_path(name, recursive=recursive, maxdepth=maxdepth)
    return found


def _is_odd_local_name(path: str) -> bool:
    return has_magic(path) and os.path.lexists(path)


def _is_local_goal(path: str, source: str) -> bool:
    """What is copied comes to lie in this directory, rather than to have its name."""
    return path.endswith("/") or (os.path.isdir(path) and not source.endswith("/"))


def _destinations(sources: Sequence[str], top: str, target: str, into: bool) -> list[str]:
    """Where each source goes when `top` becomes `target`, or comes to lie in it."""
    root = join(target.rstrip("/"), top.rpartition("/")[2]) if into else target.rstrip("/")
    return [f"{root}{source[len(top) :]}" for source in sources]
