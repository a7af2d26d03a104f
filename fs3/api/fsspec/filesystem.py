"""`fsspec.filesystem("fs3", …)`: the cluster for pandas, pyarrow, datasets, torch, zarr, dask and all else that takes fsspec.

Nothing is cached between calls: every listing and every info asks the service, so all ranks and processes see the same. Instances
are plain values (they pickle as their arguments) and work after fork(), in many threads, and on many event loops at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from fsspec.compression import compr
from fsspec.core import get_compression

from fs3.api.fsspec.arguments import check_mode, check_open_options, check_path
from fs3.api.fsspec.async_file import FS3AsyncFile
from fs3.api.fsspec.blocking import add_blocking_twins, blocking
from fs3.api.fsspec.contents import ContentMethods
from fs3.api.fsspec.copying import CopyMethods
from fs3.api.fsspec.encodings import marked_encoding
from fs3.api.fsspec.file import FS3File
from fs3.api.fsspec.lock import PathLock
from fs3.api.fsspec.mapping import FS3Map
from fs3.api.fsspec.namespace import NamespaceMethods
from fs3.api.fsspec.wrappers import FS3CompressedFile, FS3TextFile
from fs3.api.fsspec.xattrs import AttributeMethods
from fs3.api.io.blocking import run_on
from fs3.base.errors import error
from fs3.base.status import Code

__all__ = ["FS3AsyncFile", "FS3File", "FS3FileSystem"]


class FS3FileSystem(NamespaceMethods, ContentMethods, CopyMethods, AttributeMethods):
    """The filesystem. Paths begin with "/"; URLs are fs3://host:port[,host:port]/path, or fs3:///path with FS3_CLUSTER set.

    A path is a name, whatever its letters. Patterns are taken by `glob` and `expand_path`; by `cat`, `get`, `put` and `copy` when
    nothing is called so; and by `rm` and `mv`, where only "*" and "?" make one.
    """

    cachable = True

    def get_mapper(
        self, root: str = "", check: bool = False, create: bool = False, missing_exceptions: tuple[type, ...] | None = None
    ) -> FS3Map:
        """The files below a directory as a mapping of names to bytes."""
        return FS3Map(root, self, check=check, create=create, missing_exceptions=missing_exceptions)

    def lock(self, path: str, *, shared: bool = False, timeout: float | None = None) -> PathLock:
        """A lock of a file, exclusive or shared, for a `with` or `async with` block: against those of all processes and machines.

        The file is created when it is missing. DeadlineExceeded when it is not free within `timeout` seconds. At the end of the
        block FS3Error LOCKS_LOST says that it was not held so long, because nothing was heard of this process for a minute.
        """
        check_path(path)
        return PathLock(self, path, shared=shared, timeout=timeout)

    def open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | str | None = None,
        cache_options: dict[str, Any] | None = None,
        compression: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """A file object; see `FS3File`. Text modes and `compression` work as everywhere in fsspec, and leave no trace of a file
        whose `with` block an exception has left."""
        check_path(path)
        check_mode(mode, str(path))
        check_open_options(kwargs, str(path))
        if "b" not in mode:
            text = {key: kwargs.pop(key) for key in ("encoding", "errors", "newline") if key in kwargs}
            plain = mode.replace("t", "") + "b"
            mark = b""
            if compression and "r" not in mode and (marked := marked_encoding(text.get("encoding"))) is not None:
                mark, text["encoding"] = marked
                if "a" in mode and self.exists(path) and self.size(path):
                    mark = b""
            file = self.open(path, plain, block_size, cache_options, compression, **kwargs)
            if mark:
                file.write(mark)
            return FS3TextFile(file, **text)
        if compression is None:
            return super().open(path, mode, block_size=block_size, cache_options=cache_options, **kwargs)
        how = compr[get_compression(self._strip_protocol(path), compression)] if compression else None
        file = self.open(path, mode, block_size, cache_options, **kwargs)
        if how is None:
            return file
        return how(file, mode=mode[0]) if "r" in mode else FS3CompressedFile(how(file, mode=mode[0]), file)

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | str | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        chunk_size: int | None = None,
        stripe: int | None = None,
        **kwargs: Any,
    ) -> FS3File:
        check_open_options(kwargs, path)
        kwargs = {name: value for name, value in kwargs.items() if name in ("cache_type", "size")}
        how = self._creation(path, mode.startswith("x"), chunk_size, stripe)
        block = self._block_size if block_size is None else block_size
        return FS3File(self, path, _canonical(mode), block, autocommit, cache_options=cache_options, how=how, **kwargs)

    async def open_async(self, path: str, mode: str = "rb", **kwargs: Any) -> FS3AsyncFile:
        """A file object with coroutine methods: rb (which can seek), wb, xb, ab."""
        check_path(path)
        check_mode(mode, str(path))
        check_open_options(kwargs, str(path))
        if "b" not in mode or kwargs.pop("compression", None):
            raise error(Code.INVALID, f"mode is {mode!r}: only binary files without compression are opened so", path)
        path = self._strip_protocol(path)
        how = self._creation(path, mode.startswith("x"), kwargs.pop("chunk_size", None), kwargs.pop("stripe", None))
        return await FS3AsyncFile.open(self, path, _canonical(mode), how, kwargs.pop("block_size", None))

    def walk(
        self, path: str, maxdepth: int | None = None, topdown: bool = True, on_error: Any = "omit", **kwargs: Any
    ) -> Iterator[tuple[str, Any, Any]]:
        """As `os.walk`: (directory, names of directories, names of files). Symlinks are not followed, whatever fsspec does."""
        steps = self._walk(path, maxdepth, topdown, on_error, **kwargs)
        while (step := run_on(self.loop, _next_step(steps))) is not None:
            yield step

    # Of coroutines that fsspec makes no blocking methods of.
    rmdir = blocking(NamespaceMethods._rmdir)
    mv = blocking(NamespaceMethods._mv)
    mv_file = blocking(NamespaceMethods._mv_file)
    touch = blocking(NamespaceMethods._touch)
    lexists = blocking(NamespaceMethods._lexists)
    created = blocking(NamespaceMethods._created)
    modified = blocking(NamespaceMethods._modified)
    ukey = blocking(NamespaceMethods._ukey)
    checksum = blocking(NamespaceMethods._checksum)
    chmod = blocking(NamespaceMethods._chmod)
    chown = blocking(NamespaceMethods._chown)
    symlink = blocking(NamespaceMethods._symlink)
    link = blocking(NamespaceMethods._link)
    getxattr = blocking(AttributeMethods._getxattr)
    setxattr = blocking(AttributeMethods._setxattr)
    listxattr = blocking(AttributeMethods._listxattr)
    removexattr = blocking(AttributeMethods._removexattr)


add_blocking_twins(FS3FileSystem)


async def _next_step(steps: AsyncIterator[tuple[str, Any, Any]]) -> tuple[str, Any, Any] | None:
    return await anext(steps, None)


def _canonical(mode: str) -> str:
    """The spelling of a binary mode that `FS3File` knows: "br+", "rb+" and "r+b" are one."""
    letters = mode.replace("b", "").replace("+", "")
    return f"{letters}+b" if "+" in mode else f"{letters}b"
