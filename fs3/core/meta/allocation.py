"""Ids and chains for what is created.

Ids come from the counters row, inside the transaction, so they are a function of the rows alone and a replay gives the same.
Where several services write to one engine at once, each draws from a row of its own, its tally, which takes a block of ids from
the counters now and then: services that create files in different directories then write no row in common.
"""

from __future__ import annotations

from functools import lru_cache

from fs3.base.ids import ChainId, InodeId, NodeId, TableId
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.core.files.layout import explain_unusable
from fs3.core.meta import rows
from fs3.core.meta.context import NO_TALLY, OpContext
from fs3.core.meta.errors import MetaError
from fs3.core.txn import Txn
from fs3.model.inode import Inode, Layout

ids_per_block = 1 << 16
"""Ids that a service takes at once for its tally."""

SHUFFLES = 64
"""Orders of a table's chains that directories choose from: few enough to keep, enough that directories differ."""


async def allocate_ids(txn: Txn, ctx: OpContext, *, inodes: int, others: int = 0) -> int:
    """The first of `inodes + others` fresh ids, and counts the inodes. From the tally of the service that `ctx` names, which is
    filled from the counters when too few are left in it."""
    wanted = inodes + others
    if not ctx.tally:
        counters = await rows.get_counters(txn)
        first = counters.next_id
        rows.put_counters(txn, rows.NamespaceCounters(first + wanted, counters.inodes + inodes, counters.garbage))
        return first
    tally = await rows.get_tally(txn, ctx.tally)
    first, end = tally.next_id, tally.end_id
    if end - first < wanted:
        counters = await rows.get_counters(txn)
        first, end = counters.next_id, counters.next_id + max(ids_per_block, wanted)
        rows.put_counters(txn, rows.NamespaceCounters(end, counters.inodes, counters.garbage))
    rows.put_tally(txn, ctx.tally, rows.ServiceTally(first + wanted, end, tally.inodes + inodes, tally.garbage))
    return first


async def adjust_counts(txn: Txn, tally_of: NodeId = NO_TALLY, *, inodes: int = 0, garbage: int = 0) -> None:
    """Adds to the counts of inode rows and garbage rows: in the tally of this service, or in the counters."""
    if tally_of:
        tally = await rows.get_tally(txn, tally_of)
        counted = rows.ServiceTally(tally.next_id, tally.end_id, tally.inodes + inodes, tally.garbage + garbage)
        rows.put_tally(txn, tally_of, counted)
        return
    counters = await rows.get_counters(txn)
    rows.put_counters(txn, rows.NamespaceCounters(counters.next_id, counters.inodes + inodes, counters.garbage + garbage))


def file_layout(ctx: OpContext, directory: Inode, asked: Layout | None, path: str) -> Layout:
    """The layout of the next file of a directory: what is asked for, else what the directory says, else the default.

    Raises NO_TABLE when routing has no such table, or nothing says which one; INVALID for what `check_layout` refuses.
    """
    if asked is not None:
        check_layout(ctx, asked, path)
    inherited = directory.layout
    defaults = ctx.defaults
    wanted = asked if asked is not None else inherited
    table_id = wanted.table or inherited.table or defaults.table
    table = ctx.routing.tables.get(table_id)
    if table is None or not table.chains:
        raise MetaError(Code.NO_TABLE, _no_table(table_id, table is not None), path)
    chunk_size = wanted.chunk_size or inherited.chunk_size or defaults.chunk_size
    stripe = min(wanted.stripe or inherited.stripe or defaults.stripe, len(table.chains))
    return Layout(table_id, chunk_size, stripe, choose_chains(table.chains, directory.id, directory.dirent_serial, stripe))


def directory_layout(ctx: OpContext, inherited: Layout, asked: Layout | None, path: str) -> Layout:
    """The layout of a directory that inherits and is asked to have another one: fields of 0 are inherited."""
    if asked is None:
        return inherited
    check_layout(ctx, asked, path)
    return Layout(asked.table or inherited.table, asked.chunk_size or inherited.chunk_size, asked.stripe or inherited.stripe)


def check_layout(ctx: OpContext, layout: Layout, path: str) -> None:
    """Raises INVALID or NO_TABLE, naming the field, for a layout that cannot be asked for. Fields of 0 say "inherit"."""
    if unusable := explain_unusable(layout):
        raise MetaError(Code.INVALID, f"layout.{unusable}", path)
    if layout.chains:
        raise MetaError(Code.INVALID, "layout.chains cannot be asked for: they are chosen from the table", path)
    if layout.table and layout.table not in ctx.routing.tables:
        raise MetaError(Code.NO_TABLE, _no_table(layout.table, False), path)


def choose_chains(chains: tuple[ChainId, ...], directory: InodeId, serial: int, stripe: int) -> tuple[ChainId, ...]:
    """`stripe` different chains for file number `serial` of a directory.

    The directory picks one of a few shuffled orders and a place to begin; its files take one stretch after the other, so over
    a whole turn every chain is used equally often, and neighbouring directories do not start on the same chains. What it
    answers is stored in the file, so it may change in a later version; the tests hold it still all the same.
    """
    draw = Prng(directory).next()
    order = _shuffled(chains, draw % SHUFFLES)
    count = len(order)
    start = (draw // SHUFFLES + serial * stripe) % count
    end = start + stripe
    return order[start:end] if end <= count else order[start:] + order[: end - count]


@lru_cache(maxsize=4 * SHUFFLES)
def _shuffled(chains: tuple[ChainId, ...], seed: int) -> tuple[ChainId, ...]:
    order = list(chains)
    Prng(seed).shuffle(order)
    return tuple(order)


def _no_table(table: TableId, known: bool) -> str:
    if not table:
        return "neither the request, the directory nor the cluster's defaults name a chain table"
    return f"chain table {table} has no chains" if known else f"there is no chain table {table}"
