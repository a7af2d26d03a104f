"""What is damaged in a store that is served all the same: single rows, and the keys at which absence proves nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from fs3.core.txn import KVRowDamaged
from fs3.drivers.lmdb.page_file import DamagedRow

log = logging.getLogger("fs3.lmdb")


class KnownDamage:
    """Damaged rows, by the key under which each is found. Empty in a sound store, which `if damage:` asks."""

    __slots__ = ("rows",)

    def __init__(self, rows: Iterable[DamagedRow] = ()) -> None:
        self.rows: dict[bytes, DamagedRow] = {row.key: row for row in rows}

    def __bool__(self) -> bool:
        return bool(self.rows)

    def note(self, key: bytes) -> None:
        """A damaged row was met under a key. What may be missing beside it is known once the scrub has looked at its page."""
        if key not in self.rows:
            log.error("row %r is damaged", key)
            self.rows[key] = DamagedRow(key, key, key + b"\0")

    def require_absent(self, key: bytes) -> None:
        """The key was not found. Raises KVRowDamaged where it may be there nevertheless."""
        for row in self.rows.values():
            if row.begin <= key and (row.end is None or key < row.end):
                raise KVRowDamaged(key, row.key)

    def require_whole(self, begin: bytes, end: bytes) -> None:
        """Everything from `begin` to below `end` was found. Raises KVRowDamaged where a row may be missing."""
        for row in self.rows.values():
            if row.begin < end and (row.end is None or begin < row.end):
                raise KVRowDamaged(max(begin, row.begin), row.key)

    def require_writable(self, key: bytes) -> None:
        """Raises KVRowDamaged where a write may meet a row that is there and cannot be found. What is damaged may be replaced."""
        if key not in self.rows:
            self.require_absent(key)

    def forget(self, written: Iterable[bytes]) -> None:
        """Rows under these keys were deleted or replaced."""
        for key in written:
            self.rows.pop(key, None)

    def replace(self, begin: bytes, end: bytes | None, rows: Iterable[DamagedRow]) -> None:
        """The pages of the keys from `begin` to below `end` were looked at again, and these rows of them are damaged."""
        kept = {key: row for key, row in self.rows.items() if row.begin < begin or (end is not None and row.begin >= end)}
        self.rows = kept | {row.key: row for row in rows}
