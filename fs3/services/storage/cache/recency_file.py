"""The order in which the pages of a target go, as a file of the target."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping

from fs3.base.errors import FS3Error
from fs3.core.kvcache.budget.page_cache import NamespacePages
from fs3.core.kvcache.recency.recency import Recency
from fs3.core.kvcache.recency.sample import find_part_end, restore_part, sample_parts
from fs3.ports.clock import Clock
from fs3.ports.disks import Disks
from fs3.services.storage.cache.keeper import CacheKeeper

log = logging.getLogger("fs3.storage")


class _Recencies(Mapping[int, Recency]):
    """Those of the namespaces that have pages now."""

    def __init__(self, namespaces: Mapping[int, NamespacePages]) -> None:
        self._namespaces = namespaces

    def __getitem__(self, namespace_id: int) -> Recency:
        return self._namespaces[namespace_id].recency

    def __iter__(self) -> Iterator[int]:
        return iter(self._namespaces)

    def __len__(self) -> int:
        return len(self._namespaces)


async def save_recency(disks: Disks, keeper: CacheKeeper, clock: Clock) -> None:
    """Write it down. A failure is logged, and the next call tries again: what is on the disk then is older, or nothing."""
    cache = keeper.cache
    keeper.apply_reads(clock.now())
    if not keeper.is_restored or not keeper.is_changed:
        return  # what is not known yet would be forgotten
    keeper.is_changed = False
    parts: list[bytes] = []
    for part in sample_parts(_Recencies(cache.namespaces).values(), clock.now()):
        parts.append(part)
        await asyncio.sleep(0)
    try:
        await disks.write_recency(keeper.shell.target, b"".join(parts))
    except FS3Error as failure:
        keeper.is_changed = True
        log.warning("target %d: the order of its pages is not written down: %s", keeper.shell.target, failure)


async def load_recency(disks: Disks, keeper: CacheKeeper, clock: Clock) -> None:
    """Take over what was written down, once the pages that are here are known. Parts that are damaged are passed over, and
    the log says so.

    How long the node was away is not added to the age of pages: only a wall clock could tell, and those jump.
    """
    target = keeper.shell.target
    await keeper.wait_counted()
    data = b""
    try:
        data = await disks.read_recency(target)
    except FS3Error as failure:
        log.warning("target %d: the order of its pages is not known any more: %s", target, failure)
    at = damaged_bytes = 0
    while at < len(data):
        begin, is_damaged = at, find_part_end(data, at) is None
        at = restore_part(data, at, _Recencies(keeper.cache.namespaces), clock.now())
        damaged_bytes += (at - begin) * is_damaged
        await asyncio.sleep(0)
    if damaged_bytes:
        why = f"{damaged_bytes} of {len(data)} bytes are not what was written"
        log.warning("target %d: the order of its pages is damaged, and some count as old: %s", target, why)
    keeper.is_restored = True
