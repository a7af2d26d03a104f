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
from fs3.services.storage.cache.keeper import CacheKeeper
from fs3.services.storage.cache.keepers import CacheKeepers
from fs3.services.storage.cache.limits import ChainLimits
from fs3.services.storage.namespaces import NamespaceTable

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
