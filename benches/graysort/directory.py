"""The benchmark's only door to storage: a directory behind an fsspec URL.

`FileSystem` lists all that is asked of the file system under test. Data goes through `read`
(`cat_ranges`, or `cat_file` for a lone range) and `create` (`open(path, "wb")`, MiB-size writes);
both report to a meter, which counts the bytes moved and drives the progress bars.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any, Protocol, TypeAlias, cast

from fsspec.core import url_to_fs  # type: ignore[import-untyped, unused-ignore]

from .errors import DataError, PlanError
from .extents import Extent, group_extents
from .records import RECORD_BYTES, Records, as_records

Meter: TypeAlias = Callable[[int, int], None]
"""Called with (bytes read, bytes written) after each transfer."""


def no_meter(read_bytes: int, written_bytes: int) -> None:
    """Count nothing: for the small reads of the coordinating process."""


class FileSystem(Protocol):
    """The part of fsspec's `AbstractFileSystem` that the benchmark uses."""

    def makedirs(self, path: str, exist_ok: bool = False) -> None: ...
    def invalidate_cache(self, path: str | None = None) -> None: ...
    def ls(self, path: str, detail: bool = True) -> list[dict[str, Any]]: ...
    def open(self, path: str, mode: str = "rb") -> IO[bytes]: ...
    def cat_file(self, path: str, start: int, end: int) -> bytes: ...
    def cat_ranges(self, paths: list[str], starts: list[int], ends: list[int], *, on_error: str) -> list[bytes | Exception]: ...
    def rm(self, path: list[str]) -> None: ...
    def rmdir(self, path: str) -> None: ...


class Directory:
    """Files `<kind>-00000.dat`, `<kind>-00001.dat`, … in the directory `url`."""

    def __init__(
        self, kind: str, url: str, storage_options: Mapping[str, Any], meter: Meter = no_meter, *, synced: bool = False
    ) -> None:
        """`synced`: as of `GraySortPlan`."""
        try:
            filesystem, path = url_to_fs(url, **storage_options)
        except (ImportError, TypeError, ValueError) as error:
            raise PlanError(f"{kind}_url {url!r} cannot be opened: {error}") from error
        self.kind = kind
        self.url = url
        self._filesystem = cast("FileSystem", filesystem)
        self._path = cast("str", path).rstrip("/")
        self._meter = meter
        self._synced = synced

    def name(self, index: int) -> str:
        """Name of file `index`."""
        return f"{self.kind}-{index:05d}.dat"

    def prepare(self) -> None:
        """Make the directory; refuse to mix a new run with the files of an old one."""
        self._filesystem.makedirs(self._path, exist_ok=True)
        if leftovers := self.sizes():
            raise DataError(
                f"{self.url} already holds {len(leftovers)} {self.kind} file(s), such as "
                f"{min(leftovers)}: remove them or name another directory"
            )

    def sizes(self) -> dict[str, int]:
        """Name → length in bytes of the files of this kind, in order of their names."""
        self._filesystem.invalidate_cache(self._path)
        try:
            entries = self._filesystem.ls(self._path, detail=True)
        except FileNotFoundError as error:
            raise DataError(f"{self.kind} directory {self.url} does not exist") from error
        sizes = {str(entry["name"]).rsplit("/", 1)[-1]: entry["size"] for entry in entries}
        return {name: int(sizes[name]) for name in sorted(sizes) if self._owns(name)}

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """Bytes `start` … `stop` of a file; shorter at its end is an error."""
        data = self._filesystem.cat_file(self._join(name), start, stop)
        return self._checked(name, start, stop, data)

    def read(self, extents: Sequence[Extent], records_max: int) -> Iterator[Records]:
        """The records of `extents`, in order, asking for at most `records_max` at a time."""
        for group in group_extents(extents, records_max):
            ranges = [(e.name, e.start * RECORD_BYTES, e.stop * RECORD_BYTES) for e in group]
            if len(ranges) == 1:
                yield as_records(self.read_range(*ranges[0]))
                continue
            names, starts, stops = (list(column) for column in zip(*ranges, strict=True))
            paths = [self._join(name) for name in names]
            pieces = self._filesystem.cat_ranges(paths, starts, stops, on_error="raise")
            for (name, start, stop), piece in zip(ranges, pieces, strict=True):
                yield as_records(self._checked(name, start, stop, piece))

    @contextmanager
    def create(self, name: str) -> Iterator[Callable[[Records | bytes], None]]:
        """Open a new file; yields the function that appends to it. Closed without loss on exit."""
        with self._filesystem.open(self._join(name), "wb") as file:
            descriptor = self._descriptor(file)

            def append(block: Records | bytes) -> None:
                data = block if isinstance(block, bytes) else block.reshape(-1).data
                if len(data):
                    file.write(data)
                    self._meter(0, len(data))

            yield append
            if descriptor is not None:
                file.flush()
                os.fsync(descriptor)

    def _descriptor(self, file: IO[bytes]) -> int | None:
        """What is to be fsynced; None when nothing is."""
        if self._synced:
            with suppress(AttributeError, io.UnsupportedOperation):
                return file.fileno()
        return None

    def remove(self) -> None:
        """Delete the files of this kind, and the directory when that leaves it empty."""
        if names := list(self.sizes()):
            self._filesystem.rm([self._join(name) for name in names])
        with suppress(OSError, NotImplementedError):
            self._filesystem.rmdir(self._path)

    def _owns(self, name: str) -> bool:
        return name.startswith(f"{self.kind}-") and name.endswith(".dat")

    def _join(self, name: str) -> str:
        return f"{self._path}/{name}"

    def _checked(self, name: str, start: int, stop: int, data: bytes | Exception) -> bytes:
        if isinstance(data, Exception):  # some file systems return errors whatever they are told
            raise data
        if len(data) != stop - start:
            raise DataError(f"{name}: asked for bytes {start:,} to {stop:,}, got {len(data):,}")
        self._meter(len(data), 0)
        return data
