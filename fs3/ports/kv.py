"""The transactional key-value store that metadata and the manager's state live in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from fs3.base.errors import FS3Error, InvalidArgument
from fs3.base.limits import key_bytes_stored_max
from fs3.base.status import Code
from fs3.base.units import MIB
from fs3.core.txn import ReadTxn, Txn
from fs3.model.metrics.metric import Sample

value_bytes_stored_max = 1 * MIB
"""Of a value in the transactional store."""

T = TypeVar("T")

KVRow = tuple[bytes, bytes]
"""Key, value."""
ReadOp = Callable[[ReadTxn], Awaitable[T]]
WriteOp = Callable[[Txn], Awaitable[T]]


class RoomMaker(Generic[T]):
    """A write operation that makes room, or without which none is made: on a full disk it may use what its store has in reserve.

    What it leaves behind must take less than what it removes; a store takes its owner's word for that.
    """

    __slots__ = ("_op",)

    def __init__(self, op: WriteOp[T]) -> None:
        self._op = op

    def __call__(self, txn: Txn) -> Awaitable[T]:
        """The operation."""
        return self._op(txn)


OnDone = Callable[[T | None, BaseException | None], None]
"""Called once, on the loop: (result, None) or (None, why)."""


class KV(Protocol):
    """Keys and values are bytes, keys ordered; keys of 1 to 480 bytes, values up to 1 MiB.

    `transact` is strictly serializable and durable when it returns: a later `read`, by any process, sees it, also after power is
    lost. An exception raised by an operation drops its writes and is raised to its caller; operations of other callers that
    happen to share its commit are not affected. Operations may be run more than once and must only act through their txn.

    Every row carries a sum over key and value: who meets one that is not what was written gets KVRowDamaged, never "absent".
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
        """Finish what was submitted, then close the files."""
        ...


class KVScrubStep(NamedTuple):
    """What one step of a scrub has looked at."""

    next: bytes | None
    """Where the next step begins; None: that was the end."""
    bytes: int
    rows: int


class ScrubbedKV(KV, Protocol):
    """A store on a disk, which may become damaged, and looks for it."""

    async def scrub(self, begin: bytes) -> KVScrubStep:
        """Read back some rows from the key `begin` on, b"" at first, and compare them with their sums.

        A damaged row, and an absent one whose place is beside it, is answered KVRowDamaged from then on, until it is deleted or
        replaced. Raises FS3Error: DATA_LOSS when the damage is such that the whole store must not be used any more.
        """
        ...

    def snapshot(self) -> AsyncIterator[Sequence[KVRow]]:
        """All rows as they are at one moment, in the order of their keys, page by page. Other processes may write meanwhile; this
        one must not. KVRowDamaged at a damaged row; FS3Error when the moment is too long ago."""
        ...

    @property
    def damaged_rows(self) -> tuple[bytes, ...]:
        """Keys under which damaged rows are known to be."""
        ...

    @property
    def failure(self) -> FS3Error | None:
        """Why nothing is written any more."""
        ...

    @property
    def problem(self) -> str:
        """What an operator has to know of the engine below it; empty when nothing is wrong."""
        ...

    def samples(self) -> Iterable[Sample]:
        """Its readings, as a `MetricSource` says them."""
        ...

    @property
    def description(self) -> str:
        """How the engine below it is, in a few words; empty when there is nothing to say."""
        ...


def future_callback() -> tuple[asyncio.Future[Any], OnDone[Any]]:
    """A future, and a callback for `submit` that settles it unless its owner has given up. On the running loop."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def done(result: Any, why: BaseException | None) -> None:
        if future.done():
            return
        if why is not None:
            future.set_exception(why)
        else:
            future.set_result(result)

    return future, done


def check_row(key: bytes, value: bytes) -> None:
    """Raises InvalidArgument for a row that not every store can hold: in the operation that is wrong, since at the commit it
    would fail the operations that share it."""
    if type(value) is not bytes or len(value) > value_bytes_stored_max:
        raise InvalidArgument(Code.INVALID, f"a value is at most {value_bytes_stored_max} bytes, this is {_describe(value)}")
    check_key(key)


def check_key(key: bytes) -> None:
    """Raises InvalidArgument for a key that not every store can hold."""
    if type(key) is not bytes or not 0 < len(key) <= key_bytes_stored_max:
        raise InvalidArgument(Code.INVALID, f"a key is 1 to {key_bytes_stored_max} bytes, this is {_describe(key)}")


def _describe(value: object) -> str:
    return f"{len(value)} bytes" if isinstance(value, bytes) else f"a {type(value).__name__}"
