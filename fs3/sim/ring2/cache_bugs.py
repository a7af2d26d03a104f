"""What the planted bugs of caches with budgets exchange: see `fs3.sim.ring2.bugs`."""

from __future__ import annotations

from fs3.base.ids import ChunkId
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.core.craq.effects import AnswerUpdate, Effect
from fs3.core.craq.events import UpdateReceived
from fs3.core.craq.flights import Flights
from fs3.core.craq.lanes import Lane
from fs3.core.craq.position import ChainRole
from fs3.core.kvcache.budget.page_cache import PageCache
from fs3.core.kvcache.budget.room import TargetRoom, Victim
from fs3.model.chunk import UpdateKind, UpdateResult
from fs3.ports.clock import Clock
from fs3.ports.disks import Disks
from fs3.services.storage.cache import keepers
from fs3.services.storage.cache.keeper import CacheKeeper
from fs3.services.storage.cache.keepers import CacheKeepers
from fs3.services.storage.cache.limits import ChainLimits
from fs3.services.storage.namespaces import NamespaceTable
from fs3.sim.ring2.service_bug import ServiceBug

WALL_SKEW_NS = 3600 * SECOND
"""How far behind the wall clock of a client is."""


def evict_from_two(self: Flights, now: int, lane: Lane, out: list[Effect]) -> None:
    """An eviction is no client's update: the target behind the head keeps it for itself."""
    update = lane.flight.update
    if update.kind is UpdateKind.REMOVE and not update.tag.client and self.position.role is ChainRole.BODY:
        self._commit(now, lane, out)
    else:
        _real_forward_or_commit(self, now, lane, out)


_real_forward_or_commit = Flights._forward_or_commit


def share_everything(self: ChainLimits, namespace_id: int, budget_bytes: int) -> int | None:
    """What one target has is compared with the budget of the whole namespace."""
    return budget_bytes


def born_by_the_client(self: PageCache, chunk: ChunkId, length: int, now: int) -> None:
    """A page is as old as its client's wall clock says."""
    _real_on_commit(self, chunk, length, now - WALL_SKEW_NS)


_real_on_commit = PageCache.on_commit


def exists_while_pending(self: Flights, now: int, event: UpdateReceived, out: list[Effect]) -> None:
    """Another client puts the page already: as good as there."""
    update, lane = event.update, self.lanes.get(event.update.chunk)
    same = lane is not None and lane.flight.update.kind is UpdateKind.PUT and lane.find(update) is None
    if same and update.kind is UpdateKind.PUT and not update.from_target:
        out.append(AnswerUpdate(event.token, UpdateResult(Code.EXISTS)))
    else:
        _real_on_update_received(self, now, event, out)


_real_on_update_received = Flights.on_update_received


async def forget_recency(disks: Disks, keeper: CacheKeeper, clock: Clock) -> None:
    """What was written down is not read."""
    await keeper.wait_counted()
    keeper.is_restored = True


def refuse_and_forget(self: Flights, now: int, event: UpdateReceived, out: list[Effect]) -> None:
    """That there was no room is not remembered."""
    out.append(AnswerUpdate(event.token, UpdateResult(Code.NO_SPACE, message=event.refusal)))


async def count_nothing(self: CacheKeeper) -> None:
    """What was there at opening is not counted."""
    self.cache.is_counted = True


def reserve_nothing(self: PageCache, chunk: ChunkId, length: int, now: int) -> None:
    """What is under way takes no room."""
    _real_reserve(self, chunk, 0, now)


_real_reserve = PageCache.reserve


def keep_for_files(self: TargetRoom, now: int) -> Victim | None:
    """Pages do not go because files need room."""
    return None


def none_is_deleted(self: NamespaceTable, namespace_id: int) -> bool:
    """Pages of namespaces that are no more are left alone."""
    return False


def tell_none(self: CacheKeepers) -> None:
    """The head does not hear what was read elsewhere."""


CACHE_BUGS: dict[str, ServiceBug] = {
    "evicts_from_two": ServiceBug(
        "an eviction is carried to two of three replicas",
        [(Flights, "_forward_or_commit", evict_from_two)],
        scene="evict_under_pressure",
    ),
    "budget_of_a_target": ServiceBug(
        "what one target has is compared with the budget of the whole namespace",
        [(ChainLimits, "share_of", share_everything)],
        scene="evict_under_pressure",
    ),
    "under_way_is_free": ServiceBug(
        "a put that is under way takes nothing of the budget",
        [(PageCache, "reserve", reserve_nothing)],
        scene="evict_under_pressure",
    ),
    "head_reads_alone": ServiceBug(
        "the head does not hear what was read from other replicas",
        [(CacheKeepers, "_exchange", tell_none)],
        scene="evict_under_pressure",
    ),
    "head_counts_nothing": ServiceBug(
        "a head that was restarted does not count the pages it had",
        [(CacheKeeper, "_count", count_nothing)],
        scene="fail_over_while_evicting",
    ),
    "files_find_no_room": ServiceBug(
        "a file that needs room does not have pages evicted",
        [(TargetRoom, "_find_for_room", keep_for_files)],
        scene="files_beside_a_full_cache",
    ),
    "keeps_cleared": ServiceBug(
        "the pages of a namespace that was cleared are not removed",
        [(NamespaceTable, "is_deleted", none_is_deleted)],
        scene="clear_while_putting",
    ),
    "forgets_refusal": ServiceBug(
        "a put that there was no room for is applied when a copy of it comes later",
        [(Flights, "_refuse_for_room", refuse_and_forget)],
        scene="put_beside_what_is_held",
    ),
    "exists_while_pending": ServiceBug(
        "EXISTS is answered for a page that is not committed",
        [(Flights, "on_update_received", exists_while_pending)],
        scene="put_what_is_pending",
    ),
    "expires_by_client": ServiceBug(
        "the age of a page is counted by the wall clock of its client",
        [(PageCache, "on_commit", born_by_the_client)],
        scene="expire_by_the_heads_clock",
    ),
    "forgets_recency": ServiceBug(
        "the order in which pages go is lost on a restart",
        [(keepers, "load_recency", forget_recency)],
        scene="restart_a_warm_cache",
    ),
}
