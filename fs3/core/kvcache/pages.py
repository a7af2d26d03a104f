"""KVCache pages as chunks: from a key to a chunk id, and what stands in front of a page and proves that it is the key's.

    chunk:  header (64 bytes) | key | page
    header: magic 8 | format u32 | key bytes u32 | page bytes u64 | check 32 | zeros 8        little-endian

A key (any bytes an engine chose) is hashed together with its namespace's id and the salt that came with it. 12 bytes of the
digest name the chunk, behind the namespace's id, so that the pages of a namespace are one range of chunk ids; 32 other bytes
are the header's check. A reader compares header and key after the bytes have arrived, so that neither a collision of the short
id nor a reused block nor a page of another layout can be taken for the key's: it is a miss.

Header and key are in front because a reader knows how long they are, but not how long the page is: a page that is shorter than
the reader's buffer arrives at the buffer's begin in the first answer, and a listing finds the keys by small reads.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple

from fs3.base.ids import CHUNK_ID_BYTES, PAGE_PREFIX_BYTES, PAGE_SALT_BYTES, ChunkId, page_namespace, page_prefix
from fs3.base.limits import page_bytes_max, page_header_bytes, page_key_bytes_max

_HEADER = struct.Struct("<8sIIQ32s8x")
_MAGIC = b"fs3page2"
_CHECK_BYTES = 32
_NAME_BYTES = CHUNK_ID_BYTES - PAGE_PREFIX_BYTES
_FORMAT = 2
_ID_BYTES = 8
"""Of a namespace's id in what is hashed; the rest is its salt."""

assert _HEADER.size == page_header_bytes
assert _ID_BYTES + PAGE_SALT_BYTES == blake2b.SALT_SIZE


class PageKey(NamedTuple):
    """What a key becomes."""

    chunk: ChunkId
    check: bytes
    """32 bytes of the key's digest that are not in the chunk id."""
    key: bytes


class PageHeader(NamedTuple):
    """What the first bytes of a page's chunk say, of whatever key the page is."""

    key_bytes: int
    page_bytes: int
    check: bytes

    @property
    def chunk_bytes(self) -> int:
        """Length of the whole chunk."""
        return page_header_bytes + self.key_bytes + self.page_bytes


def page_keys(namespace_id: int, salt: bytes, keys: Iterable[bytes]) -> list[PageKey]:
    """The chunk and the check of each key of a namespace. `salt`: see `CacheNamespace`."""
    keys = list(keys)
    prefix = page_prefix(namespace_id)
    return [
        PageKey(ChunkId(prefix + digest[:_NAME_BYTES]), digest[CHUNK_ID_BYTES:], key)
        for digest, key in zip(_digests(namespace_id, salt, keys), keys, strict=True)
    ]


def page_chunks(namespace_id: int, salt: bytes, keys: Iterable[bytes]) -> list[ChunkId]:
    """The chunk of each key of a namespace: `page_keys` where no page is read."""
    prefix = page_prefix(namespace_id)
    return [ChunkId(prefix + digest[:_NAME_BYTES]) for digest in _digests(namespace_id, salt, keys)]


def _digests(namespace_id: int, salt: bytes, keys: Iterable[bytes]) -> list[bytes]:
    # A copy of a salted state takes half the time that making one does.
    copy = blake2b(digest_size=CHUNK_ID_BYTES + _CHECK_BYTES, salt=namespace_id.to_bytes(_ID_BYTES, "little") + salt).copy
    digests = []
    for key in keys:
        state = copy()
        state.update(key)
        digests.append(state.digest())
    return digests


def front_bytes(key: bytes) -> int:
    """How many bytes of its chunk are in front of a key's page: the header and the key."""
    return page_header_bytes + len(key)


def front(page: PageKey, page_bytes: int) -> bytes:
    """Header and key of a page of so many bytes."""
    return _HEADER.pack(_MAGIC, _FORMAT, len(page.key), page_bytes, page.check) + page.key


def fronts(pages: Iterable[PageKey], lengths: Iterable[int]) -> list[bytes]:
    """Header and key of each of many pages of these lengths."""
    pack = _HEADER.pack
    return [pack(_MAGIC, _FORMAT, len(key), length, check) + key for (_, check, key), length in zip(pages, lengths, strict=True)]


def parse_header(data: bytes | bytearray | memoryview) -> PageHeader | None:
    """The header at the begin of `data`; None when there is none of this format, or one that says what cannot be."""
    if len(data) < page_header_bytes:
        return None
    magic, number, key_bytes, page_bytes, check = _HEADER.unpack_from(data)
    if magic != _MAGIC or number != _FORMAT or not 1 <= key_bytes <= page_key_bytes_max or not 1 <= page_bytes <= page_bytes_max:
        return None
    return PageHeader(key_bytes, page_bytes, check)


def page_length(found: bytes | bytearray | memoryview, page: PageKey) -> int:
    """How long this key's page is, as the header and key that were found say; 0 when they are not this key's."""
    header = parse_header(found)
    if header is None or bytes(found) != front(page, header.page_bytes):
        return 0
    return header.page_bytes


def is_stored_as(chunk: ChunkId, salt: bytes, key: bytes, header: PageHeader) -> bool:
    """The page that was found under a chunk id is really this key's, in the namespace with this salt."""
    (page,) = page_keys(page_namespace(chunk), salt, [key])
    return page.chunk == chunk and page.check == header.check and len(key) == header.key_bytes
