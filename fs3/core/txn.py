"""Transactions as the core sees them.

Operations on metadata are written once, as `async def op(txn, ...)`. On an embedded engine these methods never suspend, so a
lane runs a whole batch of operations to completion inside one write transaction; on a remote engine they do, and the same
functions run concurrently and are repeated on conflict. An operation therefore has no effect but through its `txn`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self

from fs3.base.checksum import ROW_SUM_BYTES, is_sealed
from fs3.base.errors import FS3Error
from fs3.base.status import Code


class KVRowDamaged(FS3Error):
    """A row is not what was written, or one may be missing because its key has become another one: absence is no answer there.

    The transaction it is raised in leaves no trace, as with any other error.
    """

    def __init__(self, key: bytes, damaged: bytes | None = None) -> None:
        """`key`: what was asked for; `damaged`: the key under which the damage was found, when that is another one."""
        self.key = key
        self.damaged = key if damaged is None else damaged
        where = "" if self.damaged == key else f" (or absent: beside it is the damaged row {self.damaged!r})"
        super().__init__(Code.DATA_LOSS, f"row {key!r} is damaged{where}")

    def __reduce__(self) -> tuple[object, ...]:
        return (KVRowDamaged, (self.key, self.damaged))


DAMAGED_VALUE = b"\xc1"
"""What a tolerant transaction shows of a damaged row: nothing that msgpack can read, so it is a row that cannot be read."""


def unseal_row(key: bytes, sealed: bytes, *, tolerant: bool) -> bytes:
    """The value of a row as it is stored. Of a damaged one DAMAGED_VALUE in a tolerant transaction, KVRowDamaged in any other."""
    if is_sealed(key, sealed):
        return sealed[ROW_SUM_BYTES:]
    if tolerant:
        return DAMAGED_VALUE
    raise KVRowDamaged(key)


class ReadTxn(Protocol):
    """A consistent view of the store. Its methods raise KVRowDamaged: what is damaged is never shown, and never absent."""

    async def get(self, key: bytes) -> bytes | None:
        """The value of a key, None when absent."""
        ...

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """`get` of each of these keys."""
        ...

    async def scan(self, begin: bytes, end: bytes, limit: int, *, reverse: bool = False) -> list[tuple[bytes, bytes]]:
        """At most `limit` rows with begin <= key < end, in key order (or in reverse, from the last)."""
        ...

    def tolerant(self) -> Self:
        """The same view, for who looks for damage in order to repair it: damaged rows, and those that may be missing beside them,
        have the value DAMAGED_VALUE and raise nothing."""
        ...


class Txn(ReadTxn, Protocol):
    """A serializable read-write transaction. It sees its own writes. Nothing is visible to others before it commits."""

    def put(self, key: bytes, value: bytes) -> None:
        """Set a key."""
        ...

    def delete(self, key: bytes) -> None:
        """Remove a key; removing an absent one is fine."""
        ...
