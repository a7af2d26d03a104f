"""Operations that share a commit, and what is counted about them."""

from __future__ import annotations

from typing import Any

from fs3.base.errors import FS3Error, error
from fs3.drivers.kv.write_set import WriteSet
from fs3.ports.kv import OnDone, WriteOp


class CommitBatch:
    """Operations that share a commit: what they write, and for each how to run it again and what to tell its caller."""

    __slots__ = ("outcomes", "uses_reserve", "writes")

    def __init__(self) -> None:
        self.writes = WriteSet()
        self.uses_reserve = False
        """It may take what is kept in reserve, since there is no other room."""
        self.outcomes: list[tuple[WriteOp[Any], OnDone[Any], Any, Exception | None]] = []


class KVStats:
    """What a store has done since it was opened."""

    __slots__ = ("commit_ns", "commits", "conflicts", "reruns", "rows", "transactions")

    def __init__(self) -> None:
        self.transactions = 0
        """Answered."""
        self.commits = 0
        """Synced to the disk."""
        self.rows = 0
        """Written by them."""
        self.commit_ns = 0
        """From handing a batch to the writer until it was durable; 0 without a clock."""
        self.conflicts = 0
        """Batches that met a commit of another process."""
        self.reruns = 0
        """Operations run again: the commit they built on failed, or another process was faster."""


def fail_batch(batch: CommitBatch, why: FS3Error) -> CommitBatch:
    """The batch with an error for every caller: one each, since one object raised in many places would chain tracebacks."""
    batch.outcomes = [(op, done, None, error(why.code, why.strerror or "", why.filename)) for op, done, _, _ in batch.outcomes]
    return batch
