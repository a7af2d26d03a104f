"""Planted bugs of the readers of pages."""

from __future__ import annotations

from fs3.api.kvcache import Status, page_io
from fs3.api.kvcache.results import status_of
from fs3.base.ids import ChainId, ChunkId, NodeId
from fs3.base.status import Code
from fs3.client.storage.reads import ReadOutcome
from fs3.client.storage.router import ReplicaRouter
from fs3.core.kvcache.pages import PageKey, page_length
from fs3.services.storage.cache.keeper import CacheKeeper
from fs3.sim.ring2.service_bug import ServiceBug


def members_that_serve(self: ReplicaRouter, chain: ChainId) -> tuple[NodeId, ...]:
    """What all replicas say that serve now is what all replicas say."""
    return self.candidates(chain).nodes


async def leave_to_others(*_: object) -> None:
    """A client that finds that no replica has a page leaves it where it is."""


def keep_lost_pages(self: CacheKeeper, chunk: ChunkId) -> None:
    """The head keeps a page that no replica has."""


def believe_the_buffer(
    outcome: ReadOutcome, found: memoryview, page: PageKey, room: int, *, is_exact: bool
) -> tuple[Status, int]:
    """A page is taken for as long as the buffer that it was read into."""
    if outcome.code is not Code.OK:
        return status_of(outcome.code), 0
    return (Status.OK, room) if page_length(found, page) else (Status.MISS, 0)


PAGE_BUGS: dict[str, ServiceBug] = {
    "lost_while_away": ServiceBug(
        "a page is given up when all replicas that serve at the moment have damaged copies",
        [(ReplicaRouter, "members", members_that_serve)],
        scene="the_good_copies_are_away",
    ),
    "damaged_page_stays": ServiceBug(
        "a page whose copies are all damaged is removed neither by a client nor by the head",
        [(page_io, "_clean_up", leave_to_others), (CacheKeeper, "remove_lost", keep_lost_pages)],
        scene="all_copies_are_damaged",
    ),
    "lost_page_stays": ServiceBug(
        "the head keeps a page that neither it nor any other replica has the bytes of",
        [(CacheKeeper, "remove_lost", keep_lost_pages)],
        scene="the_good_copies_are_gone",
    ),
}
