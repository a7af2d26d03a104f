"""A load on real processes: what it adds is bounded in bytes, however fast it is and however long, and can be removed again."""

from __future__ import annotations

import asyncio

import pytest

from fs3.api.connect import connect
from fs3.api.kvcache import KVCache, Status
from fs3.base.units import MIB
from fs3.cli.local import LocalCluster
from fs3.drill.load import NAMESPACE, home_of
from fs3.drill.verify import remove_written_now

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

NEW_BYTES = 3 * MIB
FILE_OPERATIONS = 120
"""So many would write 50 MiB, were it not for the bound."""


def test_a_load_is_bounded_in_bytes_and_leaves_nothing_that_cannot_be_removed(drilled: LocalCluster, under_load) -> None:
    with under_load(drilled, new_bytes_max=NEW_BYTES, pause_ms=0.5, files=2, pages=2) as load:
        load.wait_progress("file", FILE_OPERATIONS, 60)
        load.wait_progress("get", 10, 60)
    journal, seed = load.journal, load.options.seed
    assert 0 < sum(journal.files.values()) <= NEW_BYTES
    assert 0 < len(journal.pages) * journal.page_bytes <= NEW_BYTES
    remove_written_now(drilled.url, journal, seed)

    async def check_gone() -> None:
        async with await connect(drilled.url) as client:
            assert not await client.exists(home_of(seed))
            cache = await KVCache.of(client, namespace=NAMESPACE, page_bytes=journal.page_bytes)
            buffers = [bytearray(journal.page_bytes) for _ in journal.pages]
            assert set(await cache.get_into(journal.pages, buffers)) == {Status.MISS}

    asyncio.run(check_gone())
