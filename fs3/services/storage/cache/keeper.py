"""The pages of one target: who gets room for a put, and which pages are removed to make it.

Every replica counts its pages, by the commits of its store. The head of the chain decides alone: an eviction is an untagged
REMOVE that it admits for itself, as if a client had sent it, so replicas agree by the rules of the chain and by nothing else. A
page is removed only when nothing of it is under way, and no lease and no pin holds it.

A put passes through here before the replication machine sees it. It goes on at once when there is room; else it waits as if it
were still on its way, which the machine does not mind: tag and chain version are looked at when it arrives there. When the wait
is over, the machine is told so with the update (`UpdateReceived.refusal`): it answers NO_SPACE and remembers that, as it does for
a full disk, or it answers what was answered before.

What bounds the work: a get never waits for any of this. What was read is noted once per reply, and taken into account every
`cache_tick_ns`. Evictions go on in the background above the high watermark, a few per tick, and as fast as the chain carries them
while puts wait, `evictions_at_once_max` at a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from fs3.base.errors import FS3Error
from fs3.base.ids import ChunkId, TargetId, is_page, page_namespace
from fs3.base.limits import touched_pages_max
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.core.craq.position import ChainRole
from fs3.core.kvcache.budget.page_cache import PageCache
from fs3.core.kvcache.budget.room import FILES, TargetRoom
from fs3.core.kvcache.budget.seams import LimitsSource, PageListener
from fs3.model.chunk import Update, UpdateKind, UpdateResult
from fs3.services.storage.cache.evictions import Evictions
from fs3.services.storage.cache.head_records import HeadRecords
from fs3.services.storage.cache.space import CacheSpace
from fs3.services.storage.cache.waiting import WaitingUpdate, WaitingUpdates
from fs3.services.storage.foreground_load import ForegroundLoad
from fs3.services.storage.node_context import NodeContext
from fs3.services.storage.target import TargetShell

log = logging.getLogger("fs3.storage")

_BEFORE_PAGES = ChunkId(b"\x7f" + b"\xff" * 15)
"""All pages come after it."""

cache_waiting_puts_max = 1024
"""Puts of one target that wait so; further ones are answered BUSY."""

cache_count_rows = 256
"""Rows of the index looked at in one step when the pages of a target are counted at opening."""

cache_evictions_per_tick = 16
"""Pages a target evicts per tick in the background, beside two for each that was stored in the meantime. More when puts wait."""

count_rest_ns = 5 * MILLISECOND
"""Between two steps of the counting at opening, while clients ask the node for something."""


class CacheWaker(Protocol):
    """Calls the keepers of a node every now and then."""

    def wake(self) -> None:
        """There is something to do: call `tick` soon, and as long as `is_busy` says so."""
        ...


class CacheKeeper:
    """Keeps the pages of one target within their limits, for as long as it is open. Belongs to one event loop."""

    def __init__(
        self, shell: TargetShell, source: LimitsSource, context: NodeContext, foreground: ForegroundLoad, waker: CacheWaker
    ) -> None:
        self.cache = PageCache()
        self.room = TargetRoom(self.cache, source)
        self.cache.holds.append(self)
        self.records = HeadRecords(shell.target, shell.replica.incarnation, context.clock, context.cache_statistics)
        self.cache.holds += (context.page_leases, self.records.pins)
        self.cache.preferences.append(self.records.pins)
        self.listeners: list[PageListener] = [self.records]
        """Told of every page that is stored or removed here, on every replica."""
        self.is_changed = False
        """The order in which pages go is another one than the one that was written down."""
        self.is_restored = False
        """What was written down before has been taken over."""
        self.shell = shell
        self._store = shell.store
        self._machine = shell.replica
        self._lanes = shell.replica.flights.lanes
        self._context = context
        self._clock = context.clock
        self._foreground = foreground
        self._waker = waker
        self._waiting = WaitingUpdates(self.room)
        self._tokens: dict[int, ChunkId] = {}
        """Puts that have room, and are not answered yet."""
        self._evictions = Evictions(shell, self.room, self)
        self._reads: deque[Sequence[bytes]] = deque()
        self._read_pages = 0
        self.unsent: dict[ChunkId, None] = {}
        """Read here, and not told to the other replicas yet."""
        self._stored_since_tick = 0
        self._space = CacheSpace(shell.store, self.room, context)
        self._was_head = False
        self._is_pump_due = False
        self._closed = False
        self._counting = asyncio.get_running_loop().create_task(self._count())

    # --- what the target says ----------------------------------------------------------------------------------------

    @property
    def is_head(self) -> bool:
        """This target decides what becomes of the pages of its chain."""
        return self._machine.position.role is ChainRole.HEAD

    @property
    def has_file_limits(self) -> bool:
        """Updates of files are looked at as well as puts of pages."""
        return self._space.has_file_limits

    def wants(self, update: Update, token: int) -> bool:
        """A client's update that is no removal has arrived. True: it waits here, or was answered; False: it goes on."""
        if not self.is_head:
            return False
        if not is_page(update.chunk):
            return self._wants_file(update, token)
        self.records.on_put(update)
        self._waiting.on_arrived(update.chunk)
        if not self.cache.is_counted:
            self._space.measure(self._clock.now())  # what is not counted is among what the store has
        chunk, length = update.chunk, update.offset + update.length
        if not self.room.has_room(chunk, length) or (len(self._waiting) and self._waiting.waits_in(page_namespace(chunk))):
            self._hold(update, token, length)
            return True
        self._reserve(chunk, length, token)
        return False

    def on_commit(self, chunk: ChunkId) -> None:
        """A version of a page, or its removal, was committed. Raises StoreDamaged."""
        now = self._clock.now()
        meta = self._store.get(chunk)
        if meta is not None and meta.committed:
            self.cache.on_commit(chunk, meta.length, now)
            self.is_changed = True
            self._stored_since_tick += 1
            for listener in self.listeners:
                listener.on_page_stored(chunk, meta.length)
            self._waker.wake()
            return
        removed = self.cache.on_remove(chunk)
        if removed is not None:
            for listener in self.listeners:
                listener.on_page_removed(chunk, removed.length, removed.cause)
        if len(self._waiting) or self._evictions:
            self._pump_soon()

    def on_answered(self, token: int) -> None:
        """An update was answered, whichever."""
        chunk = self._tokens.pop(token, None)
        if chunk is not None:
            self.cache.release(chunk, is_under_way=chunk in self._lanes)
        elif len(self._waiting):
            self._waiting.take(token)

    @property
    def has_tokens(self) -> bool:
        """Answers are to be told (`on_answered`)."""
        return bool(self._tokens) or bool(self._waiting)

    def on_position_changed(self) -> None:
        """The target has another place in its chain, or the chain another version."""
        is_head = self.is_head
        self.records.on_position_changed(is_head=is_head)
        version = self._machine.position.version
        for waiting in self._waiting:
            if not is_head or waiting.update.chain_version != version:
                self._release(waiting)
        if is_head and not self._was_head:
            # What an earlier head has admitted and is not committed yet takes room here.
            now = self._clock.now()
            for chunk, lane in self._lanes.items():
                update = lane.flight.update
                if is_page(chunk) and update.kind is not UpdateKind.REMOVE:
                    self.cache.reserve(chunk, max(update.offset + update.length, lane.flight.length), now)
                    self.cache.release(chunk, is_under_way=True)
            self.room.look_again()
        self._was_head = is_head
        self._waker.wake()

    def remove_lost(self, chunk: ChunkId) -> None:
        """See `PageKeeper`. Lookups would find it for ever, puts be told that it is there, and a resync wait for its bytes."""
        now = self._clock.now()
        may_remove = self.is_head and not self.shell.failure and not self._closed and now < self.shell.lease_until()
        if may_remove and not self._context.config.read_only and chunk in self._store.bad_chunks:
            self._evictions.remove_lost(chunk)

    def note_reads(self, chunks: Sequence[bytes]) -> None:
        """Chunks of one request were read here; what is no page is passed over. Next to free: the rest is done later."""
        if self._read_pages < touched_pages_max:
            self._read_pages += len(chunks)
            self._reads.append(chunks)
            if len(self._reads) == 1:
                self._waker.wake()

    def on_peer(self, peer: TargetId, chunks: Sequence[ChunkId], free_bytes: int) -> None:
        """Another replica of the chain says what was read there, and how much room it has."""
        now = self._clock.now()
        self.cache.touch(chunks, now)
        self._space.on_peer(peer, free_bytes, now)

    def on_limits_changed(self) -> None:
        """Namespaces or the configuration have changed."""
        self.room.look_again()
        self._space.expire()
        self._pump_soon()
        self._waker.wake()

    async def stop(self) -> None:
        """Before the store is closed. Clients that wait are answered by the target."""
        self._closed = True
        self.records.on_position_changed(is_head=False)
        self._counting.cancel()
        await asyncio.gather(self._counting, return_exceptions=True)

    # --- what protects pages (`Holds`) -------------------------------------------------------------------------------

    def is_held(self, chunk: ChunkId, now: int) -> bool:
        """An update of the page is under way."""
        return chunk in self._lanes

    # --- every now and then ------------------------------------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        """`tick` is to be called again."""
        return not self._closed and not self.shell.failure and (
            bool(self._reads) or bool(self.cache.pages) or not self._waiting.is_empty or not self.cache.is_settled
            or self.has_file_limits
        )  # fmt: skip

    def tick(self, now: int) -> None:
        """Every `cache_tick_ns`, while there is something to do."""
        if self.shell.failure:
            self._answer_failed()
            return
        self.apply_reads(now)
        self._waiting.forget_announced(now)
        if not self.cache.is_settled:
            self.cache.settle(self._evictions)
        if not self.is_head:
            return
        self.records.forget_old(now)
        if self._space.is_due(now):
            self._space.measure(now)
            # An eviction may have come to nothing, and what protected a page may not do so any more.
            self.room.look_again()
            self._evictions.look_for_expired()
        self._evictions.allowance = cache_evictions_per_tick + 2 * self._stored_since_tick
        self._stored_since_tick = 0
        self._pump()

    def apply_reads(self, now: int) -> None:
        """Take into account what was read until now."""
        if not self._reads:
            return
        self.is_changed = True
        reads, self._reads, self._read_pages = self._reads, deque(), 0
        # The last of a request first: of a sequence of pages the end is to go before the beginning, without which it is no use.
        read = {ChunkId(chunk): None for chunks in reads for chunk in reversed(chunks) if is_page(ChunkId(chunk))}
        self.cache.touch(read, now)
        if self._context.config.cache_exchange_ms:
            room = touched_pages_max - len(self.unsent)
            self.unsent.update(read if len(read) <= room else dict.fromkeys(list(read)[: max(room, 0)]))

    def take_unsent(self) -> list[ChunkId]:
        """What was read here since this was asked last."""
        taken = list(self.unsent)
        self.unsent.clear()
        return taken

    def free_bytes(self) -> int:
        """Room of this replica's store."""
        return self._store.get_space().free

    # --- puts --------------------------------------------------------------------------------------------------------

    def _reserve(self, chunk: ChunkId, length: int, token: int) -> None:
        self.cache.reserve(chunk, length, self._clock.now())
        self._tokens[token] = chunk

    def _hold(self, update: Update, token: int, length: int) -> None:
        """There is no room yet: it waits, or its client sends it again."""
        now = self._clock.now()
        payload = update.payload
        may_park = len(self._waiting) < cache_waiting_puts_max and (payload is None or payload.park())
        if may_park:
            self._waiting.add(update, token, length, now)
        else:
            if is_page(update.chunk):
                self._waiting.announce(update.chunk, length, now)
            message = f"target {self.shell.target} makes room for chunk {update.chunk.hex()}"
            self.shell.answer_update(token, UpdateResult(Code.BUSY, message=message))
        self._waker.wake()
        self._pump_soon()

    def _release(self, waiting: WaitingUpdate, refusal: str = "") -> None:
        """It goes on to the machine."""
        self._waiting.take(waiting.token)
        update = waiting.update
        if update.payload is not None:
            update.payload.unpark()
        if waiting.namespace_id != FILES and not refusal:
            self._reserve(update.chunk, waiting.length, waiting.token)
        self.shell.admit(update, waiting.token, refusal)

    def _admit_waiting(self, now: int) -> None:
        blocked: set[int] = set()
        for waiting in self._waiting:
            namespace_id = waiting.namespace_id
            if namespace_id in blocked:
                continue
            is_file = namespace_id == FILES
            if self._space.take(waiting.length, now) if is_file else self.room.has_room(waiting.update.chunk, waiting.length):
                self._release(waiting)
            elif waiting.expires_ns <= now:
                self._refuse(waiting)
            else:
                blocked.add(namespace_id)

    def _refuse_stuck(self, now: int) -> None:
        """Nothing may be evicted: who waits need not wait for the end of that."""
        for waiting in self._waiting:
            if waiting.namespace_id != FILES and self.room.is_stuck(waiting.namespace_id):
                self._refuse(waiting)

    def _refuse(self, waiting: WaitingUpdate) -> None:
        who, namespace_id = f"target {self.shell.target}", waiting.namespace_id
        if namespace_id == FILES:
            self._release(waiting, f"{who}: no room for {waiting.length} bytes of files beside the pages that stay")
        elif not self.cache.is_counted or self.room.source.limits(namespace_id) is None:
            # It is not known yet whether there is room: the client may ask again.
            if self.cache.is_counted and self.room.source.accept_unknown(namespace_id):
                self._release(waiting)
                return
            self._ask_again(waiting, "is not known here yet" if self.cache.is_counted else "is being counted")
        elif self.cache.is_making_room(namespace_id):
            # The chain does not carry the evictions at this moment: one of its targets has gone, or its disk is slow.
            self._ask_again(waiting, "has pages on their way out")
        else:
            self._release(
                waiting, f"{who}: namespace {namespace_id} has no room for {waiting.length} bytes, nor pages that may go"
            )

    def _ask_again(self, waiting: WaitingUpdate, why: str) -> None:
        """Its client is to send it again, for as long as it likes."""
        self._waiting.take(waiting.token)
        message = f"target {self.shell.target}: namespace {waiting.namespace_id} {why}"
        self.shell.answer_update(waiting.token, UpdateResult(Code.BUSY, message=message))

    def _answer_failed(self) -> None:
        """The target has failed: no room will be made any more, and the chain may go on without it only later."""
        for waiting in self._waiting:
            message = f"target {self.shell.target}: {self.shell.failure}"
            self.shell.answer_update(waiting.token, UpdateResult(Code.DISK, message=message))

    def _wants_file(self, update: Update, token: int) -> bool:
        needed, growth = self._space.needs_of(update) if self.has_file_limits else (0, 0)
        if not needed or self._space.take(needed, self._clock.now()):
            return False
        if self.room.evictable_bytes:
            self._hold(update, token, needed)
        elif self.room.pages_min and growth:
            self.shell.admit(update, token, f"target {self.shell.target}: what is free is kept for pages")
        else:
            return False  # the store decides
        return True

    # --- evictions ---------------------------------------------------------------------------------------------------

    def _pump_soon(self) -> None:
        if not self._is_pump_due and not self._closed:
            self._is_pump_due = True
            asyncio.get_running_loop().call_soon(self._run_pump)

    def _run_pump(self) -> None:
        self._is_pump_due = False
        if not self._closed:
            self._pump()

    def _pump(self) -> None:
        """Let those go on who have room by now, and begin as many evictions as may be under way."""
        now = self._clock.now()
        if not self.is_head or self.shell.failure:
            return
        if len(self._waiting):
            self._admit_waiting(now)
        if self._context.config.read_only or now >= self.shell.lease_until():
            return
        is_urgent = not self._waiting.is_empty
        self.apply_reads(now)
        self._evictions.run(now, is_urgent=is_urgent)
        if is_urgent and self.room.is_searching:
            self._pump_soon()  # a little per turn of the loop, until every page was looked at
        elif is_urgent and not self._evictions:
            self._refuse_stuck(now)

    def on_eviction_done(self) -> None:
        """See `EvictionOwner`."""
        self._pump_soon()

    # --- counting ----------------------------------------------------------------------------------------------------

    async def wait_counted(self) -> None:
        """Until every page that was there at opening is counted. Raises CancelledError when the target is closed before."""
        await asyncio.shield(self._counting)

    async def _count(self) -> None:
        """Count the pages that were there at opening, in steps."""
        after: ChunkId | None = _BEFORE_PAGES
        try:
            while after is not None:
                rows = self._store.list(after, cache_count_rows)
                self.cache.count([(chunk, meta.length) for chunk, meta in rows if meta.committed], self._clock.now())
                after = rows[-1][0] if rows else None
                await asyncio.sleep(count_rest_ns / SECOND if self._foreground.is_busy else 0)
        except FS3Error as failure:
            self.shell.fail(failure)
            return
        self.cache.is_counted = True
        self.room.look_again()
        self._pump_soon()
        self._waker.wake()
