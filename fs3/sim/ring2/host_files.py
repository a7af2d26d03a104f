"""What the processes of one simulated host share: boards of changes, marks of directories, and the bytes of chunks."""

from __future__ import annotations

import errno
from itertools import count

from fs3.base.ids import ChunkId, TargetId
from fs3.core.craq.change_board import OwnerMark
from fs3.drivers.memory.chunk_versions import MemoryVersion
from fs3.ports.host_files import SharedMemory


class SimFile:
    """A file: bytes that others may change or exchange behind it. `HostFile`."""

    def __init__(self, version: MemoryVersion | None = None, content: bytes = b"") -> None:
        self._version = version
        self.content = content
        """Of a file that is no version of a chunk."""

    @property
    def _bytes(self) -> bytes:
        return self._version.content if self._version is not None else self.content

    def read_at_once(self, view: memoryview, offset: int) -> bool:
        """See `HostFile.read_at_once`."""
        found = self._bytes[offset : offset + len(view)]
        if len(found) != len(view):
            return False
        view[:] = found
        return True

    def still_says(self, content: bytes) -> bool:
        """See `HostFile.still_says`."""
        return self._bytes.startswith(content)


class SimHostFiles:
    """`fs3.ports.host_files.HostFiles` of one host. Outlives its processes, as the host does."""

    clock_space = 1

    def __init__(self) -> None:
        self._memory: dict[str, memoryview] = {}
        self._files: dict[str, SimFile] = {}
        self._numbers = count(1)

    def create_memory(self, nbytes: int) -> SharedMemory:
        """See `HostFiles.create_memory`."""
        path = f"/memory/{next(self._numbers)}"
        view = self._memory[path] = memoryview(bytearray(nbytes))
        return SharedMemory(view, path, lambda: self._forget(path))

    def _forget(self, path: str) -> None:
        self._memory.pop(path, None)

    def open_memory(self, path: str, nbytes: int) -> memoryview:
        """See `HostFiles.open_memory`."""
        found = self._memory.get(path)
        if found is None or len(found) != nbytes:
            raise FileNotFoundError(errno.ENOENT, "there is no such memory", path)
        return found.toreadonly()

    def open_file(self, path: str) -> SimFile:
        """See `HostFiles.open_file`."""
        found = self._files.get(path)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "there is no such file", path)
        return found

    def mark(self, target: TargetId) -> OwnerMark:
        """A process takes the directory of a target: it writes its mark there."""
        path, content = f"/{target}/owner", f"{next(self._numbers)};".encode()
        self._files.setdefault(path, SimFile()).content = content
        return OwnerMark(path, content)

    def show(self, target: TargetId, chunk: ChunkId, version: MemoryVersion) -> str:
        """A file with the bytes of a version, which are there for as long as a client has it open."""
        path = f"/{target}/{chunk.hex()}/{version.version}/{next(self._numbers)}"
        self._files[path] = SimFile(version)
        return path

    def on_process_death(self) -> None:
        """What the storage process of the host had made is not found any more."""
        self._memory.clear()
        for path in [path for path in self._files if not path.endswith("/owner")]:
            del self._files[path]
