"""An append that the kernel asks the next process for, since the one before died with its answer, happens once."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import fs3
from fs3.api.client import Client
from fs3.api.fuse.append_end import NotedAppendEnd
from fs3.api.fuse.ledger import MountLedger
from fs3.drivers.fuse.lasting_memory import LastingMemory, create_memory
from fs3.drivers.fuse.protocol import UNIQUE_RESEND
from fs3.model.requests import Append
from tests.space import SpaceGuard


@asynccontextmanager
async def embedded(space_guard: SpaceGuard) -> AsyncIterator[Client]:
    with space_guard.lend("appends") as home:
        async with await fs3.connect_embedded(home) as client:
            yield client


@pytest.mark.parametrize("size", [10, 100_000])
@pytest.mark.parametrize("others", [False, True])
async def test_one_that_was_done_is_found(space_guard: SpaceGuard, size: int, others: bool) -> None:
    async with embedded(space_guard) as client:
        memory = create_memory()
        data = b"a" * size
        file = await client.open("/f", "a")
        await client.append(file, b"before" * size)
        first = NotedAppendEnd(client.meta, MountLedger(LastingMemory(memory)), 6)
        at = await client.append(file, data, end=first)
        if others:
            await client.append(file, b"behind")
        second = NotedAppendEnd(client.meta, MountLedger(LastingMemory(memory)), 6 | UNIQUE_RESEND)
        assert await second.find_earlier(memoryview(data), unnamed=False) == at == 6 * size
        assert (await client.stat("/f")).length == 7 * size + 6 * others
        await client.close(file)
        os.close(memory)


class _DiedError(Exception):
    pass


class _EndThatDies(NotedAppendEnd):
    def note(self, step: Append, start: int) -> int:
        super().note(step, start)
        raise _DiedError


@pytest.mark.parametrize("size", [10, 100_000])
async def test_one_that_was_not_done_is_not(space_guard: SpaceGuard, size: int) -> None:
    async with embedded(space_guard) as client:
        memory = create_memory()
        data = b"a" * size
        file = await client.open("/f", "a")
        await client.append(file, b"before" * size)
        with pytest.raises(_DiedError):
            await client.append(file, data, end=_EndThatDies(client.meta, MountLedger(LastingMemory(memory)), 6))
        ledger = MountLedger(LastingMemory(memory))
        second = NotedAppendEnd(client.meta, ledger, 6 | UNIQUE_RESEND)
        at = await second.find_earlier(memoryview(data), unnamed=False)
        if at is None:
            at = await client.append(file, data, end=second)
        assert at == 6 * size
        assert (await client.stat("/f")).length == 7 * size
        await client.close(file)
        os.close(memory)
