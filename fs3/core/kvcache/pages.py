"""KVCache pages as chunks: from a key to a chunk id, and the trailer that proves a page is the key's.

A key (any bytes an engine chose) is hashed together with its namespace's id. 12 bytes of the digest name the chunk, behind the
namespace's id, so that the pages of a namespace are one range of chunk ids; 32 other bytes stand in the trailer behind the page.
A reader compares them after the bytes have arrived, so that neither a collision of the short id nor a reused block nor a page of
another layout can be taken for the key's: it is a miss.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple

from fs3.base.ids import CHUNK_ID_BYTES, PAGE_PREFIX_BYTES, ChunkId, page_prefix
from fs3.base.limits import page_trailer_bytes

_TRAILER = struct.Struct("<8sIQ32s12x")
_MAGIC = b"fs3page1"
_CHECK_BYTES = 32
_NAME_BYTES = CHUNK_ID_BYTES - PAGE_PREFIX_BYTES
_FORMAT = 1

assert _TRAILER.size == page_trailer_bytes


class PageKey(NamedTuple):
    """What a key becomes."""

    chunk: ChunkId
    check: bytes
    """32 bytes of the key's digest that are not in the chunk id."""


def page_keys(namespace_id: int, keys: Iterable[bytes]) -> list[PageKey]:
    """The chunk and the check of each key of a namespace."""
    prefix = page_prefix(namespace_id)
    return [PageKey(ChunkId(prefix + digest[:_NAME_BYTES]), digest[CHUNK_ID_BYTES:]) for digest in _digests(namespace_id, keys)]


def page_chunks(namespace_id: int, keys: Iterable[bytes]) -> list[ChunkId]:
    """The chunk of each key of a namespace: `page_keys` where no page is read."""
    prefix = page_prefix(namespace_id)
    return [ChunkId(prefix + digest[:_NAME_BYTES]) for digest in _digests(namespace_id, keys)]


def _digests(namespace_id: int, keys: Iterable[bytes]) -> list[bytes]:
    # A copy of a salted state takes half the time that making one does.
    copy = blake2b(digest_size=CHUNK_ID_BYTES + _CHECK_BYTES, salt=namespace_id.to_bytes(16, "little")).copy
    digests = []
    for key in keys:
        state = copy()
        state.update(key)
        digests.append(state.digest())
    return digests


def trailer(check: bytes, page_bytes: int) -> bytes:
    """The 64 bytes that follow a page in its chunk."""
    return _TRAILER.pack(_MAGIC, _FORMAT, page_bytes, check)


def trailers(pages: Iterable[PageKey], page_bytes: int) -> bytes:
    """The trailers of many pages, one after the other."""
    pack = _TRAILER.pack
    return b"".join([pack(_MAGIC, _FORMAT, page_bytes, page.check) for page in pages])


def is_trailer_of(data: bytes | bytearray | memoryview, check: bytes, page_bytes: int) -> bool:
    """The 64 bytes behind a page say that it is this key's, with this size."""
    return bytes(data) == trailer(check, page_bytes)
