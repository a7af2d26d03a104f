"""What happens to the pages of a namespace, from the heads of its chains as it happens: one waiting question per node."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeAlias

from fs3.base.backoff import Backoff
from fs3.base.errors import FS3Error
from fs3.base.ids import ChainId, NodeId
from fs3.base.limits import retry_backoff_max_ns, retry_backoff_min_ns
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.client.storage.router import ReplicaRouter
from fs3.core.files.retry import RetryAction
from fs3.core.kvcache.events import Cursor, EventBatch
from fs3.ports.clock import Clock
from fs3.ports.rpc import Reply
from fs3.wire.methods import STORAGE
from fs3.wire.storage_pages import EventsQuestion, events_reply_from_pb, events_request_to_pb

event_wait_ns = 5 * SECOND
"""How long a question waits at a node. A node that says nothing for `event_margin_ns` longer is taken for unreachable."""
event_margin_ns = 3 * SECOND
refresh_ns = 1 * SECOND
"""How long newer routing info is waited for when a chain could not be asked."""

ListChains: TypeAlias = "Callable[[], Sequence[ChainId]]"
"""The chains of a namespace now."""
ChainNews = tuple[ChainId, EventBatch]


class PageEventReader:
    """The events of one namespace, chain by chain. Belongs to one event loop; one caller at a time."""

    def __init__(
        self,
        router: ReplicaRouter,
        clock: Clock,
        namespace_id: int,
        chains: ListChains,
        cursors: dict[ChainId, Cursor],
    ) -> None:
        """`chains`: those of the namespace now. `cursors`: where to go on from; a chain that has none begins now."""
        self.namespace_id = namespace_id
        self._router = router
        self._clock = clock
        self._chains = chains
        self._cursors = cursors
        self._polls: dict[asyncio.Future[Reply], list[ChainId]] = {}
        self._failed: set[ChainId] = set()
        """Could not be asked when that was tried last."""
        self._backoff = Backoff(retry_backoff_min_ns, retry_backoff_max_ns)

    async def next(self, timeout_ns: int) -> list[ChainNews]:
        """What there is next, of one chain or of several; nothing when nothing happens for so long. A batch without events says
        where a chain begins, or that something was missed. A chain that cannot be asked is asked again and again."""
        deadline = self._clock.now() + timeout_ns
        while True:
            if self._failed:
                await self._prepare_retry(deadline)
            self._start_polls()
            left = deadline - self._clock.now()
            if left <= 0:
                return []
            if not self._polls:
                continue
            done, _ = await asyncio.wait(self._polls, timeout=left / SECOND, return_when=asyncio.FIRST_COMPLETED)
            news: list[ChainNews] = []
            for future in done:
                news += self._take(self._polls.pop(future), future)
            if news:
                return news

    def close(self) -> None:
        """Ask no more."""
        for future in self._polls:
            future.cancel()
        self._polls.clear()

    def _start_polls(self) -> None:
        asked = {chain for chains in self._polls.values() for chain in chains}
        by_node: dict[NodeId, list[ChainId]] = {}
        for chain in self._chains():
            if chain in asked:
                continue
            nodes = self._router.candidates(chain).nodes
            if nodes:
                by_node.setdefault(nodes[0], []).append(chain)
            else:
                self._failed.add(chain)
        for node, chains in by_node.items():
            cursors = {chain: self._cursors.get(chain, Cursor()) for chain in chains}
            # A chain without a place is told one at once, and must not wait for events of others.
            waits = all(cursor.epoch for cursor in cursors.values())
            question = EventsQuestion(self.namespace_id, cursors, event_wait_ns // MILLISECOND if waits else 0)
            try:
                channel = self._router.channel(node)
                timeout_ns = event_wait_ns + event_margin_ns
                future = channel.start(STORAGE.CacheEvents, events_request_to_pb(question), timeout_ns=timeout_ns)
            except FS3Error as failure:
                self._router.on_failure(node, failure)
                self._failed.update(chains)
            else:
                future.add_done_callback(_note_end)
                self._polls[future] = chains

    def _take(self, chains: list[ChainId], future: asyncio.Future[Reply]) -> list[ChainNews]:
        try:
            answers = events_reply_from_pb(future.result().message, len(chains))
        except FS3Error as failure:
            self._router.note_routing_version(failure.routing_version)
            self._failed.update(chains)
            return []
        self._router.note_routing_version(future.result().message.routing_version)
        news: list[ChainNews] = []
        for chain, answer in zip(chains, answers, strict=True):
            if answer.code is not Code.OK:
                self._failed.add(chain)
                continue
            self._failed.discard(chain)
            self._backoff.reset()
            before, after = self._cursors.get(chain, Cursor()), answer.batch.next
            self._cursors[chain] = after
            if answer.batch.missed or after != before:
                news.append((chain, answer.batch))
        return news

    async def _prepare_retry(self, deadline: int) -> None:
        """Newer routing, and a pause that grows."""
        self._failed.clear()
        now = self._clock.now()
        await self._router.prepare_retry({RetryAction.REFRESH}, 1, min(deadline, now + refresh_ns))
        await asyncio.sleep(min(self._backoff.next_ns(), max(0, deadline - self._clock.now())) / SECOND)


def _note_end(future: asyncio.Future[Reply]) -> None:
    """A listener that comes back no more leaves polls behind: how they ended is of no interest, and no news for the log."""
    if not future.cancelled():
        future.exception()
