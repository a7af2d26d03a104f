"""Where a store's rows are among the keys of an etcd cluster.

PREFIX m              the mark, written by every transaction: its revision is that of the newest change
PREFIX f              the format of the store
PREFIX p PROCESS      the number of the last commit of one process, kept for as long as its lease
PREFIX r KEY          the row of a key
"""

from __future__ import annotations

from collections.abc import Iterable

from fs3.wire.etcd import EtcdChange, EtcdRange


class KeySpace:
    """The keys of one store. Nothing else may write under its prefix."""

    __slots__ = ("_rows", "begin", "end", "format", "mark", "prefix")

    def __init__(self, prefix: bytes) -> None:
        """`prefix`: not empty, and no beginning of another store's."""
        assert prefix
        self.prefix = prefix
        self.begin = prefix
        self.end = prefix[:-1] + bytes([prefix[-1] + 1])
        """Behind all keys of the store."""
        self.mark = prefix + b"m"
        self.format = prefix + b"f"
        self._rows = prefix + b"r"

    def process(self, instance: bytes) -> bytes:
        """Of one opening of the store."""
        return self.prefix + b"p" + instance

    def row(self, key: bytes) -> bytes:
        """Of a key of the store."""
        return self._rows + key

    def strip(self, key: bytes) -> bytes:
        """The key of the store, of a `row`."""
        return key[len(self._rows) :]

    def to_etcd(self, wanted: EtcdRange) -> EtcdRange:
        """A range of keys of the store."""
        end = self._rows + wanted.end if wanted.end else b""
        return EtcdRange(self._rows + wanted.begin, end, wanted.limit, wanted.reverse)

    def rows_of(self, changes: Iterable[EtcdChange]) -> list[EtcdChange]:
        """Those changes that are of rows, with the keys of the store."""
        rows, cut = self._rows, len(self._rows)
        return [EtcdChange(key[cut:], value, at) for key, value, at in changes if key.startswith(rows)]
