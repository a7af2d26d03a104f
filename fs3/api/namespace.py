"""Names of one cluster: looked at, listed, made, moved and removed. A part of the native client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing

from fs3.base.errors import FS3Error, error
from fs3.base.limits import list_entries_max
from fs3.base.status import Code
from fs3.client.meta.client import MetaClient
from fs3.model.inode import Inode, InodeType, Layout
from fs3.model.namespace import Entry, FileSystemSpace, PathRef, RemoveKind, RenameMode
from fs3.model.requests import Link, List, Mkdir, Remove, Rename, Stat, StatFs, Symlink

Entries = list[Entry]
Failures = list[FS3Error | None]
Stats = list[Inode | FS3Error]


class NameCalls:
    """What a client can be asked about names. Paths and errors are those of `fs3.api.client`."""

    meta: MetaClient
    _umask: int

    async def stat(self, path: str) -> Inode:
        """Attributes of what a path names; a symlink is followed."""
        return await self.meta.ask(Stat(PathRef.of(path), follow=True))

    async def lstat(self, path: str) -> Inode:
        """The same, of a symlink itself."""
        return await self.meta.ask(Stat(PathRef.of(path), follow=False))

    async def batch_stat(self, paths: Sequence[str], *, follow: bool = True) -> Stats:
        """Stat of many paths, in one request: its inode or its error for each."""
        return await self.meta.batch_stat(paths, follow=follow) if paths else []

    async def exists(self, path: str) -> bool:
        """The path names something (a symlink: something that is there). Only an answer of the service says no."""
        try:
            await self.stat(path)
        except FS3Error as failure:
            if is_missing(failure):
                return False
            raise
        return True

    async def list(self, path: str = "/", *, with_inodes: bool = False, after: str = "") -> AsyncIterator[Entry]:
        """Entries of a directory in the order of their names' bytes, loaded page by page; those that come after a name."""
        while True:
            page = await self.meta.ask(List(PathRef.of(path), after, list_entries_max, with_inodes))
            for entry in page.entries:
                yield entry
            if not page.more or not page.entries:
                return
            after = page.entries[-1].name

    async def list_pages(self, path: str = "/", *, with_inodes: bool = False) -> AsyncGenerator[Entries, None]:
        """All entries of a directory, as `list` gives them, many at a time: while the caller looks at some, the service is asked
        for the next. Close the iterator (`contextlib.aclosing`) where it may be left early."""
        where = PathRef.of(path)
        page = await self.meta.ask(List(where, "", list_entries_max, with_inodes))
        while page.more and page.entries:
            following = List(where, page.entries[-1].name, list_entries_max, with_inodes)
            upcoming = asyncio.ensure_future(self.meta.ask(following))
            try:
                yield page.entries
                page = await upcoming
            finally:
                # Of a page that nobody waits for any more, the outcome counts as seen.
                if not upcoming.cancel() and not upcoming.cancelled():
                    upcoming.exception()
        yield page.entries

    async def list_all(self, path: str = "/", *, with_inodes: bool = False) -> Entries:
        """All entries of a directory."""
        found: Entries = []
        async with aclosing(self.list_pages(path, with_inodes=with_inodes)) as pages:
            async for page in pages:
                found += page
        return found

    async def mkdir(self, path: str, mode: int = 0o777, layout: Layout | None = None) -> Inode:
        """Create one directory. Exists when the name is taken, NotFound when its parent is missing."""
        return await self.meta.ask(Mkdir(PathRef.of(path), mode=mode, layout=layout, umask=self._umask))

    async def makedirs(self, path: str, mode: int = 0o777, layout: Layout | None = None, *, exist_ok: bool = False) -> Inode:
        """Create a directory, with this layout, and its missing parents. Exists when it is there and `exist_ok` is not set, or is
        no directory."""
        parents_mode = None if exist_ok else mode
        return await self.meta.ask(Mkdir(PathRef.of(path), mode, exist_ok, layout, parents_mode, umask=self._umask))

    async def unlink(self, path: str) -> None:
        """Remove a file or symlink."""
        await self.meta.ask(Remove(PathRef.of(path), RemoveKind.FILE))

    async def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        await self.meta.ask(Remove(PathRef.of(path), RemoveKind.DIRECTORY))

    async def rmtree(self, path: str) -> None:
        """Remove whatever is there with all below it: gone at once, its space is reclaimed in the background."""
        await self.meta.ask(Remove(PathRef.of(path), RemoveKind.TREE))

    async def remove_many(self, paths: Sequence[str], kind: RemoveKind = RemoveKind.FILE) -> Failures:
        """Remove many, in few requests and commits: None or its error for each."""
        answers = await self.meta.batch([Remove(PathRef.of(path), kind) for path in paths]) if paths else []
        return [answer if isinstance(answer, FS3Error) else None for answer in answers]

    async def rename(
        self, source: str, target: str, mode: RenameMode = RenameMode.REPLACE, *, make_parents: bool = False
    ) -> Inode:
        """Move a file, symlink or directory, atomically: REPLACE as POSIX does · NOREPLACE: Exists · EXCHANGE: swap the two.

        `make_parents` makes missing directories above the target, in the same transaction."""
        parents_mode = parents_mode_of(make_parents)
        return await self.meta.ask(Rename(PathRef.of(source), PathRef.of(target), mode, parents_mode, umask=self._umask))

    async def symlink(self, target: str, path: str) -> Inode:
        """Create a symlink at `path` that says `target`."""
        return await self.meta.ask(Symlink(PathRef.of(path), target))

    async def readlink(self, path: str) -> str:
        """What a symlink says. InvalidArgument for anything else."""
        inode = await self.lstat(path)
        if inode.type is not InodeType.SYMLINK:
            raise error(Code.INVALID, "is not a symlink", path)
        return inode.link_target

    async def link(self, source: str, path: str) -> Inode:
        """Make `path` another name of the file `source`."""
        return await self.meta.ask(Link(PathRef.of(source), PathRef.of(path)))

    async def statfs(self) -> FileSystemSpace:
        """Space and counts of the whole file system."""
        return await self.meta.ask(StatFs())


def parents_mode_of(make_parents: bool) -> int | None:
    """Of directories that are made on the way to a name; None: they are not. The umask is taken off as of other modes."""
    return 0o777 if make_parents else None


def is_missing(failure: FS3Error) -> bool:
    """The error says that the path names nothing, rather than that no service could tell."""
    return failure.code in (Code.NOT_FOUND, Code.NOT_A_DIRECTORY, Code.NAME_TOO_LONG, Code.TOO_MANY_SYMLINKS)


def parent_of(path: str) -> str:
    """The directory part of a path; "/" for a name at the top."""
    return path.rstrip("/").rpartition("/")[0] or "/"
