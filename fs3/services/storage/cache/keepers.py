"""The keepers of all targets of a node: when they are called, what they tell the other replicas, what they write down.

The order in which pages go is kept in memory, by every replica. It is written to a file of the target now and then, and at a
clean stop, and read once the pages of the target have been counted at opening: so a cache is warm after a restart, or nearly so.
Nothing depends on it but the choice of victims: a file that is missing, old or damaged makes a cold start and no more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from fs3.base.errors import FS3Error
from fs3.base.ids import NodeId, TargetId
from fs3.base.limits import attempt_timeout_ns
from fs3.base.units import MILLISECOND, SECOND
from fs3.client.routing import RoutingSource
from fs3.ports.disks import Disks
from fs3.ports.rpc import Call
from fs3.runtime.tasks import TaskSet
from fs3.services.storage.cache.keeper import CacheKeeper
from fs3.services.storage.cache.limits import ChainLimits
from fs3.services.storage.cache.recency_file import load_recency, save_recency
from fs3.services.storage.foreground_load import ForegroundLoad
from fs3.services.storage.node_context import NodeContext
from fs3.services.storage.target import TargetShell
from fs3.services.storage.target_map import TargetMap
from fs3.wire.methods import STORAGE
from fs3.wire.storage_cache import (
    SharedTouches,
    share_touches_reply_to_pb,
    share_touches_request_from_pb,
    share_touches_request_to_pb,
)

log = logging.getLogger("fs3.storage")


cache_tick_ns = 100 * MILLISECOND
"""How often a target looks whether room is to be made in the background, and takes note of what was read meanwhile."""

recency_sample_ns = 60 * SECOND
"""How often the order in which the pages of a target go is written down."""


class CacheKeepers:
    """One per node; the `TargetListener` that gives each target its keeper. Belongs to one event loop."""

    def __init__(
        self,
        targets: TargetMap,
        disks: Disks,
        context: NodeContext,
        foreground: ForegroundLoad,
        source: RoutingSource,
    ) -> None:
        self._by_target: dict[TargetId, CacheKeeper] = {}
        self.by_target: Mapping[TargetId, CacheKeeper] = self._by_target
        """The keeper of every target that is open."""
        self._limits: dict[TargetId, ChainLimits] = {}
        self._targets = targets
        self._disks = disks
        self._context = context
        self._clock = context.clock
        self._foreground = foreground
        self._source = source
        self._timer: asyncio.TimerHandle | None = None
        self._exchanged_at = 0
        self._sampled_at = self._clock.now()
        self._sending: set[TargetId] = set()
        """Targets that are being told something."""
        self._tasks = TaskSet()
        self._is_stopped = False
        context.namespaces.on_change(self.on_namespaces_changed)

    # --- life --------------------------------------------------------------------------------------------------------

    def on_target_opened(self, shell: TargetShell) -> None:
        """See `TargetListener`."""
        limits = ChainLimits(self._context.namespaces, self._source, shell)
        keeper = CacheKeeper(shell, limits, self._context, self._foreground, self)
        shell.cache = keeper
        self._by_target[shell.target] = keeper
        self._limits[shell.target] = limits
        self._tasks.start(load_recency(self._disks, keeper, self._clock))

    async def on_target_closing(self, target: TargetId) -> None:
        """See `TargetListener`."""
        keeper = self._by_target.pop(target, None)
        if keeper is not None:
            del self._limits[target]
            await keeper.stop()
            await save_recency(self._disks, keeper, self._clock)

    async def stop(self, *, is_clean: bool = True) -> None:
        """The node stops. When it does so well, the order in which pages go is written down."""
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()
        await self._tasks.cancel()
        for target, keeper in list(self._by_target.items()):
            if is_clean:
                await self.on_target_closing(target)
            else:
                await keeper.stop()

    def on_namespaces_changed(self) -> None:
        """The node knows other namespaces, or other settings of them."""
        for target, keeper in self._by_target.items():
            self._limits[target].forget()
            keeper.on_limits_changed()

    def on_config_changed(self) -> None:
        """Newer configuration."""
        for keeper in self._by_target.values():
            keeper.on_limits_changed()

    # --- every now and then ------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """See `CacheWaker`."""
        if self._timer is None and not self._is_stopped:
            self._timer = asyncio.get_running_loop().call_later(cache_tick_ns / SECOND, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self._clock.now()
        for keeper in list(self._by_target.values()):
            try:
                keeper.tick(now)
            except FS3Error as failure:
                keeper.shell.fail(failure)
        exchange_ns = self._context.config.cache_exchange_ms * MILLISECOND
        if exchange_ns and now - self._exchanged_at >= exchange_ns:
            self._exchanged_at = now
            self._exchange()
        if now - self._sampled_at >= recency_sample_ns:
            self._sampled_at = now
            self._tasks.start(self._save_all())
        if any(keeper.is_busy for keeper in self._by_target.values()):
            self.wake()

    async def _save_all(self) -> None:
        for keeper in list(self._by_target.values()):
            await save_recency(self._disks, keeper, self._clock)

    # --- what replicas tell each other -------------------------------------------------------------------------------

    def _exchange(self) -> None:
        for target, keeper in self._by_target.items():
            chunks = keeper.take_unsent()
            shell = self._targets.by_id.get(target)
            chain = shell.chain if shell is not None else None
            # A head that has read nothing has nothing to say: what room it has, only others need to tell it.
            if chain is None or not keeper.cache.pages or target in self._sending or (keeper.is_head and not chunks):
                continue
            peers = [slot.node for slot in chain.live_slots() if slot.target != target]
            if peers:
                self._sending.add(target)
                touches = SharedTouches(chain.id, target, chunks, keeper.free_bytes())
                self._tasks.start(self._send(target, peers, touches))

    async def _send(self, target: TargetId, peers: list[NodeId], touches: SharedTouches) -> None:
        """Once: it would be old by the second time."""
        request = share_touches_request_to_pb(touches)
        try:
            for peer in peers:
                try:
                    channel = self._context.channel_to(peer)
                    await channel.call(STORAGE.ShareTouches, request, timeout_ns=attempt_timeout_ns)
                except FS3Error as failure:
                    log.debug("target %d: node %d is not told what was read: %s", target, peer, failure)
        finally:
            self._sending.discard(target)

    def share_touches(self, call: Call) -> None:
        """The handler of ShareTouches."""
        try:
            touches = share_touches_request_from_pb(call.request)
        except FS3Error as wrong:
            call.fail(wrong.code, wrong.strerror or "", self._context.routing_version)
            return
        shell = self._targets.by_chain.get(touches.chain)
        if shell is not None and shell.chain is not None and shell.chain.slot(touches.from_target) is not None:
            self._by_target[shell.target].on_peer(touches.from_target, touches.chunks, touches.free_bytes)
        call.reply(share_touches_reply_to_pb())
