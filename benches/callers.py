"""Callers of one client process, who share its loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from fs3.api.client import Client


async def create_durably(client: Client, path: str) -> None:
    """One durable create in one round trip: the directory entry, the inode and the write session are on disk."""
    await client.open(path, "x")


async def operations_per_second(callers: int, count: int, operation: Callable[[int], Awaitable[object]]) -> float:
    """Operations/s of so many callers, each one at a time."""

    async def caller(first: int) -> None:
        for index in range(first, count, callers):
            await operation(index)

    began = time.perf_counter()
    await asyncio.gather(*(caller(first) for first in range(callers)))
    return count / (time.perf_counter() - began)
