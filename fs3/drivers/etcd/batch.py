"""Operations that share a commit: what they have read and write, and how much of both one transaction of etcd holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from fs3.base.checksum import seal_row
from fs3.base.errors import error
from fs3.base.status import Code
from fs3.base.units import KIB
from fs3.drivers.etcd.client import etcd_request_bytes_max, etcd_txn_operations_max
from fs3.drivers.etcd.key_space import KeySpace
from fs3.drivers.etcd.transaction import OperationRun, ReadSet
from fs3.drivers.kv.write_set import WriteSet
from fs3.ports.kv import OnDone
from fs3.wire.etcd import EtcdCondition

_OWN_OPERATIONS = 4
"""Of each transaction, for the mark and the row of the process."""
_OWN_BYTES = 64 * KIB
_ROW_BYTES = 48
"""What a row or a condition takes beside its key and value."""


class WaitingOperation(NamedTuple):
    """An operation that was submitted."""

    operation: Any
    done: OnDone[Any]
    since: int
    """When."""


class EtcdBatch:
    """Operations in the order in which they take effect."""

    __slots__ = ("_bytes", "_keys", "is_whole", "outcomes", "reads", "revision", "writes")

    def __init__(self, keys: KeySpace) -> None:
        self._keys = keys
        self._bytes = _OWN_BYTES
        self.writes = WriteSet()
        self.reads = ReadSet()
        self.outcomes: list[tuple[WaitingOperation, OperationRun]] = []
        self.revision = -1
        """The newest change of the one state all of them were run on; -1: there were several."""
        self.is_whole = False
        """It has read more than a transaction can compare: it commits only if nothing at all has changed."""

    def admit(self, waiting: WaitingOperation, run: OperationRun, revision: int) -> bool:
        """Add an operation that has ended. False: it belongs into the next batch. `revision`: of the state that it ended in.

        One that writes more than a transaction can hold has failed, TOO_LARGE.
        """
        state = run.revision if run.revision == revision else -1
        rows = {} if run.failure is not None else run.txn.own.rows
        size = sum(len(key) + len(value or b"") + _ROW_BYTES for key, value in rows.items())
        compared = sum(len(key) + _ROW_BYTES for key in run.txn.reads.rows)
        compared += sum(len(begin) + len(end) + _ROW_BYTES for begin, end in run.txn.reads.scans)
        fits_reads = len(self.reads) + len(run.txn.reads) + _OWN_OPERATIONS <= etcd_txn_operations_max
        fits_reads = fits_reads and self._bytes + size + compared <= etcd_request_bytes_max
        fits_writes = len(self.writes.rows) + len(rows) + _OWN_OPERATIONS <= etcd_txn_operations_max
        fits_writes = fits_writes and self._bytes + size <= etcd_request_bytes_max
        if self.outcomes:
            if self.is_whole or not (fits_reads and fits_writes and self.reads.agrees_with(run.txn.reads)):
                return False
        elif not fits_writes:
            told = f"{len(rows)} rows of {size} bytes: etcd is told to admit {etcd_txn_operations_max} operations and"
            run.failure = error(Code.TOO_LARGE, f"a transaction changes {told} {etcd_request_bytes_max} bytes")
            rows, size = {}, 0
        elif not fits_reads:
            self.is_whole = True
        self.revision = state if not self.outcomes or self.revision == state else -1
        self.writes.rows.update(rows)
        self.reads.update(run.txn.reads)
        self._bytes += size + compared
        self.outcomes.append((waiting, run))
        return True

    def conditions(self, *, by_mark: bool) -> Iterator[EtcdCondition]:
        """What must hold at the commit. `by_mark`: that nothing has changed, which one comparison tells, if they were run on one
        state; else that what they have read is the same."""
        keys = self._keys
        if self.revision >= 0 and (by_mark or self.is_whole):
            yield EtcdCondition(keys.mark, self.revision)
            return
        for key, mod_revision in self.reads.rows.items():
            yield EtcdCondition(keys.row(key), mod_revision)
        # Rows that have gone are noticed by the conditions on each of them, those that have come by this.
        for (begin, end), revision in self.reads.scans.items():
            yield EtcdCondition(keys.row(begin), revision + 1, keys.row(end))

    def puts(self) -> dict[bytes, bytes]:
        """What is written, as etcd gets it."""
        row = self._keys.row
        return {row(key): seal_row(key, value) for key, value in self.writes.rows.items() if value is not None}

    def deletes(self) -> list[bytes]:
        """What is deleted, as etcd gets it."""
        row = self._keys.row
        return [row(key) for key, value in self.writes.rows.items() if value is None]
