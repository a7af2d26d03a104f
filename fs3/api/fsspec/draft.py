"""Writing a file that appears at once and whole: an unnamed file now, its name when everything is in it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from fs3.api.client import Client, is_missing, parent_of
from fs3.api.file import File
from fs3.api.fsspec.parents import with_parents
from fs3.api.fsspec.walk import join
from fs3.base.errors import FS3Error, NotFound, error
from fs3.base.limits import symlinks_followed_max
from fs3.base.status import Code
from fs3.model.inode import Inode, InodeType, Layout

_DIRECTORY_ATTEMPTS = 3


@dataclass(frozen=True)
class CreateOptions:
    """How files come into being."""

    exclusive: bool = False
    """Fail with Exists when the name is taken, at once and again when it is published."""
    make_parents: bool = True
    """Create missing directories above it."""
    layout: Layout | None = None


class Draft:
    """An unnamed file that is meant to become `path`."""

    def __init__(self, client: Client, file: File, path: str, how: CreateOptions) -> None:
        self.client = client
        self.file = file
        self.path = path
        """Where it will be: behind the symlinks the caller's path ends in."""
        self._how = how

    @classmethod
    async def begin(cls, client: Client, path: str, how: CreateOptions) -> Draft:
        """An empty one. Exists, IsADirectory and NoPermission are raised here, before anything is written, where they can be."""
        target, there, file = await cls._resolve(client, path, how)
        file.path = path
        draft = cls(client, file, target, how)
        try:
            if there is not None and how.exclusive:
                raise error(Code.EXISTS, "the name is taken", path)
            if there is not None and there.type is InodeType.DIRECTORY:
                raise error(Code.IS_A_DIRECTORY, "is a directory", path)
        except FS3Error:
            await draft.discard()
            raise
        return draft

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
                target = there.target if there.target.startswith("/") else join(parent_of(target), there.target)
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
        directory = parent_of(path)
        try:
            if how.make_parents:
                return await with_parents(client, path, lambda: client.open_unnamed(directory, how.layout), _DIRECTORY_ATTEMPTS)
            return await client.open_unnamed(directory, how.layout)
        except NotFound:
            if not how.make_parents or directory == "/":
                raise error(Code.NOT_FOUND, "no such directory", path) from None
        # Somebody removes it as often as it is made. Publishing makes it in one transaction with the name; until then any
        # directory above will do, whose layout is the one it would inherit.
        return await Draft._open(client, directory, how)

    async def write(self, data: Any, offset: int) -> int:
        """Durable when it returns."""
        return await self.client.pwrite(self.file, data, offset)

    async def publish(self, *, make_parents: bool = False) -> Inode:
        """Give it its name, or its content to the file that has the name, with the attributes that one has now. On failure it is
        discarded. `make_parents`: also when its directory was removed meanwhile."""
        try:
            make_parents = make_parents and self._how.make_parents
            return await self.client.close(self.file, self.path, exclusive=self._how.exclusive, make_parents=make_parents)
        except BaseException:
            await self.discard()
            raise

    async def discard(self) -> None:
        """Let it vanish."""
        await self.client.abandon(self.file)
