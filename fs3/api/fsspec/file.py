"""Files of the fsspec filesystem."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from typing import Any, NoReturn

from fsspec.caching import caches
from fsspec.spec import AbstractBufferedFile

from fs3.api.client import Client
from fs3.api.file import File
from fs3.api.fsspec import unclosed
from fs3.api.fsspec.base import FS3Base
from fs3.api.fsspec.block_exit import block_exception, say_dropped
from fs3.api.fsspec.draft import CreateOptions, Draft
from fs3.api.fsspec.info import info_of
from fs3.api.io.append_gather import AppendGather
from fs3.api.io.blocking import is_current_loop, refuse_own_thread, run_on
from fs3.api.io.buffers import ReadBuffer, source_of, target_of
from fs3.api.io.read_ahead import RangeSource, ReadAheadReader
from fs3.api.io.write_behind import WriteBehindWriter
from fs3.api.namespace import parent_of
from fs3.base.errors import UnsupportedOperation, error
from fs3.base.limits import inline_bytes_default, small_read_bytes
from fs3.base.status import Code

OWN_CACHE = "ahead"
"""Name of fs3's own read cache among fsspec's `cache_type`s: fetches ahead while reads are in order, in place otherwise."""

MODES = ("rb", "wb", "xb", "ab", "r+b")


class _FileRanges(RangeSource):
    """The bytes of a file opened for reading. It does not know its `FS3File`: a cycle would outlive its last user."""

    def __init__(self, fs: FS3Base, path: str, file: File | None) -> None:
        """Without `file` the path is opened when the first bytes are wanted."""
        self._fs = fs
        self._path = path
        self._file = file

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The filesystem's, of this process."""
        loop: asyncio.AbstractEventLoop = self._fs.loop
        return loop

    async def fetch(self, offset: int, view: memoryview) -> int:
        """Read with the client of this process and loop."""
        if self._file is None:
            self._file = await self._fs._open_reading(self._path)
        return await (await self._fs._client()).pread_into(self._file, view, offset)

    def fetch_directly(self, offset: int, view: memoryview) -> bool:
        """With the client of this process and the filesystem's loop, when it is connected."""
        file = self._file
        if file is None or len(view) >= small_read_bytes:
            return False
        client = self._fs._client_for_blocking()
        return client is not None and client.pread_directly(file, view, offset)


