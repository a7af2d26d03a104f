"""Making, moving and removing names through fsspec."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fs3.api.client import REPLACE, TIME_NOW
from fs3.api.fsspec.arguments import check_path, paths_of
from fs3.api.fsspec.base import layout_of
from fs3.api.fsspec.listing import ListingMethods
from fs3.api.fsspec.walk import join
from fs3.api.namespace import is_missing, parent_of
from fs3.api.small_files import NewFile, UnnamedFile
from fs3.base.errors import FS3Error, NotFound, error
from fs3.base.status import Code
from fs3.model.namespace import RemoveKind

_WILDCARDS = frozenset("*?")


class NamespaceMethods(ListingMethods):
    """Each is one atomic operation of the metadata service, however much hangs on the name."""

    async def _mkdir(
        self, path: str, create_parents: bool = True, chunk_size: int | None = None, stripe: int | None = None, **_: Any
    ) -> None:
        """`chunk_size`, `stripe`: of files below it."""
        client = await self._client()
        path = self._strip_protocol(path)
        layout = layout_of(path, chunk_size, stripe)
        await (client.makedirs(path, layout=layout) if create_parents else client.mkdir(path, layout=layout))

    async def _makedirs(self, path: str, exist_ok: bool = False) -> None:
        await (await self._client()).makedirs(self._strip_protocol(path), exist_ok=exist_ok)

    async def _rmdir(self, path: str) -> None:
        await (await self._client()).rmdir(self._strip_protocol(path))

    async def _rm_file(self, path: str, **_: Any) -> None:
        await (await self._client()).unlink(self._strip_protocol(path))

    async def _rm(
        self,
        path: str | Sequence[str],
        recursive: bool = False,
        batch_size: int | None = None,
        maxdepth: int | None = None,
        **_: Any,
    ) -> None:
        """Remove files, or with `recursive` whatever is there with all below it: gone at once, whatever its size.

        A single path that is not there and has "*" or "?" in it is a pattern, as in a shell. Brackets never make one here, and
        the paths of a list are names: what was removed a moment ago must not become a pattern for something else.
        FileNotFoundError when a path, or everything a pattern stands for, is not there; IsADirectoryError for a directory
        without `recursive`.
        """
        names = await self._expand_names(paths_of(path))
        if not names:
            return
        if maxdepth is not None:
            expanded = await self._expand_path(names, recursive=recursive, maxdepth=maxdepth, assume_literal=True)
            for one in reversed(expanded):
                await self._remove_one(one)
            return
        if recursive:
            names = _topmost(names)
            if names[0] == "/":
                raise error(Code.INVALID, "the root cannot be removed", "/")
        kind = RemoveKind.TREE if recursive else RemoveKind.FILE
        for failure in await (await self._client()).remove_many(names, kind):
            if failure is not None:
                raise failure

    async def _remove_one(self, path: str) -> None:
        """A file, or a directory that has nothing left."""
        client = await self._client()
        try:
            await client.unlink(path)
        except IsADirectoryError:
            try:
                await client.rmdir(path)
            except FS3Error as failure:
                if failure.code is not Code.NOT_EMPTY:  # what is below maxdepth stays, and so does this
                    raise

    async def _expand_names(self, path: str | Sequence[str]) -> list[str]:
        """The paths to remove or to move, in order of name. NotFound when a pattern matches nothing."""
        if not isinstance(path, str):
            found = {self._strip_protocol(one) for one in path}
        else:
            name = self._strip_protocol(path)
            found = {name}
            if set(name) & _WILDCARDS and await self._is_pattern(name):
                found = set(await self._glob(name))
                if not found:
                    raise NotFound(Code.NOT_FOUND, "nothing matches", path)
        return sorted(found, key=lambda name: name.split("/"))

    async def _mv_file(self, path1: str, path2: str, **_: Any) -> None:
        """One atomic rename, which replaces what has the name."""
        client = await self._client()
        check_path(path1, "path1")
        check_path(path2, "path2")
        source, target = self._strip_protocol(path1), self._strip_protocol(path2)
        await client.rename(source, target, REPLACE, make_parents=self.auto_mkdir)

    async def _mv(
        self,
        path1: str | Sequence[str],
        path2: str | Sequence[str],
        recursive: bool = False,
        maxdepth: int | None = None,
        **_: Any,
    ) -> None:
        """Move files and directories, each by one rename; into `path2` when that is a directory or ends with a slash.

        `path1` is a pattern when `rm` would take it for one.
        """
        path1, path2 = paths_of(path1, "path1"), paths_of(path2, "path2")
        sources = await self._expand_names(path1)
        if isinstance(path1, str) and isinstance(path2, str) and sources == [self._strip_protocol(path1)]:
            source, target = sources[0], self._strip_protocol(path2)
            if source == target:
                return
            if path2.endswith("/") or await self._isdir(target):
                target = join(target, source.rpartition("/")[2])
            await self._mv_file(source, target)
            return
        if not isinstance(path1, str) and not isinstance(path2, str):
            if len(path1) != len(path2):
                raise ValueError(f"{len(path1)} sources and {len(path2)} targets do not go together")
            pairs = list(zip(path1, path2, strict=True))
        elif isinstance(path2, str):
            directory = self._strip_protocol(path2)
            await self._makedirs(directory, exist_ok=True)
            pairs = [(name, join(directory, name.rpartition("/")[2])) for name in sources]
        else:
            raise ValueError("several targets need as many sources")
        for source, target in pairs:
            await self._mv_file(source, target)

    async def _touch(self, path: str, truncate: bool = True, **kwargs: Any) -> None:
        """Create an empty file. Of one that is there, `truncate` takes the content away; without it the time is set. Within a
        transaction a new or emptied file waits for its end, as all that are written."""
        client = await self._client()
        path = self._strip_protocol(path)
        if not truncate:
            try:
                await client.utimes(path, TIME_NOW, TIME_NOW)
            except FS3Error as failure:
                if not is_missing(failure):
                    raise
            else:
                return
        how = self._creation(path, **kwargs)
        if self._intrans:
            draft = await self._prepare_draft(path, how, parents_now=True)
            draft.data = b""
            await self._publish_or_defer(draft)
            return
        new = NewFile(path, memoryview(b""), UnnamedFile(parent_of(path), how.layout, make_parents=how.make_parents))
        try:
            await client.put(new)
        except FS3Error as failure:
            if failure.code is not Code.NOT_INLINE:
                raise
        else:
            return
        await client.close(await client.open(path, "w", how.layout, make_parents=how.make_parents))

    async def _chmod(self, path: str, mode: int) -> None:
        """Set the permission bits."""
        await (await self._client()).chmod(self._strip_protocol(path), mode)

    async def _chown(self, path: str, uid: int | None = None, gid: int | None = None) -> None:
        """Set owner and group."""
        await (await self._client()).chown(self._strip_protocol(path), uid, gid)

    async def _symlink(self, target: str, path: str) -> None:
        """Create a symlink at `path` that says `target`."""
        await (await self._client()).symlink(target, self._strip_protocol(path))

    async def _link(self, source: str, path: str) -> None:
        """Make `path` another name of a file."""
        await (await self._client()).link(self._strip_protocol(source), self._strip_protocol(path))


def _topmost(names: Sequence[str]) -> list[str]:
    """Of names in order, those that are not below another one: they go with it."""
    tops: list[str] = []
    for name in names:
        if not tops or not f"{name}/".startswith(f"{tops[-1].rstrip('/')}/"):
            tops.append(name)
    return tops
