"""On one host, large reads of every client come from the block files themselves, and are right."""

from __future__ import annotations

import hashlib
import os

import pytest

from fs3.api.connect import connect
from fs3.api.kvcache import KVCache, Status
from fs3.base.units import MIB

pytestmark = pytest.mark.processes

LENGTH = 3 * MIB + 17


def passed_block_files() -> set[str]:
    """Names of the block files that this process has open."""
    found: set[str] = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:
            continue
        if "/storage-" in path and "/blocks-" in path:
            found.add(path)
    return found


@pytest.mark.parametrize(("transport", "is_passed"), [("auto", True), ("tcp", False)])
async def test_pages_and_files(cluster_url: str, request: pytest.FixtureRequest, transport: str, is_passed: bool) -> None:
    before = passed_block_files()
    keys = [b"%d" % number for number in range(6)]
    pages = [hashlib.shake_128(key).digest(LENGTH) for key in keys]
    async with await KVCache.open(
        cluster_url, namespace=request.node.name, page_bytes=LENGTH, replicas=2, transport=transport, timeout=60
    ) as cache:
        assert await cache.put_from(keys, pages) == [Status.OK] * len(keys)
        for _ in range(3):
            into = [bytearray(LENGTH) for _ in keys]
            assert await cache.get_into(keys, into) == [Status.OK] * len(keys)
            assert into == [bytearray(page) for page in pages]
        assert bool(passed_block_files() - before) is is_passed
    assert passed_block_files() - before == set()
    async with await connect(cluster_url, transport=transport) as client:
        path = f"/{request.node.name}"
        file = await client.open(path, "w")
        assert await client.pwrite(file, pages[0]) == LENGTH
        await client.close(file)
        file = await client.open(path)
        assert await client.pread(file, LENGTH) == pages[0]
        await client.close(file)
        assert bool(passed_block_files() - before) is is_passed
        await client.unlink(path)
    assert passed_block_files() - before == set()
