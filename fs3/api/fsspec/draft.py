"""Writing a file that appears at once and whole: an unnamed file first, its name when everything is in it; a small file in one
request, when it is complete."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from fs3.api.client import Client
from fs3.api.file import File
from fs3.api.fsspec.walk import join
from fs3.api.namespace import is_missing, parent_of
from fs3.api.small_files import NewFile, UnnamedFile
from fs3.base.errors import FS3Error, error
from fs3.base.limits import chunk_bytes_default, symlinks_followed_max
from fs3.base.status import Code
from fs3.core.meta.access import EXECUTE, WRITE, has_permission
from fs3.model.inode import Inode, InodeType, Layout, User
from fs3.model.namespace import PathRef
from fs3.model.requests import Stat


@dataclass(frozen=True)
class CreateOptions:
    """How files come into being."""

    exclusive: bool = False
    """Fail with Exists when the name is taken, at once and again when it is published."""
    make_parents: bool = True
    """Create missing directories above it."""
    layout: Layout | None = None


class Draft:
    """A file that is meant to become `path` when everything is in it."""

    def __init__(self, client: Client, path: str, how: CreateOptions, chunk_size: int) -> None:
        self.client = client
        self.path = path
        """Where it will be: behind the symlinks the caller's path ends in."""
        self.chunk_size = chunk_size
        """Bytes: what its layout is expected to say."""
        self.data: bytes | None = None
        """All of a small file, when none of it was stored: it is created and published by one request."""
        self._named = path
        """As the caller did."""
        self._how = how
        self._opening: asyncio.Future[File] | None = None

    @classmethod
    async def prepare(cls, client: Client, path: str, how: CreateOptions, *, parents_now: bool = False) -> Draft:
        """One that the cluster does not know of before bytes are stored. Exists, IsADirectory and NoPermission are raised here,
        before anything is written, where they can be. `parents_now`: missing directories are made here, since publishing will not
        make them."""
        target = path
        for _ in range(symlinks_followed_max):
            above = PathRef.of(parent_of(target))
            there, directory = await client.meta.batch([Stat(PathRef.of(target), follow=False), Stat(above)])
            if isinstance(there, Inode) and there.type is InodeType.SYMLINK and not how.exclusive:
                link = there.link_target
                target = link if link.startswith("/") else join(parent_of(target), link)
                continue
            _check_new(client.meta.user, there, directory, path, how)
            if parents_now and isinstance(directory, FS3Error):
                await client.makedirs(parent_of(target), exist_ok=True)
            layouts = (layout for layout in (how.layout, getattr(directory, "layout", None)) if layout is not None)
            chunk_size = next((layout.chunk_size for layout in layouts if layout.chunk_size), chunk_bytes_default)
            draft = cls(client, target, how, chunk_size)
            draft._named = path
            return draft
        raise error(Code.TOO_MANY_SYMLINKS, "too many symlinks", path)

    @classmethod
    async def begin(cls, client: Client, path: str, how: CreateOptions) -> Draft:
        """One with an unnamed file at once: two questions leave together. Errors as of `prepare`."""
        target, there, file = await cls._resolve(client, path, how)
        file.path = path
        draft = cls(client, target, how, file.inode.layout.chunk_size)
        draft._opening = asyncio.get_running_loop().create_future()
        draft._opening.set_result(file)
        try:
            if there is not None and how.exclusive:
                raise error(Code.EXISTS, "the name is taken", path)
            if there is not None and there.type is InodeType.DIRECTORY:
                raise error(Code.IS_A_DIRECTORY, "is a directory", path)
        except FS3Error:
            await draft.discard()
            raise
        return draft

    @property
    def is_begun(self) -> bool:
        """The cluster knows of it: it is published as the file it is, not by one request."""
        return self._opening is not None

    async def file(self) -> File:
        """Its unnamed file, created when it has none."""
        if self._opening is None:
            self._opening = asyncio.ensure_future(self._open(self.client, self.path, self._how))
        file = await asyncio.shield(self._opening)
        file.path = self._named
        return file

    @classmethod
    async def _resolve(cls, client: Client, path: str, how: CreateOptions) -> tuple[str, Inode | None, File]:
        """The path behind symlinks, what is there now, and an unnamed file in its directory."""
        target = path
        for _ in range(symlinks_followed_max):
            # Both questions leave together, so knowing early costs nothing.
            there, opened = await asyncio.gather(client.lstat(target), cls._open(client, target, how), return_exceptions=True)
            if isinstance(opened, BaseException):
                raise opened
            if isinstance(there, Inode) and there.type is InodeType.SYMLINK and not how.exclusive:
                await client.abandon(opened)
                link = there.link_target
                target = link if link.startswith("/") else join(parent_of(target), link)
                continue
            if isinstance(there, BaseException):
                if not isinstance(there, FS3Error) or not is_missing(there):
                    await client.abandon(opened)
                    raise there
                return target, None, opened
            return target, there, opened
        raise error(Code.TOO_MANY_SYMLINKS, "too many symlinks", path)

    @staticmethod
    async def _open(client: Client, path: str, how: CreateOptions) -> File:
        return await client.open_unnamed(parent_of(path), how.layout, make_parents=how.make_parents, becomes=path)

    async def write(self, data: Any, offset: int) -> int:
        """Durable when it returns."""
        return await self.client.pwrite(await self.file(), data, offset)

    async def truncate(self, length: int) -> None:
        """Set the length of what was written. Durable when it returns."""
        await self.client.truncate(await self.file(), length)

    async def publish(self, *, make_parents: bool = False) -> Inode:
        """Give it its name, or its content to the file that has the name, with the attributes that one has now. On failure it is
        discarded. `make_parents`: also when its directory was removed meanwhile."""
        make_parents = make_parents and self._how.make_parents
        try:
            if self.data is not None and not self.is_begun:
                try:
                    return await self._put(self.data, make_parents)
                except FS3Error as failure:
                    if failure.code is not Code.NOT_INLINE:
                        raise
                await self.write(self.data, 0)
            file = await self.file()
            return await self.client.close(file, self.path, exclusive=self._how.exclusive, make_parents=make_parents)
        except BaseException:
            await self.discard()
            raise

    async def _put(self, data: bytes, make_parents: bool) -> Inode:
        how = UnnamedFile(parent_of(self.path), self._how.layout, make_parents=make_parents)
        return await self.client.put(NewFile(self.path, memoryview(data), how, self._how.exclusive))

    async def discard(self) -> None:
        """Let it vanish."""
        self.data = None
        if self._opening is not None:
            try:
                file = await asyncio.shield(self._opening)
            except FS3Error:
                return
            await self.client.abandon(file)


