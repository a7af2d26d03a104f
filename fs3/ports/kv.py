"""The transactional key-value store that metadata and the manager's state live in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from fs3.core.txn import ReadTxn, Txn

T = TypeVar("T")

ReadOp = Callable[[ReadTxn], Awaitable[T]]
WriteOp = Callable[[Txn], Awaitable[T]]
OnDone = Callable[[T | None, BaseException | None], None]
"""Called once, on the loop: (result, None) or (None, why)."""


class KV(Protocol):
    """Keys and values are bytes, keys ordered; keys of 1 to 480 bytes, values up to 1 MiB.

    `transact` is strictly serializable and durable when it returns: a later `read`, by anybody, sees it, also after power is
    lost. An exception raised by an operation drops its writes and is raised to its caller; operations of other callers that
    happen to share its commit are not affected. Operations may be run more than once and must only act through their txn.
    """

    def submit_read(self, op: ReadOp[T], done: OnDone[T]) -> None:
        """Run `op` on a snapshot of everything committed. On an embedded engine `done` is called before this returns."""
        ...

    def submit(self, op: WriteOp[T], done: OnDone[T]) -> None:
        """Run `op` in a transaction; `done` is called when it is durable. Transactions that wait share one commit.

        Operations submitted in one turn of the loop take effect in the order of their submission: a batch rests on that.
        """
        ...

    async def read(self, op: ReadOp[T]) -> T:
        """`submit_read`, awaited."""
        ...

    async def transact(self, op: WriteOp[T]) -> T:
        """`submit`, awaited."""
        ...

    async def close(self) -> None:
        """Finish what was submitted, then let go of the files."""
        ...
