"""Whole files and ranges of files through fsspec."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from fsspec.callbacks import DEFAULT_CALLBACK

from fs3.api.client import Client
from fs3.api.file import File
from fs3.api.fsspec.arguments import check_path, paths_of
from fs3.api.fsspec.base import FS3Base
from fs3.api.fsspec.blocking import blocking
from fs3.api.fsspec.draft import CreateOptions
from fs3.api.io.blocking import run_on
from fs3.api.io.buffer_budget import buffer_budget
from fs3.api.io.buffers import ReadBuffer, source_of
from fs3.api.io.transfer import download, download_stream, local_length, upload
from fs3.api.namespace import parent_of
from fs3.api.small_files import NewFile, UnnamedFile, is_small
from fs3.base.errors import FS3Error
from fs3.base.limits import inline_bytes_default, small_read_bytes
from fs3.base.status import Code


class ContentMethods(FS3Base):
    """Files that are written appear at once and whole; what is read is received where it is wanted."""

    async def _cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        client = await self._client()
        file = await client.small_files.open(self._strip_protocol(path))
        begin, stop = _clamp_range(start, end, file.length)
        return file.data[begin:stop] if file.data is not None else await _read_range(client, file, begin, stop)

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, timeout: float | None = None, **kwargs: Any
    ) -> bytes:
        """The bytes of a file, or of a part of it as Python slices it. A caller asks for them on its own thread; see
        `fs3.client.direct_channels`."""
        data = self._cat_directly(path, start, end) if timeout is None else None
        return data if data is not None else _cat_on_loop(self, path, start, end, timeout=timeout, **kwargs)

    def _cat_directly(self, path: str, start: int | None, end: int | None) -> bytes | None:
        """None: not done, not even opened."""
        client = self._client_for_blocking()
        file = None if client is None else client.open_directly(self._strip_protocol(path))
        if client is None or file is None:
            return None
        begin, stop = _clamp_range(start, end, file.length)
        if file.data is not None:
            return file.data[begin:stop]
        if stop - begin < small_read_bytes:
            buffer = bytearray(stop - begin)
            if not buffer or client.pread_directly(file, memoryview(buffer), begin):
                return bytes(buffer)
        data: bytes = run_on(self.loop, _read_range(client, file, begin, stop))
        return data

    async def _cat(
        self, path: Any, recursive: bool = False, on_error: str = "raise", batch_size: int | None = None, **_: Any
    ) -> Any:
        """Whole files: the bytes of one, or {path: bytes} of many, all read at once. `recursive`: all files below directories.

        A single path that is not there may be a pattern; the paths of a list are names.
        """
        path = paths_of(path)
        paths = await self._expand_path(path, recursive=recursive, assume_literal=not isinstance(path, str))
        found = dict(zip(paths, await self._cat_ranges(paths, None, None), strict=True))
        if recursive:
            found = {name: data for name, data in found.items() if not isinstance(data, IsADirectoryError)}
        for data in found.values():
            if on_error == "raise" and isinstance(data, Exception):
                raise data
        if len(paths) == 1 and not isinstance(path, list) and paths[0] == self._strip_protocol(path):
            return found.get(paths[0], {})
        return {name: data for name, data in found.items() if on_error != "omit" or not isinstance(data, Exception)}

    async def _cat_ranges(
        self,
        paths: Any,
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        batch_size: int | None = None,
        on_error: str = "return",
        **_: Any,
    ) -> list[Any]:
        """All ranges of all files: one request that opens the files, and brings the bytes of small ones, then one per storage
        node. `max_gap` is not needed.

        `on_error`: "return" puts the exception in the place of a range, "raise" raises the first, "omit" leaves the range out.
        """
        if not isinstance(paths, list):
            raise TypeError(f"paths is a {type(paths).__name__}, not a list")
        if on_error not in ("return", "raise", "omit"):
            raise ValueError(f'on_error is {on_error!r}, not "return", "raise" or "omit"')
        starts = list(starts) if isinstance(starts, Iterable) else [starts] * len(paths)
        ends = list(ends) if isinstance(ends, Iterable) else [ends] * len(paths)
        if len(starts) != len(paths) or len(ends) != len(paths):
            raise ValueError(f"{len(paths)} paths, {len(starts)} starts and {len(ends)} ends do not go together")
        client = await self._client()
        names = [self._strip_protocol(path) for path in paths]
        distinct = list(dict.fromkeys(names))
        files = dict(zip(distinct, await client.open_many(distinct), strict=True))
        ranges: list[tuple[File, int, int] | FS3Error] = []
        """Per path: file, offset, length."""
        for name, start, end in zip(names, starts, ends, strict=True):
            file = files[name]
            if isinstance(file, FS3Error):
                if on_error == "raise":
                    raise file
                ranges.append(file)
            else:
                begin, stop = _clamp_range(start, end, file.length)
                ranges.append((file, begin, stop - begin))
        # As long as bytes move they are in the budget; then they are the caller's.
        async with buffer_budget.reserve(sum(one[2] for one in ranges if not isinstance(one, FS3Error))):
            found = await self._read_ranges(client, ranges, on_error)
        return [one for one in found if not isinstance(one, Exception)] if on_error == "omit" else found

    @staticmethod
    async def _read_ranges(
        client: Client, ranges: list[tuple[File, int, int] | FS3Error], on_error: str
    ) -> list[bytes | FS3Error]:
        """Per range its bytes or its failure. All at once; one by one only to find out which of them failed."""
        wanted = [one for one in ranges if not isinstance(one, FS3Error)]
        buffers = [ReadBuffer(length) for _, _, length in wanted]
        requests = [(file, offset, buffer.view) for (file, offset, _), buffer in zip(wanted, buffers, strict=True)]
        counts: list[int | FS3Error]
        try:
            counts = [*await client.preadv_many(requests)]
        except FS3Error:
            if on_error == "raise":
                raise
            counts = []
            for request in requests:
                try:
                    counts += await client.preadv_many([request])
                except FS3Error as failure:
                    counts.append(failure)
        requests.clear()  # views of what becomes bytes
        done = (
            count if isinstance(count, FS3Error) else buffer.take(count) for count, buffer in zip(counts, buffers, strict=True)
        )
        return [one if isinstance(one, FS3Error) else next(done) for one in ranges]

    async def _pipe_file(self, path: str, value: Any, mode: str = "overwrite", **kwargs: Any) -> None:
        path = self._strip_protocol(path)
        data = source_of(value, path)
        creation = self._creation(path, _exclusive(mode), **_layout_of(kwargs))
        if creation.exclusive and await self._put_exclusive(path, data, creation):
            return
        if await self._create_small(path, data, creation):
            return
        draft = await self._begin_draft(path, creation)
        try:
            await draft.write(data, 0)
        except BaseException:
            await draft.discard()
            raise
        await self._publish_or_defer(draft)

    async def _put_file(
        self, lpath: str, rpath: str, callback: Any = DEFAULT_CALLBACK, mode: str = "overwrite", **kwargs: Any
    ) -> None:
        rpath = self._strip_protocol(rpath)
        length = local_length(lpath)
        if length is None:
            await (await self._client()).makedirs(rpath, exist_ok=True)
            return
        callback.set_size(length)
        creation = self._creation(rpath, _exclusive(mode), **_layout_of(kwargs))
        if is_small(length) and self._is_plain(creation):
            async with buffer_budget.reserve(length):
                data = await (await self._client()).small_files.read_local(lpath, length)
                if data is not None and await self._create_small(rpath, data, creation):
                    if data:
                        callback.relative_update(len(data))
                    return
        draft = await self._begin_draft(rpath, creation)
        try:
            await upload(draft.client, lpath, await draft.file(), callback.relative_update)
        except BaseException:
            await draft.discard()
            raise
        await self._publish_or_defer(draft)

    def _is_plain(self, how: CreateOptions) -> bool:
        """Nothing but a name and bytes is wanted of a new file."""
        return not how.exclusive and not self._intrans

    async def _create_small(self, path: str, data: memoryview, how: CreateOptions, permissions: int = 0o666) -> bool:
        """Create or replace a small file, together with others. False: it is not small, or has to be made on its own."""
        if not is_small(len(data)) or not self._is_plain(how):
            return False
        new = NewFile(path, data, UnnamedFile(parent_of(path), how.layout, permissions, how.make_parents))
        return await (await self._client()).small_files.create(new)

    async def _put_exclusive(self, path: str, data: memoryview, how: CreateOptions) -> bool:
        """Create a file that is small enough for one request, where none is. False: it is not. Raises Exists."""
        client = await self._client()
        if len(data) > inline_bytes_default or self._intrans:
            return False
        new = NewFile(path, data, UnnamedFile(parent_of(path), how.layout, make_parents=how.make_parents), exclusive=True)
        try:
            await client.put(new)
        except FS3Error as failure:
            if failure.code is Code.NOT_INLINE:
                return False
            raise
        return True

    async def _get_file(self, rpath: str, lpath: Any, callback: Any = DEFAULT_CALLBACK, **_: Any) -> None:
        client = await self._client()
        rpath = self._strip_protocol(rpath)
        try:
            file = await client.small_files.open(rpath)
        except IsADirectoryError:
            os.makedirs(lpath, exist_ok=True)
            return
        callback.set_size(file.length)
        if hasattr(lpath, "write"):
            await download_stream(client, file, lpath, callback.relative_update)
            return
        local = os.fspath(lpath)
        if is_small(file.length):
            async with buffer_budget.reserve(file.length):
                data = await client.small_files.read(file)
                if data is not None and await client.small_files.save_local(local, data):
                    if data:
                        callback.relative_update(len(data))
                    return
        await download(client, file, local, callback.relative_update)

    async def _cp_file(self, path1: str, path2: str, **_: Any) -> None:
        check_path(path1, "path1")
        check_path(path2, "path2")
        client = await self._client()
        source, target = self._strip_protocol(path1), self._strip_protocol(path2)
        try:
            file = await client.small_files.open(source)
        except IsADirectoryError:
            await client.makedirs(target, exist_ok=True)
            return
        how = CreateOptions(make_parents=self.auto_mkdir)
        if is_small(file.length):
            async with buffer_budget.reserve(file.length):
                data = await client.small_files.read(file)
                if data is not None and await self._create_small(target, data, how, file.inode.mode & 0o777):
                    return
        behind = (await self._prepare_draft(target, how)).path  # a symlink is written through, as by all other calls
        await client.copy_file(source, behind, make_parents=self.auto_mkdir)


async def _read_range(client: Client, file: File, begin: int, stop: int) -> bytes:
    async with buffer_budget.reserve(stop - begin):
        return await client.small_files.pread(file, stop - begin, begin)


_cat_on_loop = blocking(ContentMethods._cat_file)


def _clamp_range(start: int | None, end: int | None, size: int) -> tuple[int, int]:
    """A range as Python slices it, within the file."""
    begin, stop, _ = slice(start, end).indices(size)
    return begin, max(begin, stop)


def _exclusive(mode: str) -> bool:
    if mode not in ("overwrite", "create"):
        raise ValueError(f'mode is {mode!r}, not "overwrite" or "create"')
    return mode == "create"


def _layout_of(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {key: kwargs[key] for key in ("chunk_size", "stripe") if key in kwargs}
