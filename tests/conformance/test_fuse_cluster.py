"""The mount of a cluster passes the suite of file systems on the FUSE driver."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from fs3.sim.conformance.fuse import FuseTests
from tests.mounts import embedded_mount


class TestCluster(FuseTests):
    def mount(self, directory: Path) -> AbstractContextManager[Path]:
        return self._mount(directory)

    @contextmanager
    def _mount(self, directory: Path) -> Iterator[Path]:
        with embedded_mount(directory.parent / "fs3", directory):
            yield directory