class FS3File(AbstractBufferedFile):  # type: ignore[misc]
    """A file object with blocking methods.

    - rb: of the length it had when it was opened.
    - wb, xb: written to an unnamed file, which gets its name when it is closed; an exception in the `with` block leaves no trace.
      What was written can be written over, after a `seek`. Nothing of a small file is sent before it is closed, or flushed.
    - ab: bytes are appended when it is flushed or closed: all that were written since the last time together, at the end as it is
      then, however many others append. An exception in the `with` block leaves no trace of what was not flushed.
    - r+b: reads and writes in place, each durable when it returns.

    A file that is dropped without closing it, or open when the program ends, is closed; see `fs3.api.fsspec.unclosed`. With
    `autocommit=False`, `commit` or `discard` after `close` decide what becomes of what was written."""

    _is_wrapped = False
    """Something around it has `close_unclosed` called."""

    def __init__(
        self,
        fs: FS3Base,
        path: str,
        mode: str = "rb",
        block_size: int | str | None = None,
        autocommit: bool = True,
        cache_type: str = OWN_CACHE,
        cache_options: dict[str, Any] | None = None,
        size: int | None = None,
        how: CreateOptions | None = None,
    ) -> None:
        """`size`: as known from before; with `cache_type` "none" the file is then opened at the first read only. `how`: for files
        that are created."""
        self.fs = fs
        self.path = path
        self.mode = mode
        self.loc = 0
        self.autocommit = autocommit
        self.kwargs: dict[str, Any] = {}
        self.forced = False
        self.cache: Any = None
        self._data: bytes | None = None
        """All bytes of a small file that is read: they came with the open."""
        self._cache_type = cache_type
        self._cache_options = cache_options or {}
        self._pid = os.getpid()
        self._reader: ReadAheadReader | None = None
        self._writer: WriteBehindWriter | None = None
        self._new_length = 0
        """Of a new file, so far."""
        self._gather: AppendGather | None = None
        self._is_last_write = False
        self._is_broken_off = False
        """The last write failed: of what was to be written, something is missing."""
        self._draft: Draft | None = None
        self._client: Client | None = None
        self._file: File
        self._decided = False
        """What was written has been published or discarded."""
        if mode not in MODES:
            raise error(Code.INVALID, f"mode is {mode!r}, not one of {', '.join(MODES)}", path)
        if block_size is not None and block_size != "default" and int(block_size) < 0:
            raise error(Code.INVALID, f"block_size {block_size} is negative", path)
        wanted = 0 if block_size in (None, "default") else int(block_size or 0)
        self.blocksize = wanted or fs.blocksize
        if mode == "rb":
            self._open_to_read(size)
        elif mode in ("wb", "xb"):
            how = how or CreateOptions(exclusive=mode == "xb")
            self._draft = run_on(fs.loop, fs._prepare_draft(path, how, parents_now=not autocommit))
            self._client = self._draft.client
            self._write_behind(self._draft, wanted)
        else:
            self._client, self._file = run_on(
                fs.loop, fs._open_named(path, "a" if mode == "ab" else "r+", how or CreateOptions())
            )
            if mode == "ab":
                self._gather = AppendGather(self._client, self._file, parent_of(path))
                self.loc = self._file.length
        self.closed = False
        if mode != "rb":
            unclosed.watch(self)

    def _open_to_read(self, size: int | None) -> None:
        if size is not None and self._cache_type == "none":
            # A cache that keeps blocks is about to be put before it, and may have all that is read, also of a file that is gone.
            self.size = size
            self._ranges = _FileRanges(self.fs, self.path, None)
        else:
            self._file = self.fs._open_reading_blocking(self.path)
            self.size = self._file.length
            self._data = self._file.data
            self._ranges = _FileRanges(self.fs, self.path, self._file)
        if self._cache_type in (OWN_CACHE, "none"):
            self._reader = ReadAheadReader(self._ranges, self.size, ahead=self._cache_type == OWN_CACHE)
        elif self._cache_type in caches:
            self.cache = caches[self._cache_type](self.blocksize, self._fetch_range, self.size, **self._cache_options)
        else:
            known = ", ".join([OWN_CACHE, *(str(name) for name in caches if name)])
            raise error(Code.INVALID, f"cache_type is {self._cache_type!r}, not one of {known}", self.path)

    def _write_behind(self, draft: Draft, block: int) -> None:
        self._writer = WriteBehindWriter(self.fs.loop, draft.write, self.path, 0, draft.chunk_size, block)
        if not block:
            self.blocksize = self._writer.block

    # --- what kind of file ---------------------------------------------------------------------------------------------

    def readable(self) -> bool:
        """Opened for reading, and still open."""
        return self.mode in ("rb", "r+b") and not self.closed

    def writable(self) -> bool:
        """Opened for writing, and still open."""
        return self.mode != "rb" and not self.closed

    def seekable(self) -> bool:
        """There is a position: `tell` says where, of an appended file how long it is as far as this handle knows."""
        return not self.closed

    def fileno(self) -> NoReturn:
        """There is no descriptor: UnsupportedOperation. `flush` is what makes written bytes durable."""
        raise UnsupportedOperation(errno.ENOTTY, "fileno: an fs3 file has no descriptor", self.path)

    @property
    def details(self) -> dict[str, Any]:
        """The info of the file as it was when it was opened; of one that is written, nothing that is not known yet."""
        if self._draft is not None:
            return {"name": self.path, "size": 0, "type": "file"}
        if not hasattr(self, "_file"):
            details: dict[str, Any] = self.fs.info(self.path)
            return details
        return info_of(self.path, self._file.inode)

    # --- reading ---------------------------------------------------------------------------------------------------------

    def _fetch_range(self, start: int, end: int) -> bytes:
        """What fsspec's own caches ask for."""
        buffer = ReadBuffer(max(0, min(end, self.size) - start))
        return buffer.take(run_on(self.fs.loop, self._ranges.fetch(start, buffer.view)))

    def read(self, length: int | None = -1) -> bytes:
        """At most `length` bytes, all that are left when it is negative or None."""
        self._check("readable")
        count = -1 if length is None else int(length)
        if count < 0:
            count = max(0, self._end() - self.loc)
        if not count:
            return b""
        if self.cache is not None:  # fsspec's own, or one that `blockcache` has put there
            data = bytes(self.cache._fetch(self.loc, min(self.loc + count, self.size)))
        elif self._data is not None:
            data = self._data[self.loc : self.loc + count]
        elif self._reader is not None:
            data = self._reader.read(self.loc, count)
        else:
            assert self._client is not None
            data = run_on(self.fs.loop, self._client.pread(self._file, count, self.loc))
        self.loc += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        """Fill a writable buffer; received in place where nothing was fetched ahead. How many bytes."""
        self._check("readable")
        view = target_of(buffer, self.path)
        if self.cache is not None:
            data = self.cache._fetch(self.loc, min(self.loc + len(view), self.size))
            count = len(data)
            view[:count] = data
        elif self._data is not None:
            data = self._data[self.loc : self.loc + len(view)]
            count = len(data)
            view[:count] = data
        elif self._reader is not None:
            count = self._reader.read_into(self.loc, view)
        else:
            assert self._client is not None
            count = run_on(self.fs.loop, self._client.pread_into(self._file, view, self.loc))
        self.loc += count
        return count

    def read1(self, length: int = -1) -> bytes:
        """As `read`; without a length, what one request brings."""
        return self.read(self.blocksize if length is None or length < 0 else length)

    def seek(self, loc: int, whence: int = 0) -> int:
        """Move to a position; 0 from the beginning, 1 from here, 2 from the end. Not past the end of a new file (wb, xb): that is
        how programs add to the file that has the name, and they would get zeros in the place of its bytes. In a file that is
        appended to (ab) only to where it stands, as an offset of 0 from here or from the end: bytes go to the end wherever it
        seems to stand, and a program that goes back to write over a header would have it there."""
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        if whence not in (0, 1, 2):
            raise ValueError(f"invalid whence ({whence}, should be 0, 1 or 2)")
        if self.mode == "ab":
            if loc or not whence:
                raise UnsupportedOperation(errno.ESPIPE, "seek: all that is written to the file is appended", self.path)
            return self.loc
        to = int(loc) + (0, self.loc, self._end())[whence]
        if to < 0:
            raise ValueError(f"negative seek position {to}")
        if self._writer is not None:
            self._check_process()
            if to > self._end():
                raise UnsupportedOperation(errno.ESPIPE, f"seek to {to}: the new file has {self._end()} bytes so far", self.path)
            if to != self._writer.position:
                self._check_may_wait()
            self._writer.move(to)
        self.loc = to
        return to

    def _end(self) -> int:
        if self.mode == "rb":
            return self.size
        return self._file.length if self._writer is None else self._new_length

    # --- writing ---------------------------------------------------------------------------------------------------------

    def write(self, data: Any) -> int:
        """Write bytes; all of them. Stored in the background (r+b: when it returns); `flush` waits for that."""
        self._check("writable")
        if self.forced:
            raise ValueError("This file has been force-flushed, can only close")
        self._is_broken_off = True
        if self._writer is not None:
            count = self._writer.write(data, wait=not self._is_last_write and not is_current_loop(self.fs.loop))
        elif self._gather is not None:
            view = source_of(data, self.path)
            count = len(view)
            if not self._gather.add(view, always=self._is_last_write):
                run_on(self.fs.loop, self._gather.spill(view))
        else:
            assert self._client is not None
            count = run_on(self.fs.loop, self._client.pwrite(self._file, source_of(data, self.path), self.loc))
        self._is_broken_off = False
        self.loc += count
        self._new_length = max(self._new_length, self.loc)
        return count

    def flush(self, force: bool = False) -> None:
        """Everything written so far is durable when it returns (and of `ab` and `r+b` files, visible; not within a transaction).

        With `force` the file is finished as by `close`, and can only be closed.
        """
        if self.closed:
            raise ValueError("Flush on closed file")
        if force and self.forced:
            raise ValueError("Force flush cannot be called more than once")
        if self.mode == "rb" or self.forced or self._is_last_write:
            return
        if self.mode != "r+b" and block_exception(self, sys._getframe().f_back) is not None:
            return  # it is closed next, which drops what was written
        self._flush(force)

    def _flush(self, force: bool = False) -> None:
        self._check_process()
        self._check_may_wait()
        if self._writer is not None and not (force and self._is_small(self._writer)):
            self._writer.flush()
        if force:
            self.forced = True
            if self.autocommit:
                self.commit()
        elif self._gather is not None and self.autocommit:
            run_on(self.fs.loop, self._gather.publish())
            self.loc = self._file.length
        elif self._draft is None and self.autocommit:
            assert self._client is not None
            run_on(self.fs.loop, self._client.fsync(self._file))

    def _is_small(self, writer: WriteBehindWriter) -> bool:
        """Nothing has been sent, and all of it goes with the name."""
        assert self._draft is not None
        if self._draft.is_begun:
            return False
        self._draft.data = writer.take_unsent(inline_bytes_default)
        return self._draft.data is not None

    def truncate(self, size: int | None = None) -> int:
        """Set the length, to the position where none is given; not of ab files."""
        self._check("writable")
        if self.mode == "ab":
            raise UnsupportedOperation(errno.EINVAL, "truncate: the file is open in mode 'ab'", self.path)
        assert self._client is not None
        wanted = self.loc if size is None else size
        if self._writer is not None:
            assert self._draft is not None
            self._writer.flush()
            run_on(self.fs.loop, self._draft.truncate(wanted))
            self._new_length = wanted
        else:
            run_on(self.fs.loop, self._client.truncate(self._file, wanted))
        return wanted

    # --- the end ---------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Finish: what was written becomes visible as a whole, or waits for `commit` when `autocommit` is off."""
        if self.closed:
            return
        if self.mode == "rb":
            self.closed = True
            if self._reader is not None:
                self._reader.close()
                self._reader = None
            self.cache = self._data = None
            return
        if self._pid != os.getpid():
            self.closed = True  # a forked process drops its copy; the file is the parent's to finish
            unclosed.unwatch(self)
            return
        if self._is_last_write:
            self._finish_last_write()
            return
        if self.mode != "r+b" and (reason := block_exception(self, sys._getframe().f_back)) is not None:
            self._drop_all(reason)
            return
        if not self.forced:
            self._check_may_wait()
        try:
            if not self.forced:
                self._flush(force=True)
        except BaseException:
            self.closed = True
            self.discard()
            raise
        self.closed = True

    def commit(self) -> None:
        """Make what was written visible under the file's name."""
        if self._decided or self._client is None:
            return
        self._decide()
        run_on(self.fs.loop, self._keep(self._client))

    async def _keep(self, client: Client) -> None:
        if self._draft is not None:
            await self._draft.publish(make_parents=self.autocommit)
        elif self._gather is not None:
            await self._gather.finish()
        else:
            await client.close(self._file)

    def discard(self) -> None:
        """Drop what was written; of `ab` files what was not flushed. Bytes written in place (r+b) stay."""
        if self._decided or self._client is None:
            return
        self._decide()
        if self._writer is not None:
            self._writer.abandon()
        if is_current_loop(self.fs.loop):
            unclosed.start(self.fs.loop, self.path, self._drop(self._client))
        else:
            run_on(self.fs.loop, self._drop(self._client))

    async def _drop(self, client: Client) -> None:
        if self._draft is not None:
            await self._draft.discard()
        else:
            await (client.abandon(self._file) if self._gather is None else self._gather.discard())

    def _decide(self) -> None:
        self._decided = True
        unclosed.unwatch(self)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self.mode in ("wb", "xb", "ab") and not self.closed and self._pid == os.getpid():
            self._drop_all(kind)
        else:
            self.close()

    def _drop_all(self, reason: type[BaseException]) -> None:
        """An exception has left the `with` block."""
        self.closed = True
        # Something around it may hold bytes that have not come so far.
        if not self._decided and (self._gather is None or not self._gather.is_empty or self._is_wrapped):
            say_dropped(self.path, reason)
        self.discard()

    def wrap(self, is_wrapped: bool = True) -> None:
        """Something around it holds written bytes still, and has `close_unclosed` called in its place; or does so no more."""
        self._is_wrapped = is_wrapped
        (unclosed.unwatch if is_wrapped or self.closed else unclosed.watch)(self)

    def close_unclosed(self, flush: unclosed.Flush | None = None, is_broken_off: bool = False) -> None:
        """The file is not closed and is going away: it is closed here. Only after a write that failed, and at the end of a
        program that dies of an exception, what was written is dropped, for half a file must not look like a whole one. `flush`:
        has what lies around the file write what it holds still. `is_broken_off`: the last write to what lies around it failed."""
        if self.closed or not self._begin_last_write(is_broken_off):
            return
        if flush is not None:
            try:
                flush()
            except Exception as failure:
                if not self._decided:
                    self._drop_unclosed()
                unclosed.say_lost(self.path, failure)
                return
        self.close()

    def _begin_last_write(self, is_broken_off: bool) -> bool:
        """The program is not going to close the file. What lies around it may write, without waiting for anything, until `close`.
        False: it is closed already."""
        if self.mode == "rb" or self._pid != os.getpid() or self._decided or self._client is None or sys.is_finalizing():
            self.closed = True
            return False
        is_broken_off = is_broken_off or self._is_broken_off
        if is_broken_off or unclosed.is_dying() or not self.autocommit:
            unclosed.say(self.path, f"{'its last write failed, and ' * is_broken_off}what was written to it is dropped")
            self._drop_unclosed()
            return False
        if not self._is_last_write:
            unclosed.say(self.path, "it is closed now")
        self._is_last_write = True
        return True

    def _finish_last_write(self) -> None:
        assert self._client is not None
        self.closed = True
        if not self._decided:
            self._decide()
            unclosed.finish(self.fs.loop, self.path, self._finish(self._client))

    def _drop_unclosed(self) -> None:
        assert self._client is not None
        self.closed = True
        self._decide()
        unclosed.finish(self.fs.loop, self.path, self._drop(self._client))

    def _dealloc_warn(self, _: object) -> None:
        """io's text wrappers and buffers call this when they are dropped without closing them, and then flush and close."""
        if not self.closed:
            self._begin_last_write(is_broken_off=False)

    async def _finish(self, client: Client) -> None:
        try:
            if self._writer is not None and not self._is_small(self._writer):
                await self._writer.finish()
        except BaseException:
            await self._drop(client)
            raise
        await self._keep(client)

    def __del__(self) -> None:
        if not self._is_wrapped and not self.closed and self.mode != "rb":
            unclosed.close_dropped(sys.getrefcount(self), self)

    def _check(self, what: str) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        if not (self.readable() if what == "readable" else self.writable()):
            raise UnsupportedOperation(errno.EBADF, f"the file is open in mode {self.mode!r}, which is not {what}", self.path)
        if self.mode != "rb":
            self._check_process()

    def _check_may_wait(self) -> None:
        """Not on the event loop's own thread: RuntimeError. The file stays open."""
        if self.fs.loop is not None:
            refuse_own_thread(self.fs.loop)

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            raise error(Code.INVALID, "the file was opened for writing in another process", self.path)

    def __reduce__(self) -> Any:
        if self.mode != "rb":
            raise RuntimeError("Pickling a writeable file is not supported")
        return _reopen, (self.fs, self.path, self.blocksize, self.loc, self._cache_type, self._cache_options)


def _reopen(fs: FS3Base, path: str, block: int, loc: int, cache_type: str, cache_options: dict[str, Any]) -> FS3File:
    file: FS3File = fs.open(path, "rb", block_size=block, cache_type=cache_type, cache_options=cache_options)
    file.seek(loc)
    return file
