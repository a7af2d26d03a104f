"""Identifiers, and the widths they are packed with."""

from __future__ import annotations

from typing import NewType

NodeId = NewType("NodeId", int)
"""A process with a role; u32, from 1."""
TargetId = NewType("TargetId", int)
"""One storage unit of a node, member of one chain; u32, from 1."""
ChainId = NewType("ChainId", int)
"""A replica group; u32, from 1."""
TableId = NewType("TableId", int)
"""A chain table; u32, from 1."""
InodeId = NewType("InodeId", int)
"""A file, directory, symlink, or the bytes of a file; u64 below `INODE_IDS_END`, never reused. 1: the root directory."""
ChunkId = NewType("ChunkId", bytes)
"""16 bytes. First byte 0: a chunk of a file (8 bytes content id, 8 bytes index, big-endian); >= 0x80: a KVCache page."""
ClientId = NewType("ClientId", bytes)
"""16 random bytes, one client object in one process."""
SessionId = NewType("SessionId", int)
"""A writer's open of one file, or a reader's of one that has no name any more; u64, from 1."""

ROOT_INODE = InodeId(1)
INODE_IDS_END = 1 << 56
"""No inode has this id or a larger one: the first byte of a file's chunk id stays 0."""
CHUNK_ID_BYTES = 16
NAMESPACE_IDS_END = 1 << 31
"""No KVCache namespace has this id or a larger one: 31 bits of a page's chunk id are its namespace's."""
PAGE_PREFIX_BYTES = 4
_PAGE = 1 << 31
CLIENT_ID_BYTES = 16
READER_SESSION = 1 << 63
"""Sessions of readers have this bit, the others do not."""
PAGE_SALT_BYTES = 8
"""Random bytes of each id that a KVCache namespace gets, hashed into the ids and checks of its pages."""


def reader_session(client: ClientId) -> SessionId:
    """The session of a client on whatever it reads that has no name any more: one per content, so no service has to draw it."""
    folded = int.from_bytes(client[:8], "big") ^ int.from_bytes(client[8:], "big")
    return SessionId(READER_SESSION | folded)


def file_chunk(inode: InodeId, index: int) -> ChunkId:
    """The id of chunk `index` of a file; chunks of one file are neighbours in key order."""
    return ChunkId(((inode << 64) | index).to_bytes(CHUNK_ID_BYTES, "big"))


def chunk_file(chunk: ChunkId) -> tuple[InodeId, int] | None:
    """The file and index a chunk id names; None for a KVCache page."""
    if chunk[0]:
        return None
    packed = int.from_bytes(chunk, "big")
    return InodeId(packed >> 64), packed & 0xFFFF_FFFF_FFFF_FFFF


def page_chunk(namespace_id: int, digest: bytes) -> ChunkId:
    """The id of a KVCache page: its namespace's prefix, then 96 bits of its key's digest."""
    return ChunkId(page_prefix(namespace_id) + digest[: CHUNK_ID_BYTES - PAGE_PREFIX_BYTES])


def page_prefix(namespace_id: int) -> bytes:
    """How the ids of a namespace's pages begin: the highest bit, 31 bits of its id. So they are neighbours in key order."""
    return (_PAGE | namespace_id).to_bytes(PAGE_PREFIX_BYTES, "big")


def is_page(chunk: ChunkId) -> bool:
    """The chunk is a KVCache page."""
    return chunk[0] >= 0x80


def page_namespace(chunk: ChunkId) -> int:
    """The id of the namespace that a KVCache page belongs to."""
    return int.from_bytes(chunk[:PAGE_PREFIX_BYTES], "big") ^ _PAGE


def page_range(namespace_id: int) -> tuple[ChunkId, ChunkId | None]:
    """The ids of a namespace's pages come after the first of these and before the second; None: they are the last there are."""
    bits = 8 * (CHUNK_ID_BYTES - PAGE_PREFIX_BYTES)
    first, end = (_PAGE | namespace_id) << bits, (_PAGE | namespace_id) + 1 << bits
    after = ChunkId((first - 1).to_bytes(CHUNK_ID_BYTES, "big"))
    return after, ChunkId(end.to_bytes(CHUNK_ID_BYTES, "big")) if end < 1 << 8 * CHUNK_ID_BYTES else None