def _check_new(user: User, there: Inode | FS3Error, directory: Inode | FS3Error, path: str, how: CreateOptions) -> None:
    """Raises what stands in the way of a new file, as far as it can be known before it is published."""
    if isinstance(there, FS3Error):
        if not is_missing(there) or there.code is Code.NAME_TOO_LONG:
            raise there
    elif how.exclusive:
        raise error(Code.EXISTS, "the name is taken", path)
    elif there.type is InodeType.DIRECTORY:
        raise error(Code.IS_A_DIRECTORY, "is a directory", path)
    elif there.type is not InodeType.FILE and there.type is not InodeType.SYMLINK:
        raise error(Code.UNSUPPORTED, "is a special file, which has no bytes", path)
    elif has_permission(user, there, WRITE):
        return
    if isinstance(directory, FS3Error):
        if directory.code is not Code.NOT_FOUND:
            raise error(directory.code, directory.strerror or "", path)
        if not how.make_parents:
            raise error(Code.NOT_FOUND, "no such directory", path)
    elif directory.type is not InodeType.DIRECTORY:
        raise error(Code.NOT_A_DIRECTORY, "a component of the path is not a directory", path)
    elif not has_permission(user, directory, WRITE | EXECUTE):
        raise error(Code.ACCESS, "permission denied to change the directory", path)
