"""What the check of a namespace does with its counters and the tallies of services."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fs3.core.meta import keys, rows
from fs3.core.meta.errors import MetaError
from fs3.core.txn import DAMAGED_VALUE, ReadTxn
from fs3.model.check import CheckPage, Problem, ProblemKind


async def counters_row(txn: ReadTxn) -> bytes:
    """The counters with all tallies added, as a row that is another one after any of them has changed; one that cannot be read
    when one of them cannot."""
    row = await txn.get(keys.COUNTERS) or b""
    tallies = await rows.find_tallies(txn)
    if not tallies or parse_counters(row) is None:
        return row
    try:
        summed = await rows.sum_counters(txn)
        drawn = sum(rows.decode_tally(key, tally).next_id for key, tally in tallies)
    except MetaError:
        return DAMAGED_VALUE + row
    return rows.encode((summed.next_id, summed.inodes, summed.garbage, drawn))


def parse_counters(row: bytes) -> rows.NamespaceCounters | None:
    """The counters from their row; None when it is missing or cannot be read."""
    try:
        return msgspec.msgpack.decode(row, type=rows.NamespaceCounters)
    except msgspec.MsgspecError:
        return None


def parse_tally(key: bytes, row: bytes) -> rows.ServiceTally | None:
    """A tally from its row; None when it cannot be read."""
    try:
        return rows.decode_tally(key, row)
    except MetaError:
        return None


async def check_ids(txn: ReadTxn, page: CheckPage, ids: Sequence[int]) -> None:
    """Those in use are not drawn again: they are below the next one of the counters, and not among those left to a service."""
    largest = max(ids, default=0)
    if not largest:
        return
    for key, row in await rows.find_tallies(txn):
        tally = parse_tally(key, row)
        if tally is not None and (taken := [each for each in ids if tally.next_id <= each < tally.end_id]):
            page.problems.append(Problem(ProblemKind.ID_IN_USE, max(taken), found=tally.next_id))
    counters = parse_counters(await txn.get(keys.COUNTERS) or b"")  # unreadable: said once, by NamespaceCheck
    if counters is not None and largest >= counters.next_id:
        page.problems.append(Problem(ProblemKind.ID_IN_USE, largest, found=counters.next_id))
