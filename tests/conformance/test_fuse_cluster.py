"""The mount of a cluster passes the suite of file systems on the FUSE driver."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from fs3.api.fuse.options import FuseOptions
from fs3.sim.conformance.fuse import FuseTests
from tests.mounts import embedded_mount


class TestCluster(FuseTests):
    def mount(self, directory: Path) -> AbstractContextManager[Path]:
        return self._mount(directory)

    @contextmanager
    def _mount(self, directory: Path) -> Iterator[Path]:
        with embedded_mount(directory.parent / "fs3", directory):
            yield directory


class TestSubDirectory(FuseTests):
    """The mount of a directory of it."""

    def mount(self, directory: Path) -> AbstractContextManager[Path]:
        return self._mount(directory)

    @contextmanager
    def _mount(self, directory: Path) -> Iterator[Path]:
        home = directory.parent / "fs3"
        whole = directory.parent / "whole"
        whole.mkdir(exist_ok=True)
        with embedded_mount(home, whole):
            (whole / "some" / "where").mkdir(parents=True, exist_ok=True)
            with embedded_mount(home, directory, FuseOptions(path="/some/where")):
                yield directory
