"""Updates of one chunk that wait for each other, where each commit at once makes room for the next: a chain of one replica."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import fs3
from fs3.model.inode import Layout


async def test_they_follow_each_other_without_a_retry(tmp_path: Path) -> None:
    """The bytes of an update are let go when *it* is done, not when the one behind it is staged."""
    async with await fs3.connect_embedded(tmp_path) as client:
        for step, count in ((1000, 2), (1000, 40), (32_768, 12)):
            file = await client.open("/one", "w", Layout(0, 1 << 20, 0))
            data = os.urandom(step * count)
            await asyncio.gather(*(client.pwrite(file, data[at : at + step], at) for at in range(0, len(data), step)))
            assert await client.pread(file, len(data), 0) == data
            await client.close(file)
        assert client.storage.updates.retries == 0
