"""The verbs of `Client` that open and create files, one or many in a request. A part of the native client."""

from __future__ import annotations

from collections.abc import Sequence

from fs3.api.file import READ_ONLY, File
from fs3.api.io.budget import gather_bounded
from fs3.api.namespace import Stats, parents_mode_of
from fs3.api.small_files import NewFile, UnnamedFile
from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.client.meta.client import MetaClient
from fs3.model.inode import Inode, InodeType, Layout
from fs3.model.namespace import OpenResult, PathRef
from fs3.model.requests import Open, Put, Stat

inline_opens_per_request = 128
"""Files that one request opens, which brings their bytes."""

_OPENS_AT_ONCE = 4
"""Requests that one call to open many files has under way."""

Opens = list[File | FS3Error]


class OpenCalls:
    """What a client can be asked about files that are not open yet. Paths, modes and errors are those of `fs3.api.client`."""

    meta: MetaClient
    _umask: int
    _sessions: dict[File, None]
    _closed: bool
    _of: OpenCalls | None

    @property
    def closed(self) -> bool:
        """`aclose` was called."""
        return self._closed if self._of is None else self._of.closed

    async def open(
        self, path: str, mode: str = "r", layout: Layout | None = None, *, permissions: int = 0o666, make_parents: bool = False
    ) -> File:
        """Opens a file: "r" read · "r+" read and write · "w" create or replace the content · "x" create · "a" create or append.

        Every mode but "r" may read too; with "a" bytes are written by `append` only. `layout` (fields of 0 are inherited from the
        directory) and `permissions` (less the umask) are for a file that is created; `make_parents` then makes missing
        directories above it, in the same transaction. NotFound, Exists, IsADirectory, NoPermission."""
        if mode not in ("r", "r+", "w", "x", "a"):
            raise error(Code.INVALID, f'mode is {mode!r}, not one of "r", "r+", "w", "x", "a"', path)
        opened = await self.meta.ask(
            Open(
                PathRef.of(path),
                write=mode != "r",
                create=mode in ("w", "x", "a"),
                exclusive=mode == "x",
                truncate=mode == "w",
                mode=permissions,
                layout=layout,
                append=mode == "a",
                want_data=mode == "r",
                parents_mode=parents_mode_of(make_parents),
                umask=self._umask,
            )
        )
        return self.adopt(opened, path, appends=mode == "a")

    def adopt(self, opened: OpenResult, path: str, *, appends: bool = False, unnamed: bool = False) -> File:
        """The handle of an open that was asked of `meta`; `path` is for failures. Its session is this client's. `unnamed`: it was
        created without a name. IsADirectory."""
        file = _opened_file(opened, path, appends=appends)
        file.unnamed = unnamed
        if file.session != READ_ONLY:
            self._sessions[file] = None
        elif opened.data is None:
            self.meta.readers.add(file)
        return file

    def inherit(self, opened: OpenResult, path: str, *, appends: bool = False) -> File:
        """The handle of a session of an earlier process of this client, which is the same one to the services."""
        self.meta.keep_session(opened.session)
        return self.adopt(opened, path, appends=appends)

    def open_directly(self, path: str) -> File | None:
        """Opens a file for reading on a thread that is not the loop's, which blocks meanwhile; raises as `open`. None: not done,
        and `small_files.open` has to be asked."""
        opened = None if self.closed else self.meta.ask_directly(Open(PathRef.of(path), want_data=True))
        if opened is None:
            return None
        file = _opened_file(opened, path)
        if opened.data is None:
            self.meta.readers.add(file)
        return file

    def lstat_directly(self, path: str) -> Inode | None:
        """`lstat` on a thread that is not the loop's, which blocks meanwhile. None: not done, and `lstat` has to be asked."""
        return None if self.closed else self.meta.ask_directly(Stat(PathRef.of(path), follow=False))

    async def open_many(self, paths: Sequence[str]) -> Opens:
        """Opens many files for reading, in few requests, which bring the bytes of those that are small: its handle or its error
        for each."""
        requests = [Open(PathRef.of(path), want_data=True) for path in paths]
        step = inline_opens_per_request
        parts = (self.meta.batch(requests[at : at + step]) for at in range(0, len(requests), step))
        answers = [answer for part in await gather_bounded(parts, _OPENS_AT_ONCE) for answer in part]
        opens: Opens = []
        for path, answer in zip(paths, answers, strict=True):
            if isinstance(answer, OpenResult):
                file = File(answer.inode, path, data=answer.data)
                if answer.data is None:
                    self.meta.readers.add(file)
                opens.append(file)
            else:
                opens.append(answer)
        return opens

    async def open_unnamed(
        self,
        directory: str = "/",
        layout: Layout | None = None,
        *,
        permissions: int = 0o666,
        make_parents: bool = False,
        becomes: str | None = None,
    ) -> File:
        """A new file that no other client sees until `close(file, publish=path)` gives it a name at once and whole.

        `directory` is where it is meant to go: its layout and permissions count; `make_parents` makes it when it is missing, and
        those above it. `becomes`: the name it is meant to get, which errors tell then. A file that is never published vanishes.
        """
        new = UnnamedFile(directory, layout, permissions, make_parents)
        try:
            opened = await self.meta.ask(self._creation_of(new))
        except FS3Error as refusal:
            if becomes is None or refusal.filename != directory:
                raise
            why = "no such directory" if refusal.code is Code.NOT_FOUND else refusal.strerror or ""
            raise error(refusal.code, why, becomes) from None
        return self.adopt(opened, becomes or directory, unnamed=True)

    async def open_unnamed_many(self, wanted: Sequence[UnnamedFile]) -> Opens:
        """The same for many files, in few requests and commits: its handle or its error for each."""
        requests = [self._creation_of(new) for new in wanted]
        opens: Opens = []
        for new, answer in zip(wanted, await self.meta.batch(requests) if requests else [], strict=True):
            if isinstance(answer, FS3Error):
                opens.append(answer)
                continue
            file = File(answer.inode, new.directory, answer.session, unnamed=True)
            self._sessions[file] = None
            opens.append(file)
        return opens

    def _creation_of(self, new: UnnamedFile) -> Open:
        return Open(
            PathRef.of(new.directory),
            write=True,
            create=True,
            unnamed=True,
            mode=new.permissions,
            layout=new.layout,
            parents_mode=parents_mode_of(new.make_parents),
            umask=self._umask,
        )

    async def put(self, new: NewFile) -> Inode:
        """Creates a small file with all its bytes, in one request, or gives them to the file that has the name; it appears at
        once and whole, and is durable when it returns. FS3Error NOT_INLINE, and nothing happened, when the service does not keep
        so many bytes in the metadata store. A symlink is followed, unless it is `exclusive`."""
        return await self.meta.ask(self._put_request(new))

    async def put_many(self, files: Sequence[NewFile]) -> Stats:
        """The same for many files, in few requests and commits: its inode or its error for each."""
        return await self.meta.batch([self._put_request(new) for new in files]) if files else []

    def _put_request(self, new: NewFile) -> Put:
        return Put(
            PathRef.of(new.path),
            bytes(new.data),
            new.how.permissions,
            new.how.layout,
            new.exclusive,
            parents_mode_of(new.how.make_parents),
            umask=self._umask,
        )


def _opened_file(opened: OpenResult, path: str, *, appends: bool = False) -> File:
    """The handle of an open that was answered. Raises IsADirectory."""
    if opened.inode.type is not InodeType.FILE:
        raise error(Code.IS_A_DIRECTORY, "is a directory", path)
    return File(opened.inode, path, opened.session, appends=appends, data=opened.data)
