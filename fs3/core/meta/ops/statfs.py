"""StatFs: how much the namespace holds."""

from __future__ import annotations

from fs3.core.meta import rows
from fs3.core.txn import ReadTxn
from fs3.model.namespace import Counts


async def statfs(txn: ReadTxn) -> Counts:
    """Inodes, and those of them that wait to be reclaimed."""
    counters = await rows.sum_counters(txn)
    return Counts(counters.inodes, counters.garbage)
