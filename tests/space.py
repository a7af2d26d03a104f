"""How much room the tests take in the temporary directory, and that they leave none of it behind.

Nearly all of it is block files of clusters of real processes. Each is bounded where it is written (loads in bytes, not in time:
`fs3.drill.load.LoadOptions.new_bytes_max`) and removed by the fixture that made it; here both are looked at.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fs3.base.units import GIB, MIB, format_size

WORKER_BYTES_MAX = 3 * GIB + 512 * MIB
"""What the tests of one worker occupy at any moment. `make test` has two workers."""
PART_BYTES_MIN = 1 * GIB
"""What some tests, named on the command line, should find free."""
LEFT_BYTES_MAX = 64 * MIB
"""What a module of tests leaves behind, besides clusters that the whole session shares."""
KEPT_FILE_BYTES_MAX = 16 * MIB
"""The largest file that stays of a test that failed: logs, journals and indices do. Blocks never do."""


def explain_shortage(free_bytes: int, workers: int, directory: Path, *, is_whole: bool) -> str:
    """Why the tests should not begin in that temporary directory; "" when there is room enough."""
    need = WORKER_BYTES_MAX * max(workers, 1) if is_whole else PART_BYTES_MIN
    if free_bytes >= need:
        return ""
    return (
        f"the tests need {format_size(need)} in {directory}, {format_size(free_bytes)} are free: "
        "make room there, or set TMPDIR to a directory that has it"
    )


def occupied_bytes(directory: Path, *, without: Collection[Path] = ()) -> int:
    """What the files below a directory occupy on its file system: holes count as nothing, other mounts neither. What vanishes
    meanwhile has no size. Directories in `without` are not looked at: to subtract what a running cluster occupies would count
    what it gives back between two looks as left behind."""
    return sum(size for size, _ in _walk(directory, without))


def list_largest(directory: Path, count: int = 5, *, without: Collection[Path] = ()) -> str:
    """The largest files below a directory, for messages."""
    found = sorted(_walk(directory, without), reverse=True)[:count]
    return ", ".join(f"{path.relative_to(directory)} {format_size(size)}" for size, path in found)


def _walk(directory: Path, without: Collection[Path] = ()) -> Iterator[tuple[int, Path]]:
    device = directory.stat().st_dev
    for parent, directories, names in os.walk(directory):
        directories[:] = [
            name for name in directories if Path(parent, name) not in without and _is_on(device, Path(parent, name))
        ]
        for name in names:
            path = Path(parent, name)
            try:
                status = path.lstat()
            except FileNotFoundError:
                continue
            if status.st_dev == device:
                yield status.st_blocks * 512, path


def _is_on(device: int, directory: Path) -> bool:
    """No other mount, which may be slow to walk, or dead."""
    try:
        return directory.lstat().st_dev == device
    except OSError:
        return False


def remove_bulk(directory: Path) -> None:
    """Remove block files and other large files below a directory, and leave what tells what has happened."""
    for size, path in list(_walk(directory)):
        if size > KEPT_FILE_BYTES_MAX or path.name.startswith("blocks-"):
            path.unlink(missing_ok=True)


class SpaceGuard:
    """Looks at what the tests of this worker occupy."""

    def __init__(self, factory: pytest.TempPathFactory, session: pytest.Session) -> None:
        self._factory = factory
        self._directory = factory.getbasetemp()
        self._session = session
        self._shared: set[Path] = set()

    def check_peak(self) -> None:
        """Fails when the tests occupy more than the worker has."""
        occupied = occupied_bytes(self._directory)
        assert occupied <= WORKER_BYTES_MAX, (
            f"the tests occupy {format_size(occupied)}, at most {format_size(WORKER_BYTES_MAX)} are planned for: "
            + list_largest(self._directory)
        )

    def occupied(self) -> int:
        """What the tests occupy now, in bytes, besides the clusters that the session shares."""
        return occupied_bytes(self._directory, without=self._shared)

    def check_left(self, before: int = 0) -> None:
        """Fails when what is over has left something, unless a test has failed: of that, small files stay on purpose.

        `before`: what was occupied when it began, so that the module that leaves something is the one that is told.
        """
        if self._session.testsfailed:
            return
        left = self.occupied() - before
        assert left <= LEFT_BYTES_MAX, (
            f"{format_size(left)} are left in {self._directory}: {list_largest(self._directory, without=self._shared)}"
        )

    @contextmanager
    def lend(self, name: str, *, shared: bool = False) -> Iterator[Path]:
        """An empty directory for a `with` block. When a test fails meanwhile, its small files stay; else nothing does.

        `shared`: for the whole session.
        """
        failed = self._session.testsfailed
        directory = self._factory.mktemp(name)
        if shared:
            self._shared.add(directory)
        try:
            yield directory
        finally:
            if self._session.testsfailed == failed:
                shutil.rmtree(directory, ignore_errors=True)
            else:
                remove_bulk(directory)
            self._shared.discard(directory)
