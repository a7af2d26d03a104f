"""LMCache's keys and layouts as bytes: what a page is called, and the mark that it begins with."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from lmcache.v1.distributed.api import ObjectKey

MARK_BYTES = 16

layouts_cached_max = 4096
"""A server sees a handful of layouts, and one more for each length of a partial chunk."""


def page_key(key: ObjectKey) -> bytes:
    """The name of an object among those of its model: rank, group, hash and, where there is one, salt."""
    text = f"{key.kv_rank:08x}@{key.object_group_id:x}@{key.chunk_hash.hex()}"
    return (f"{text}@{key.cache_salt}" if key.cache_salt else text).encode()


def object_key(model: str, page: bytes) -> ObjectKey | None:
    """The object whose page has this key; None for a key that is none of LMCache's."""
    fields = page.decode(errors="replace").split("@")
    try:
        rank, group, chunk_hash, *salt = fields
        return ObjectKey(bytes.fromhex(chunk_hash), model, int(rank, 16), int(group, 16), *salt)
    except (ValueError, TypeError):
        return None


def cursor_of(model: str, key: bytes | None) -> str:
    """Text for a place in a listing."""
    return f"{model.encode().hex()}.{'' if key is None else key.hex()}"


def place_of(cursor: str) -> tuple[str, bytes | None]:
    """The place that a text is for. Raises ValueError for one that is none."""
    try:
        model, key = cursor.split(".")
        return bytes.fromhex(model).decode(), bytes.fromhex(key) if key else None
    except ValueError:
        raise ValueError(f"cursor {cursor!r} is none that this adapter has told") from None


def layout_mark(memory: Any) -> bytes:
    """What stands before an object's bytes: the same for objects of the same shapes and types only."""
    meta = memory.meta
    return mark_of(meta.shapes or (meta.shape,), meta.dtypes or (meta.dtype,))


def mark_of(shapes: Sequence[Sequence[int]], types: Sequence[Any]) -> bytes:
    """The mark of these shapes and types."""
    return _mark(tuple(map(tuple, shapes)), tuple(types))


@lru_cache(layouts_cached_max)
def _mark(shapes: tuple[tuple[int, ...], ...], types: tuple[Any, ...]) -> bytes:
    text = repr((shapes, [str(each) for each in types]))
    return blake2b(text.encode(), digest_size=MARK_BYTES, person=b"fs3 lmcache 1").digest()
