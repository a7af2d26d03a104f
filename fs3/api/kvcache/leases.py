"""What a lookup has leased: pages that stay while they are read."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias

from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.client.storage.page_heads import LeasedAt


class LeaseGranter(Protocol):
    """A client that can end leases: `StorageClient`, `GuardedStorage`."""

    async def release(self, leases: Sequence[LeasedAt], *, timeout_ns: int) -> None:
        """End leases at once."""
        ...


release_timeout_ns = 1 * SECOND
"""How long `release` waits for the nodes; a lease whose node does not hear of it ends by itself."""


class PageLease:
    """The pages that a lookup found and leased. They are neither evicted nor expire until the lease is released or its time is
    over. A client may still remove them, and when the head of a chain fails its leases are gone: then a get is a clean miss.

        found = await cache.lookup(keys, lease_ms=5000)
        async with found.lease:
            statuses = await cache.get_into(keys[: found.hits], buffers)
    """

    def __init__(
        self, storage: LeaseGranter, held_at: Sequence[LeasedAt], pages: int, unleased: Sequence[int], lease_ms: int
    ) -> None:
        self._storage = storage
        self._held_at = held_at
        self.pages = pages
        """How many are leased."""
        self.unleased: Sequence[int] = unleased
        """The keys that were found and could not be leased, by index: the storage nodes have no room for more leases. Usually
        none."""
        self.lease_ms = lease_ms
        """Counted by the storage nodes from when they answered."""

    def __repr__(self) -> str:
        return f"<PageLease of {self.pages} pages for {self.lease_ms} ms>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.release()

    async def release(self) -> None:
        """The pages are not read any more. Never raises for what happens at the storage nodes; a second time does nothing."""
        held_at, self._held_at = self._held_at, ()
        if held_at:
            try:
                await self._storage.release(held_at, timeout_ns=release_timeout_ns)
            except FS3Error:
                return  # the client is closed: the lease ends by itself


RunCall: TypeAlias = "Callable[[Coroutine[Any, Any, None]], None]"
"""Runs a coroutine on the loop of a cache and waits for it."""


class BlockingLease:
    """A `PageLease` for code without an event loop."""

    def __init__(self, lease: PageLease, run: RunCall) -> None:
        self._lease = lease
        self._run = run
        self.pages = lease.pages
        """See `PageLease`, as of the others."""
        self.unleased = lease.unleased
        self.lease_ms = lease.lease_ms

    def __repr__(self) -> str:
        return repr(self._lease)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None) -> None:
        self.release()

    def release(self) -> None:
        """`PageLease.release`. Does nothing after the cache was closed: the lease ends by itself."""
        try:
            self._run(self._lease.release())
        except FS3Error as failure:
            if failure.code not in (Code.INVALID, Code.CANCELLED):
                raise
