"""Every file system on the FUSE driver passes the same suite."""

from contextlib import AbstractContextManager
from pathlib import Path

from fs3.drivers.fuse.operations import Operations
from fs3.sim.conformance.fuse import FuseTests, mounted
from fs3.sim.conformance.fuse_memory import MemoryOperations


async def _memory() -> Operations:
    return MemoryOperations()


class TestMemory(FuseTests):
    def mount(self, directory: Path) -> AbstractContextManager[Path]:
        return mounted(directory, _memory)
