"""The chunk store on files: `FileChunkStore.open(path, target, clock)`."""

from fs3.drivers.chunks.config import ChunkStoreConfig
from fs3.drivers.chunks.state import ChunkStoreState
from fs3.drivers.chunks.store import FileChunkStore

__all__ = ["ChunkStoreConfig", "ChunkStoreState", "FileChunkStore"]
