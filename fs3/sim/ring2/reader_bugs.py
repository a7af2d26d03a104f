"""What the planted bugs of readers of removed files exchange: see `fs3.sim.ring2.bugs`."""

from __future__ import annotations

from collections.abc import Iterable

from fs3.base.ids import InodeId
from fs3.client.meta.readers import Readers
from fs3.core.meta import garbage
from fs3.core.meta.rows import Garbage
from fs3.core.txn import Txn
from fs3.model.inode import Inode
from fs3.services.meta.duties import garbage as garbage_duty
from fs3.sim.ring2.service_bug import ServiceBug


async def leave_in_queue(txn: Txn, inode: Inode) -> Inode:
    """A reader's session begins, and the file is reclaimed all the same."""
    return inode


async def begin_whatever_is_queued(txn: Txn, queued: Iterable[Garbage]) -> set[InodeId]:
    """Who reads what is about to be reclaimed is not looked at."""
    return {garbage.inode for garbage in queued}


async def tell_nothing(self: Readers) -> None:
    """What other clients remove is not kept."""


READER_BUGS: dict[str, ServiceBug] = {
    "reclaims_kept": ServiceBug(
        "a removed file that a client reads still is reclaimed",
        [(garbage, "unqueue", leave_in_queue), (garbage_duty, "begin_reclaim", begin_whatever_is_queued)],
        scene="read_on_what_was_removed",
    ),
    "reads_in_secret": ServiceBug(
        "a client does not tell what it has open, so that others remove it",
        [(Readers, "_look", tell_nothing)],
        scene="read_on_what_was_removed",
    ),
}
