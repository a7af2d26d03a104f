"""A disk that may lose whatever was not synced: bytes, sector by sector, and names.

A directory is watched through the system calls that its files are written with. What was written is *loose* until its file is
synced; a name that was given, taken away or moved is loose until its directory is synced. An *image* is a directory as a loss of
power could leave it: everything synced, and any part of what is loose.

Bytes that are written in another way (LMDB's, which syncs by itself) count as synced; a commit of the index is a moment of its
own. A record of the log is written like any bytes, so it may be torn; the observer of the disk is told when one is begun,
because from then on it may be there, and when it is durable. Nothing is really synced: the power does not fail. Space of free
blocks that is given back is no system call that is watched here.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import lmdb

from fs3.base.prng import Prng
from fs3.drivers.chunks.checkpoint import Checkpoint
from fs3.drivers.chunks.files import BlockFiles
from fs3.drivers.chunks.index import Index
from fs3.drivers.chunks.update_log import LogFull, UpdateLog
from fs3.sim.planting import plant

SECTOR_BYTES = 512
_NOTHING, _SOME, _EVERYTHING = range(3)


class DiskObserver(Protocol):
    """What is told of a disk, on the thread that does it."""

    def on_moment(self, name: str) -> None:
        """A loss of power is dangerous now."""
        ...

    def on_record(self) -> None:
        """A record of the log is begun: what it says may be there from now on."""
        ...

    def on_record_refused(self) -> None:
        """There is no room for it: nothing of it is there."""
        ...

    def on_durable(self) -> None:
        """What a barrier has to make durable is."""
        ...


@dataclass
class WatchedFile:
    """The bytes of one inode that was written to."""

    synced: bytearray = field(default_factory=bytearray)
    loose: list[tuple[int, bytes]] = field(default_factory=list)
    """(offset, bytes), in the order of the writes."""

    def sync(self) -> None:
        """Nothing is loose any more."""
        for offset, data in self.loose:
            _put(self.synced, offset, data)
        self.loose.clear()

    def draw_image(self, prng: Prng) -> bytearray:
        """What is synced and any sectors of what is loose."""
        image = bytearray(self.synced)
        kept = prng.pick((_NOTHING, _SOME, _SOME, _EVERYTHING))
        for offset, data in self.loose:
            for at in range(0, len(data), SECTOR_BYTES):
                if kept == _EVERYTHING or (kept == _SOME and prng.chance(1, 2)):
                    _put(image, offset + at, data[at : at + SECTOR_BYTES])
        return image


def _put(image: bytearray, offset: int, data: bytes) -> None:
    image.extend(bytes(max(offset + len(data) - len(image), 0)))
    image[offset : offset + len(data)] = data


class PowerLossDisk:
    """What of the files below a directory is synced, and what is loose."""

    def __init__(self, home: Path, prng: Prng, observer: DiskObserver) -> None:
        """Makes the disk, and later its images, in `home`."""
        self._home = home.resolve()
        self.root = self._home / "disk"
        """The directory that is watched; empty."""
        self.root.mkdir()
        self._prng = prng
        self._observer = observer
        self._files: dict[int, WatchedFile] = {}
        """By inode."""
        self._names: dict[Path, dict[str, int]] = {}
        """Directory -> the names in it that are synced, with their inodes."""

    # --- watching ----------------------------------------------------------------------------------------------------

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Watch the system calls of this process for the length of a `with` block."""
        write, pwrite, pwritev, fsync, fdatasync = Index.write, os.pwrite, os.pwritev, os.fsync, os.fdatasync
        append, run = UpdateLog.append, Checkpoint.run
        open_index, observer = lmdb.open, self._observer
        has_barrier = False

        def open_unsynced(path: str, **options: Any) -> Any:
            if Path(path).resolve().is_relative_to(self._home):
                options.update(sync=False, metasync=False)
            return open_index(path, **options)

        def watched_pwrite(fd: int, data: Any, offset: int) -> int:
            written = pwrite(fd, data, offset)
            self._add_loose(fd, offset, bytes(data)[:written])
            return written

        def watched_pwritev(fd: int, parts: Sequence[Any], offset: int) -> int:
            written = pwritev(fd, parts, offset)
            self._add_loose(fd, offset, b"".join(bytes(part) for part in parts)[:written])
            return written

        def watched_fdatasync(fd: int) -> None:
            self._sync(fd, fdatasync)

        def watched_fsync(fd: int) -> None:
            self._sync(fd, fsync)

        def watched_write(index: Index, *rows: Any) -> None:
            if not index.directory.resolve().is_relative_to(self.root):
                write(index, *rows)
                return
            observer.on_moment("before a commit of the index")
            write(index, *rows)
            if has_barrier:
                observer.on_durable()
            observer.on_moment("after a commit of the index")

        def watched_run(checkpoint: Checkpoint, files: BlockFiles, index: Index) -> None:
            nonlocal has_barrier
            if index.directory.resolve().is_relative_to(self.root):  # and not of a store that looks at an image
                has_barrier = checkpoint.has_barrier
            run(checkpoint, files, index)

        def watched_append(log: UpdateLog, *record: Any) -> int:
            if not log.path.resolve().is_relative_to(self.root):
                return append(log, *record)
            observer.on_record()
            try:
                seq = append(log, *record)
            except LogFull:
                observer.on_record_refused()
                raise
            observer.on_durable()
            observer.on_moment("after a record of the log is synced")
            return seq

        patches = [
            (os, "pwrite", watched_pwrite),
            (os, "pwritev", watched_pwritev),
            (os, "fdatasync", watched_fdatasync),
            (os, "fsync", watched_fsync),
            (Index, "write", watched_write),
            (Checkpoint, "run", watched_run),
            (UpdateLog, "append", watched_append),
            (lmdb, "open", open_unsynced),
        ]
        with plant(patches):
            yield

    def _add_loose(self, fd: int, offset: int, data: bytes) -> None:
        if _path_of(fd).is_relative_to(self.root):
            self._files.setdefault(os.fstat(fd).st_ino, WatchedFile()).loose.append((offset, data))

    def _sync(self, fd: int, sync: Callable[[int], None]) -> None:
        path = _path_of(fd)
        if not path.is_relative_to(self._home):
            sync(fd)
        if not path.is_relative_to(self.root):
            return
        self._observer.on_moment(f"before {path.name} is synced")
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode):
            self._names[path] = _list_names(path)
        elif (file := self._files.get(status.st_ino)) is not None:
            file.sync()

    # --- losing power ------------------------------------------------------------------------------------------------

    @contextmanager
    def make_image(self) -> Iterator[Path]:
        """A directory of what a loss of power at this moment could leave of the root, for a `with` block."""
        image = self._home / "image"
        self._write_directory(self.root, image)
        try:
            yield image
        finally:
            shutil.rmtree(image)

    def _write_directory(self, source: Path, target: Path) -> None:
        target.mkdir()
        now, synced = _list_names(source), self._names.get(source, {})
        paths = {inode: source / name for name, inode in now.items()}
        chosen: dict[int, bool] = {}
        """Inode -> its new names are there. A move is one change of two names, and happens or does not."""
        for name in sorted(now.keys() | synced.keys()):
            new, old = now.get(name), synced.get(name)
            inode = new
            if new != old:
                moved = new if new is not None else old
                assert moved is not None
                if moved not in chosen:
                    chosen[moved] = self._prng.chance(1, 2)
                inode = new if chosen[moved] else old
            if inode is not None:
                self._write_entry(inode, paths.get(inode), target / name)

    def _write_entry(self, inode: int, source: Path | None, target: Path) -> None:
        if source is not None and source.is_dir():
            self._write_directory(source, target)
        elif inode in self._files:
            target.write_bytes(self._files[inode].draw_image(self._prng))
        elif source is not None:
            shutil.copyfile(source, target)
        else:
            raise NotImplementedError(f"{target.name} has lost its name, and nobody watched what was written to it")


def _path_of(fd: int) -> Path:
    return Path(os.readlink(f"/proc/self/fd/{fd}"))


def _list_names(directory: Path) -> dict[str, int]:
    with os.scandir(directory) as entries:
        return {entry.name: entry.inode() for entry in entries}
