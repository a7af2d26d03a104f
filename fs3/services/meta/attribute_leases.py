"""Leases on attributes: what a client was told of an inode holds until it is told otherwise, or its lease is over.

A client that wants to remember attributes has a watch, a question that is asked again and again and is kept here until there are
news. Each inode that it is told of meanwhile is noted for the watch. When another client changes one of these, the outcome is
told only once every watch that has it noted has acted on the news, or its lease is over. So no client is ever told that
something is done while another one still answers what was before. See docs/protocols/attribute-leases.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from fs3.base.errors import FS3Error, error
from fs3.base.ids import ClientId, InodeId
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.client.routing import RoutingSource
from fs3.core.meta.lease_giver import become_giver, end_giving, is_giver, revoke_others
from fs3.core.txn import Txn
from fs3.model.routing import Role
from fs3.model.watch import END_WATCH, Watch, WatchNews
from fs3.ports.clock import Clock
from fs3.ports.kv import KV

attribute_lease_ns = 1500 * MILLISECOND
"""How long a client remembers attributes without a word from here. A change waits so long at most for a client that died."""
watch_wait_ns = 500 * MILLISECOND
"""A question for news is kept so long when there are none."""
watches_max = 1024
"""Clients that have a watch; further ones are told that there is none for them."""
watched_inodes_max = 250_000
"""Of one client; beyond it is told to forget everything."""
news_inodes_max = 4096
"""Of one answer; more are told as everything."""

_DRIFT = 1.1
"""Clocks of clients may run slower than this one."""

assert 2 * watch_wait_ns < attribute_lease_ns

log = logging.getLogger("fs3.meta")

Go = Callable[[], object]
"""Tells the outcome of a change."""
Answer = Callable[[WatchNews | None, FS3Error | None], object]
"""Answers a question for news."""


@dataclass(slots=True, eq=False)
class _HeldBack:
    """The outcome of a change, that some clients have to act on first."""

    go: Go
    watches: set[_ClientWatch] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class _ClientWatch:
    """Of one client."""

    client: ClientId
    number: int
    until_ns: int = 0
    """The client's lease is over then, by this clock."""
    serial: int = 0
    """Of the newest news that were sent."""
    inodes: set[InodeId] = field(default_factory=set)
    """What the client may remember."""
    fresh: dict[InodeId, None] = field(default_factory=dict)
    """News that were not sent yet."""
    sent: dict[InodeId, None] = field(default_factory=dict)
    """News that were, and that the client has not said that it has acted on."""
    tells_all: bool = True
    """The same, of everything."""
    sent_all: bool = False
    is_urgent: bool = False
    """There are news that wait for nothing: the client does not know them, or another client waits until it does."""
    is_full: bool = False
    """It has so many inodes noted that it gets no more until the client has forgotten everything."""
    held_back: deque[tuple[int, int, _HeldBack]] = field(default_factory=deque)
    """(serial of the news, when the lease was over that the client had then, outcome): in their order."""
    answer: Answer | None = None
    """The question that is kept."""
    wait: asyncio.TimerHandle | None = None
    expiry: asyncio.TimerHandle | None = None

    def __hash__(self) -> int:
        # Not by its address: sets of watches are walked, and a run of the simulator is to go as the one before.
        return self.number


