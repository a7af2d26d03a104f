"""What one handle appends, gathered and appended as a whole."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fs3.api.file import File
from fs3.api.io import append_gather
from fs3.api.io.append_gather import AppendGather
from fs3.api.io.buffer_budget import BufferBudget, file_buffer_bytes_min
from fs3.base.errors import error
from fs3.base.ids import ChainId, InodeId, SessionId, TableId
from fs3.base.status import Code
from fs3.model.inode import Inode, InodeType, Layout

LIMIT = 100


class FakeClient:
    """One log, and unnamed files, in memory."""

    def __init__(self) -> None:
        self.log: list[bytes] = []
        self.unnamed: dict[File, bytearray] = {}
        self.ended: list[tuple[str, File]] = []
        self.refusal: Code | None = None
        """Of appends, or of unnamed files with `unnamed_refusal`."""
        self.unnamed_refusal: Code | None = None

    async def append(self, file: File, data: Any) -> int:
        if self.refusal is not None:
            raise error(self.refusal, "refused", file.path)
        self.log.append(bytes(data))
        return 0

    async def append_file(self, file: File, source: File) -> int:
        return await self.append(file, self.unnamed[source])

    async def open_unnamed(self, directory: str = "/", layout: Layout | None = None) -> File:
        if self.unnamed_refusal is not None:
            raise error(self.unnamed_refusal, "refused", directory)
        assert (directory, layout) == ("/d", Layout(TableId(1), 1 << 16, 1)), "chains cannot be asked for"
        made = file(2)
        self.unnamed[made] = bytearray()
        return made

    async def pwrite(self, file: File, data: Any, offset: int = 0) -> int:
        assert offset == len(self.unnamed[file])
        self.unnamed[file] += data
        return len(data)

    async def close(self, file: File) -> Inode:
        self.ended.append(("close", file))
        return file.inode

    async def abandon(self, file: File) -> None:
        self.ended.append(("abandon", file))


def file(number: int) -> File:
    layout = Layout(TableId(1), 1 << 16, 1, (ChainId(1),))
    inode = Inode(InodeId(number), InodeType.FILE, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, InodeId(0), layout)
    return File(inode, "/d/log", SessionId(number), appends=True)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    monkeypatch.setattr(append_gather, "append_gather_bytes", LIMIT)
    return FakeClient()


async def give(gather: AppendGather, *parts: bytes) -> None:
    for part in parts:
        if not gather.add(memoryview(part)):
            await gather.spill(memoryview(part))


def test_small_writes_are_one_append(client: FakeClient) -> None:
    handle = file(1)
    gather = AppendGather(client, handle, "/d")

    async def work() -> None:
        await give(gather, b"a" * 40, b"b" * 60)
        await gather.publish()
        await gather.publish()
        await give(gather, b"c")
        await gather.finish()

    asyncio.run(work())
    assert client.log == [b"a" * 40 + b"b" * 60, b"c"]
    assert client.ended == [("close", handle)]
    assert not client.unnamed


@pytest.mark.parametrize("sizes", [(99, 1, 1), (1, 100), (101,), (50, 60, 70, 500, 3), (100, 100, 100)])
def test_more_than_fits_is_one_append_too(client: FakeClient, sizes: tuple[int, ...]) -> None:
    handle = file(1)
    gather = AppendGather(client, handle, "/d")
    parts = [bytes([65 + index]) * size for index, size in enumerate(sizes)]

    async def work() -> None:
        await give(gather, *parts)
        assert client.log == []
        await gather.publish()
        await give(gather, *parts)
        await gather.finish()

    asyncio.run(work())
    assert client.log == [b"".join(parts)] * 2
    assert client.ended == [("abandon", spill) for spill in list(client.unnamed)[:2]] + [("close", handle)]


def test_what_is_discarded_is_nowhere(client: FakeClient) -> None:
    handle = file(1)
    gather = AppendGather(client, handle, "/d")

    async def work() -> None:
        await give(gather, b"a" * 150, b"b")
        await gather.discard()

    asyncio.run(work())
    assert client.log == []
    assert client.ended == [("abandon", spill) for spill in client.unnamed] + [("abandon", handle)]


def test_without_a_place_beside_the_file_it_is_appended_in_parts(client: FakeClient) -> None:
    client.unnamed_refusal = Code.ACCESS
    gather = AppendGather(client, file(1), "/d")

    async def work() -> None:
        await give(gather, b"a" * 60, b"b" * 60, b"c")
        await gather.finish()

    asyncio.run(work())
    assert client.log == [b"a" * 60, b"b" * 60, b"c"]


def test_a_failure_is_raised_ever_after_and_nothing_is_appended_again(client: FakeClient) -> None:
    handle = file(1)
    gather = AppendGather(client, handle, "/d")
    client.refusal = Code.DEADLINE

    async def work() -> None:
        await give(gather, b"a")
        with pytest.raises(TimeoutError):
            await gather.publish()
        client.refusal = None
        with pytest.raises(TimeoutError):
            gather.add(memoryview(b"b"))
        with pytest.raises(TimeoutError):
            await gather.finish()

    asyncio.run(work())
    assert client.log == []
    assert client.ended == [("abandon", handle)]


async def test_without_memory_little_is_gathered_and_still_all_is_one_append(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(append_gather, "append_gather_bytes", 8 * file_buffer_bytes_min)
    budget = BufferBudget(2, 1)
    gather = AppendGather(client, file(1), "/d", budget=budget)
    parts = [bytes([number]) * (file_buffer_bytes_min // 2) for number in range(5)] + [b"x" * (file_buffer_bytes_min + 1)]
    for part in parts:
        await give(gather, part)
        assert budget.held <= file_buffer_bytes_min
    await gather.publish()
    assert client.log == [b"".join(parts)]
    assert budget.held == 0
