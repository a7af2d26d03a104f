"""Looking at names through fsspec: info, ls, find, walk and what is made of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from glob import has_magic
from typing import Any

from fsspec.utils import stringify_path

from fs3.api.client import Client
from fs3.api.fsspec.arguments import check_path, paths_of
from fs3.api.fsspec.base import FS3Base
from fs3.api.fsspec.blocking import blocking
from fs3.api.fsspec.info import Info, info_of, moment
from fs3.api.fsspec.walk import find_infos, info_at, is_too_deep, join, list_infos
from fs3.api.namespace import is_missing
from fs3.base.errors import FS3Error, NotFound
from fs3.base.status import Code
from fs3.model.inode import InodeType


class ListingMethods(FS3Base):
    """Every answer comes from the service; nothing is cached."""

    async def _info(self, path: str, **_: Any) -> Info:
        return await info_at(await self._client(), self._strip_protocol(path))

    def info(self, path: str, timeout: float | None = None, **kwargs: Any) -> Info:
        """What there is of a path. A caller asks on its own thread; see `fs3.client.direct_channels`."""
        info = self._info_directly(path) if timeout is None else None
        return info if info is not None else _info_on_loop(self, path, timeout=timeout, **kwargs)

    def _info_directly(self, path: str) -> Info | None:
        """None: not done, or it is a symlink, of which more has to be asked."""
        client = self._client_for_blocking()
        name = self._strip_protocol(path)
        inode = None if client is None else client.lstat_directly(name)
        return None if inode is None or inode.type is InodeType.SYMLINK else info_of(name, inode)

    async def _ls(self, path: str, detail: bool = True, **_: Any) -> Any:
        path = self._strip_protocol(path)
        client = await self._client()
        try:
            if detail:
                return await list_infos(client, path)
            return [join(path, entry.name) for entry in await client.list_all(path)]
        except NotADirectoryError:
            info = await info_at(client, path)
            return [info] if detail else [path]

    async def _find(
        self, path: str, maxdepth: int | None = None, withdirs: bool = False, detail: bool = False, prefix: str = "", **_: Any
    ) -> Any:
        if maxdepth is not None and maxdepth < 1:
            raise ValueError("maxdepth must be at least 1")
        path = self._strip_protocol(path)
        client = await self._client()
        try:
            found = await find_infos(client, path, maxdepth, prefix or "")
            if withdirs:
                top = await info_at(client, path) if not prefix else None
                found = [*([top] if top else []), *found]
            else:
                found = [info for info in found if info["type"] != "directory"]
        except FS3Error as failure:
            if not is_missing(failure) or is_too_deep(failure):
                raise
            found = await self._only(client, path)
        by_name = {info["name"]: info for info in sorted(found, key=lambda info: str(info["name"]))}
        return by_name if detail else list(by_name)

    @staticmethod
    async def _only(client: Client, path: str) -> list[Info]:
        """What a walk finds where there is no directory: the file itself, or nothing."""
        try:
            return [await info_at(client, path)]
        except FS3Error as failure:
            if not is_missing(failure):
                raise
            return []

    async def _expand_path(
        self,
        path: str | Sequence[str],
        recursive: bool = False,
        maxdepth: int | None = None,
        assume_literal: bool = False,
        **_: Any,
    ) -> list[str]:
        """What paths and patterns stand for, in order; with `recursive` also everything below.

        A path that is there stands for itself, whatever its letters. FileNotFoundError when nothing is found.
        """
        if maxdepth is not None and maxdepth < 1:
            raise ValueError("maxdepth must be at least 1")
        path = paths_of(path)
        found: set[str] = set()
        for one in [path] if isinstance(path, str) else path:
            name = self._strip_protocol(one)
            if assume_literal or not await self._is_pattern(name):
                found.update(await self._expand_name(name, maxdepth) if recursive else [name])
                continue
            matches = await self._glob(name, maxdepth=maxdepth)
            found.update(matches)
            if recursive and maxdepth != 1:
                for match in matches:
                    found.update(await self._expand_name(match, None if maxdepth is None else maxdepth - 1))
        if not found:
            raise NotFound(Code.NOT_FOUND, "nothing matches", path if isinstance(path, str) else ", ".join(path))
        return sorted(found)

    async def _glob(self, path: str, maxdepth: int | None = None, **kwargs: Any) -> Any:
        check_path(path)
        return await super()._glob(stringify_path(path), maxdepth, **kwargs)

    async def _expand_name(self, name: str, maxdepth: int | None) -> list[str]:
        """A path that is there and everything below it; nothing for another."""
        below: list[str] = await self._find(name, maxdepth=maxdepth, withdirs=True)
        return below if name in below or not await self._lexists(name) else [name, *below]

    async def _is_pattern(self, name: str) -> bool:
        """It has the letters of one, and nothing is called so."""
        return has_magic(name) and not await self._lexists(name)

    async def _walk(
        self, path: str, maxdepth: int | None = None, topdown: bool = True, on_error: Any = "omit", **kwargs: Any
    ) -> AsyncIterator[tuple[str, Any, Any]]:
        """As `os.walk`: symlinks to directories are listed among the directories and not entered."""
        if maxdepth is not None and maxdepth < 1:
            raise ValueError("maxdepth must be at least 1")
        path = self._strip_protocol(path)
        detail = kwargs.pop("detail", False)
        try:
            listing = await self._ls(path, detail=True)
        except OSError as failure:
            if on_error == "raise" or (is_too_deep(failure) and not callable(on_error)):
                raise
            if callable(on_error):
                on_error(failure)
            yield (path, {}, {}) if detail else (path, [], [])
            return
        dirs: Any = {}
        files: Any = {}
        for info in listing:
            name = "" if info["name"] == path else info["name"].rpartition("/")[2]
            (dirs if info["type"] == "directory" else files)[name] = info
        links = {name for name, info in dirs.items() if info["islink"]}
        if not detail:
            dirs, files = list(dirs), list(files)
        if topdown:
            yield path, dirs, files
        if maxdepth is None or maxdepth > 1:
            for name in list(dirs):
                if name in links:
                    continue
                deeper = self._walk(
                    join(path, name), None if maxdepth is None else maxdepth - 1, topdown, on_error, detail=detail
                )
                async for step in deeper:
                    yield step
        if not topdown:
            yield path, dirs, files

    async def _du(
        self, path: str, total: bool = True, maxdepth: int | None = None, withdirs: bool = False, **_: Any
    ) -> int | dict[str, int]:
        found = await self._find(path, maxdepth=maxdepth, withdirs=withdirs, detail=True)
        sizes = {name: info["size"] for name, info in found.items()}
        return sum(sizes.values()) if total else sizes

    async def _is(self, path: str, *types: str) -> bool:
        try:
            return (await self._info(path))["type"] in types
        except FS3Error as failure:
            # Anything else says that no service could tell; a guess would let ranks disagree.
            if is_missing(failure):
                return False
            raise

    async def _exists(self, path: str, **_: Any) -> bool:
        return await (await self._client()).exists(self._strip_protocol(path))

    def exists(self, path: str, timeout: float | None = None, **kwargs: Any) -> bool:
        """The path names something (a symlink: something that is there); asked for as `info` is."""
        try:
            if timeout is None and self._info_directly(path) is not None:
                return True
        except FS3Error as failure:
            if is_missing(failure):
                return False
            raise
        return bool(_exists_on_loop(self, path, timeout=timeout, **kwargs))

    async def _lexists(self, path: str, **_: Any) -> bool:
        """The name is taken, if only by a symlink that leads nowhere."""
        return await self._is(path, "file", "directory", "other")

    async def _isfile(self, path: str) -> bool:
        return await self._is(path, "file")

    def isfile(self, path: str) -> bool:
        """It is a file, or a symlink to one; asked for as `info` is."""
        return self._has_type(path, "file")

    async def _isdir(self, path: str) -> bool:
        return await self._is(path, "directory")

    def isdir(self, path: str) -> bool:
        """It is a directory, or a symlink to one; asked for as `info` is."""
        return self._has_type(path, "directory")

    def _has_type(self, path: str, kind: str) -> bool:
        try:
            return bool(self.info(path)["type"] == kind)
        except FS3Error as failure:
            if is_missing(failure):
                return False
            raise

    async def _created(self, path: str) -> datetime:
        return moment((await self._info(path))["created"])

    async def _modified(self, path: str) -> datetime:
        return moment((await self._info(path))["mtime"])

    async def _ukey(self, path: str) -> str:
        """Another one after every change of the file."""
        return str((await self._info(path))["ETag"])

    async def _checksum(self, path: str) -> int:
        """The same as a number."""
        inode, _, change = (await self._ukey(path)).partition("-")
        return int(inode, 16) << 64 | int(change, 16)


_info_on_loop = blocking(ListingMethods._info)
_exists_on_loop = blocking(ListingMethods._exists)
