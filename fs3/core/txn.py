"""Transactions as the core sees them.

Operations on metadata are written once, as `async def op(txn, ...)`. On an embedded engine these methods never suspend, so a
lane runs a whole batch of operations to completion inside one write transaction; on a remote engine they do, and the same
functions run concurrently and are repeated on conflict. An operation therefore has no effect but through its `txn`.
"""

from __future__ import annotations

from typing import Protocol


class ReadTxn(Protocol):
    """A consistent view of the store."""

    async def get(self, key: bytes) -> bytes | None:
        """The value of a key, None when absent."""
        ...

    async def scan(self, begin: bytes, end: bytes, limit: int, *, reverse: bool = False) -> list[tuple[bytes, bytes]]:
        """At most `limit` rows with begin <= key < end, in key order (or in reverse, from the last)."""
        ...


class Txn(ReadTxn, Protocol):
    """A serializable read-write transaction. It sees its own writes. Nothing is visible to others before it commits."""

    def put(self, key: bytes, value: bytes) -> None:
        """Set a key."""
        ...

    def delete(self, key: bytes) -> None:
        """Remove a key; removing an absent one is fine."""
        ...
