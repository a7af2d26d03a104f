"""Making a namespace of a copy of its rows: ids that were given since the copy was made are never given again.

Files that were made after the copy have chunks in storage, under ids that the copy does not know of. Were these ids drawn again,
new files would show the bytes of others. Nothing that is sure to be left says how many were drawn: the store is what was lost,
and the same copy may be put back twice. So a restored namespace goes on from an id that the clock gives: no more than
`inode_ids_per_second_max` ids are drawn per second, so whatever was drawn until now, also after an earlier restore, is below what
the clock gives now.
"""

from __future__ import annotations

from fs3.base.ids import INODE_IDS_END
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.core.meta import rows
from fs3.core.meta.errors import MetaError
from fs3.core.txn import ReadTxn, Txn

inode_ids_per_second_max = 1 << 20
"""On average over months. Ids of restored namespaces stay below 2**53 until the year 2242: JSON readers take them for what they
are."""


def first_id_at(wall_ns: int) -> int:
    """What a namespace that is restored at this moment goes on from."""
    return wall_ns * inode_ids_per_second_max // SECOND


async def next_id(txn: ReadTxn) -> int:
    """What a namespace draws next."""
    return (await rows.get_counters(txn)).next_id


async def raise_next_id(txn: Txn, wall_ns: int, known: int) -> int:
    """Let a restored namespace go on above all ids that were ever given; returns the first of them.

    `known`: the next id of the store that is replaced, 0 when it cannot be read. Raises MetaError INVALID when a clock must have
    been wrong, now or when the ids were given.
    """
    counters = await rows.get_counters(txn)
    first = first_id_at(wall_ns)
    given = max(counters.next_id, known)
    if given > first or first >= INODE_IDS_END:
        raise MetaError(
            Code.INVALID,
            f"inode ids up to {given} have been given, but the clock of this machine gives {first}: it is wrong, or was at an "
            "earlier restore",
        )
    summed = await rows.sum_counters(txn)
    for key, _ in await rows.find_tallies(txn):
        txn.delete(key)  # with the ids left in it, which may have been given since
    rows.put_counters(txn, rows.NamespaceCounters(first, summed.inodes, summed.garbage))
    return first
