"""The embedded engine: LMDB."""

from __future__ import annotations

from fs3.drivers.lmdb.kv import LmdbKV

__all__ = ["LmdbKV"]
