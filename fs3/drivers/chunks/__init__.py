"""The chunk store on files: `FileChunkStore.open(path, target, clock)`."""

from fs3.drivers.chunks.planner import ChunkStoreConfig
from fs3.drivers.chunks.store import FileChunkStore

__all__ = ["ChunkStoreConfig", "FileChunkStore"]