class AttributeLeases:
    """Those that one metadata service has given. Belongs to one event loop."""

    def __init__(self, kv: KV, clock: Clock, routing: RoutingSource, name: bytes) -> None:
        """`kv`: where it is noted that there are some. `name`: of this process, random."""
        self.name = name
        self._kv = kv
        self._clock = clock
        self._routing = routing
        self._watches: dict[ClientId, _ClientWatch] = {}
        self._left: set[_ClientWatch] = set()
        """Watches of clients that have begun another one. What asked for that may be older than what the client does now, so what
        it may remember by the first one is waited for until that lease is over."""
        self._by_inode: dict[InodeId, set[_ClientWatch]] = {}
        self._unacted: dict[InodeId, set[_ClientWatch]] = {}
        """Of each inode that there are news of: the watches whose clients have not said that they have acted on them."""
        self._numbers = int.from_bytes(name[:6], "big")
        """Watches of other processes have other numbers, but by chance."""
        self._is_giver = False
        self._is_becoming_giver = False
        self._silent_until_ns = 0
        """Until then clients may have leases of another process."""
        self._silent: deque[Go] = deque()

    @property
    def is_recording(self) -> bool:
        """It is to be noted what transactions change."""
        return self._is_giver or self._is_becoming_giver

    # --- watches -----------------------------------------------------------------------------------------------------

    def ask(self, client: ClientId, request: Watch, answer: Answer) -> None:
        """A client wants news. UNSUPPORTED where no leases are given: another service may change what this one knows nothing of.
        BUSY when it may ask again later."""
        if not self._is_alone():
            self._end_all()
            answer(None, error(Code.UNSUPPORTED, "several metadata services share the store, so none gives leases"))
        elif self._is_giver:
            self._kv.submit_read(lambda txn: is_giver(txn, self.name), self._on_looked(client, request, answer))
        else:
            self._become_giver()
            answer(None, error(Code.BUSY, "no leases are given yet"))

    def _on_looked(self, client: ClientId, request: Watch, answer: Answer) -> Callable[..., None]:
        def looked(still: bool | None, why: BaseException | None) -> None:
            if why is not None or not still:
                # Another process has changed something, and waits for the leases that there are.
                self._end_all()
                answer(None, error(Code.BUSY, "no leases are given at this moment"))
                return
            self._ask(client, request, answer)

        return looked

    def _ask(self, client: ClientId, request: Watch, answer: Answer) -> None:
        watch = self._watches.get(client)
        if watch is None or watch.number != request.watch:
            if request.seen == END_WATCH:
                answer(WatchNews(0, 0), None)
                return
            if watch is not None:
                self._left.add(watch)
                self._reply(watch)
            if len(self._watches) >= watches_max:
                answer(None, error(Code.UNSUPPORTED, f"{watches_max} clients have watches already"))
                return
            self._numbers += 1
            watch = self._watches[client] = _ClientWatch(client, self._numbers)
        if request.seen == END_WATCH:
            self._drop(watch)
            answer(WatchNews(0, 0), None)
            return
        self._renew(watch)
        self._on_seen(watch, request.seen)
        if watch.answer is not None:
            self._reply(watch)
        watch.answer = answer
        if watch.is_urgent or watch.sent or watch.tells_all or watch.sent_all:
            self._reply(watch)
        else:
            watch.wait = asyncio.get_running_loop().call_later(watch_wait_ns / SECOND, self._reply, watch)

    def _renew(self, watch: _ClientWatch) -> None:
        lease_ns = int(attribute_lease_ns * _DRIFT)
        watch.until_ns = self._clock.now() + lease_ns
        if watch.expiry is not None:
            watch.expiry.cancel()
        watch.expiry = asyncio.get_running_loop().call_later(lease_ns / SECOND, self._on_expired, watch)

    def _on_seen(self, watch: _ClientWatch, seen: int) -> None:
        """The client has acted on news."""
        if seen == watch.serial:
            # What was sent before it was full says nothing of what was noted since.
            if watch.sent_all and watch.is_full and not watch.tells_all:
                self._forget_inodes(watch)
                watch.is_full = False
            _unlink(self._unacted, watch, watch.sent.keys() - watch.fresh.keys())
            watch.sent.clear()
            watch.sent_all = False
        # Every answer since the news were made brings them. If all of those were lost, so was what they add to the lease.
        now = self._clock.now()
        while watch.held_back and (watch.held_back[0][0] <= seen or watch.held_back[0][1] <= now):
            self._on_acted(watch, watch.held_back.popleft()[2])

    def _reply(self, watch: _ClientWatch) -> None:
        """Answer the question that is kept, with all that the client has not acted on."""
        answer, watch.answer = watch.answer, None
        if watch.wait is not None:
            watch.wait.cancel()
            watch.wait = None
        if answer is None:
            return
        watch.sent |= watch.fresh
        watch.sent_all = watch.sent_all or watch.tells_all or len(watch.sent) > news_inodes_max
        if watch.fresh or watch.tells_all:
            watch.serial += 1
        watch.fresh, watch.tells_all, watch.is_urgent = {}, False, False
        inodes = () if watch.sent_all else tuple(watch.sent)
        answer(WatchNews(watch.number, watch.serial, inodes, watch.sent_all, attribute_lease_ns), None)

    def _on_expired(self, watch: _ClientWatch) -> None:
        left_ns = watch.until_ns - self._clock.now()
        if left_ns > 0:
            watch.expiry = asyncio.get_running_loop().call_later(left_ns / SECOND, self._on_expired, watch)
        else:
            self._drop(watch)

    def _drop(self, watch: _ClientWatch) -> None:
        """The client remembers nothing any more."""
        self._left.discard(watch)
        if self._watches.get(watch.client) is watch:
            del self._watches[watch.client]
        for timer in (watch.expiry, watch.wait):
            if timer is not None:
                timer.cancel()
        self._forget_inodes(watch)
        _unlink(self._unacted, watch, watch.sent.keys() | watch.fresh.keys())
        self._reply(watch)
        while watch.held_back:
            self._on_acted(watch, watch.held_back.popleft()[2])

    def _forget_inodes(self, watch: _ClientWatch) -> None:
        _unlink(self._by_inode, watch, watch.inodes)
        watch.inodes.clear()

    # --- what clients are told ---------------------------------------------------------------------------------------

    def note(self, client: ClientId, inodes: Iterable[InodeId]) -> int:
        """A client is told of these, as they are at this moment: the watch that will hear of changes; 0: none."""
        watch = self._watches.get(client)
        if watch is None or not self._is_giver:
            return 0
        if watch.is_full:
            return 0
        if len(watch.inodes) > watched_inodes_max:
            # They stay noted until it has forgotten them.
            watch.is_full = watch.tells_all = True
            self._reply(watch)
            return 0
        for inode in inodes:
            watch.inodes.add(inode)
            self._by_inode.setdefault(inode, set()).add(watch)
        return watch.number

    # --- changes -----------------------------------------------------------------------------------------------------

    def tell(
        self, changed: Iterable[InodeId], client: ClientId | None, go: Go, dropped: Collection[InodeId] = frozenset()
    ) -> None:
        """A transaction has changed these, for this client: `go` when no other client remembers what was before. `dropped`: of
        these the client itself needs to hear only in time, since it drops them with the answer."""
        held_back: _HeldBack | None = None
        urgent: dict[_ClientWatch, None] = {}
        for inode in changed:
            noted = self._by_inode.pop(inode, set[_ClientWatch]())
            for watch in noted:
                watch.inodes.discard(inode)
                watch.fresh[inode] = None
                if watch.client != client or inode not in dropped:
                    urgent[watch] = None
            # A client that has not acted on an earlier change may still answer what was before both.
            watches = noted | self._unacted.get(inode, set())
            if noted:
                self._unacted[inode] = watches
            for watch in watches:
                if watch.client != client:
                    held_back = held_back or _HeldBack(go)
                    held_back.watches.add(watch)
        if held_back is not None:
            for watch in held_back.watches:
                watch.held_back.append((watch.serial + 1 if watch.fresh else watch.serial, watch.until_ns, held_back))
                if watch.fresh:
                    urgent[watch] = None
        for watch in urgent:
            watch.is_urgent = True
            self._reply(watch)
        if held_back is None:
            self._go(go)

    def _on_acted(self, watch: _ClientWatch, held_back: _HeldBack) -> None:
        held_back.watches.discard(watch)
        if not held_back.watches:
            self._go(held_back.go)

    def _go(self, go: Go) -> None:
        if self._silent or self._clock.now() < self._silent_until_ns:
            self._silent.append(go)
            if len(self._silent) == 1:
                self._wait_silence()
        else:
            go()

    def _wait_silence(self) -> None:
        left_ns = max(0, self._silent_until_ns - self._clock.now())
        asyncio.get_running_loop().call_later(left_ns / SECOND, self._on_silence_over)

    def _on_silence_over(self) -> None:
        if self._clock.now() < self._silent_until_ns:
            self._wait_silence()
            return
        waiting, self._silent = self._silent, deque()
        for go in waiting:
            go()

    # --- who gives ---------------------------------------------------------------------------------------------------

    def on_revoked(self) -> None:
        """This process has ended the right of another one to give leases; those that there are go on until they are over."""
        self._silent_until_ns = self._clock.now() + int(attribute_lease_ns * _DRIFT)

    def _is_alone(self) -> bool:
        nodes = self._routing.routing.nodes.values()
        return sum(node.role is Role.META for node in nodes) == 1

    def _become_giver(self) -> None:
        if self._is_becoming_giver:
            return
        self._is_becoming_giver = True

        async def become(txn: Txn) -> bool:
            has_revoked = await revoke_others(txn, self.name)
            await become_giver(txn, self.name)
            return has_revoked

        def done(has_revoked: bool | None, why: BaseException | None) -> None:
            self._is_becoming_giver = False
            self._is_giver = why is None
            if has_revoked:
                self.on_revoked()
            if why is not None:
                log.info("no leases are given: %s", why)

        self._kv.submit(become, done)

    def _end_all(self) -> None:
        """No more are given. Those that there are go on until they are over: what waits for them goes on waiting."""
        self._is_giver = False
        for watch in self._watches.values():
            self._reply(watch)
            # Should leases be given again: it hears of nothing that happens meanwhile.
            watch.tells_all = True

    async def stop(self) -> None:
        """Nothing is told any more. When no client has a lease, the next process need not wait for one."""
        if self._is_giver and not self._watches and not self._left:
            with suppress(FS3Error):
                await self._kv.transact(lambda txn: end_giving(txn, self.name))
        self._is_giver = False
        for watch in (*self._watches.values(), *self._left):
            for timer in (watch.expiry, watch.wait):
                if timer is not None:
                    timer.cancel()
        self._watches.clear()
        self._by_inode.clear()
        self._unacted.clear()


def _unlink(index: dict[InodeId, set[_ClientWatch]], watch: _ClientWatch, inodes: Iterable[InodeId]) -> None:
    """A watch has no part in these inodes any more."""
    for inode in inodes:
        watches = index.get(inode)
        if watches is not None:
            watches.discard(watch)
            if not watches:
                del index[inode]
