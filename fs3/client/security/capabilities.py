"""The capabilities that one client holds: learned with answers, asked for when one is missing, renewed before they end.

A client counts by its own clock, from when it was told. That only decides when it asks for another one: whether one counts is for
the storage nodes to say, by the time of the cluster.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from fs3.base.errors import FS3Error, error
from fs3.base.limits import capabilities_per_request_max
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.core.security.capability import READ, WRITE, Subject, SubjectKind, peek_capability, subject_key, subject_of_key
from fs3.core.security.seal import SealError
from fs3.ports.clock import Clock
from fs3.runtime.tasks import TaskSet, start_background

refresh_ns = 600 * SECOND
"""How often all that are held are renewed, used or not. It leaves time for several attempts before a key goes out of use."""
capabilities_held_max = 1 << 17
"""By one client; beyond, those that have ended are forgotten, then those that were learned first."""


class Held:
    """One capability that the client has."""

    __slots__ = ("ends_at", "learned_at", "message", "renew_at")

    def __init__(self, message: bytes, learned_at: int, ends_at: int, renew_at: int) -> None:
        self.message = message
        """As it is shown."""
        self.learned_at = learned_at
        """By the client's clock, as the others."""
        self.ends_at = ends_at
        """Afterwards it is not worth showing."""
        self.renew_at = renew_at
        """When to ask for the next one."""


class Wanted(NamedTuple):
    """A capability that is asked for."""

    subject: Subject
    rights: int
    held: bytes
    """The last one that the client had of it; b"": none."""


AskFor = Callable[[Sequence[Wanted]], Awaitable[Sequence["bytes | Code"]]]
"""Asks for capabilities of one kind of subject, `capabilities_per_request_max` at most: each, or why there is none. Raises
FS3Error."""


class Capabilities:
    """What one client may do. Belongs to one event loop, but for `find` and `learn`, which any thread may call."""

    def __init__(self, clock: Clock, ask_meta: AskFor, ask_manager: AskFor) -> None:
        """`ask_meta`: for contents of files. `ask_manager`: for KVCache namespaces."""
        self._now = clock.now
        self._ask = {SubjectKind.CONTENT: ask_meta, SubjectKind.NAMESPACE: ask_manager}
        self._held: dict[int, dict[int, Held]] = {READ: {}, WRITE: {}}
        """Right -> `subject_key` -> the capability that has it."""
        self.is_needed = True
        """False: the services have said that this client needs none."""
        self.doubted_at = 0
        """When a node has refused what it was shown, last: what was learned before is renewed with its next use."""
        self._asked: dict[tuple[int, int], asyncio.Future[None]] = {}
        """(key, right) of those that are being asked for."""
        self._queue: list[tuple[int, int]] = []
        self._tasks = TaskSet()
        self._refreshing: asyncio.Task[None] | None = None
        self.fetched = 0
        """That were asked for, renewals among them."""

    def find(self, key: int, right: int) -> Held | None:
        """The one to show for a subject. None: there is none, or none any more; see `fetch`."""
        held = self._held[right].get(key)
        return held if held is not None and held.ends_at > self._now() else None

    def learn(self, message: bytes) -> None:
        """A service has answered with a capability. One that cannot be read is passed over."""
        try:
            capability = peek_capability(message)
        except SealError:
            return
        now, lifetime_ns = self._now(), capability.lifetime_ms * MILLISECOND
        held = Held(message, now, now + lifetime_ns, now + lifetime_ns // 2)
        key = subject_key(capability.subject)
        for right, table in self._held.items():
            if capability.rights & right:
                if len(table) >= capabilities_held_max:
                    _make_room(table, now)
                table.pop(key, None)  # the newest are the last
                table[key] = held

    def doubt(self) -> None:
        """A node has refused what it was shown: it has forgotten it, or its key is not in use any more."""
        self.doubted_at = self._now()
        self.is_needed = True

    def is_due(self, held: Held, now: int) -> bool:
        """It is time to have one renewed."""
        return held.renew_at <= now or held.learned_at <= self.doubted_at

    def renew_soon(self, key: int, right: int, held: Held) -> None:
        """Have a capability renewed while it still counts."""
        held.learned_at, held.renew_at = self._now() + 1, held.ends_at  # asked for once
        self._tasks.start(self._renew(key, right, held))

    async def fetch(self, keys: Iterable[int], right: int) -> None:
        """Have one for each of these subjects. Raises FS3Error: ACCESS, NOT_FOUND, or that no service answers."""
        for turn in [self._ask_for(key, right) for key in keys]:
            # Others may wait for the same one.
            await asyncio.shield(turn)

    def keep_fresh(self) -> None:
        """From now on all that are held are renewed now and then: a file that is open works on however long it is not used."""
        if self._refreshing is None:
            self._refreshing = start_background(self._keep_fresh())

    async def close(self) -> None:
        """Ask no more."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)
        await self._tasks.cancel()

    async def _keep_fresh(self) -> None:
        while True:
            await asyncio.sleep(refresh_ns / SECOND)
            for right, table in self._held.items():
                newest = list(table)[-capabilities_per_request_max:]
                for turn in [self._ask_for(key, right) for key in newest if key >= 0]:
                    with suppress(FS3Error):
                        await asyncio.shield(turn)

    # --- asking --------------------------------------------------------------------------------------------------------

    async def _renew(self, key: int, right: int, held: Held) -> None:
        try:
            await self.fetch((key,), right)
        except FS3Error:
            # The one there is counts until it ends. The first request after that asks, and is told why there is none.
            held.renew_at = self._now() + (held.ends_at - self._now()) // 4

    def _ask_for(self, key: int, right: int) -> asyncio.Future[None]:
        asked = self._asked.get((key, right))
        if asked is None:
            loop = asyncio.get_running_loop()
            asked = self._asked[key, right] = loop.create_future()
            asked.add_done_callback(_look_at)
            if not self._queue:
                loop.call_soon(self._send)
            self._queue.append((key, right))
        return asked

    def _send(self) -> None:
        """All that was asked for in one turn, in as few requests as can be."""
        queue, self._queue = self._queue, []
        for is_namespace in (False, True):
            mine = [each for each in queue if (each[0] < 0) is is_namespace]
            for begin in range(0, len(mine), capabilities_per_request_max):
                self._tasks.start(self._fetch_some(mine[begin : begin + capabilities_per_request_max]))

    async def _fetch_some(self, asked: list[tuple[int, int]]) -> None:
        wanted: list[Wanted] = []
        for key, right in asked:
            held = self._held[right].get(key)
            wanted.append(Wanted(subject_of_key(key), right, held.message if held is not None else b""))
        try:
            answers = await self._ask[wanted[0].subject.kind](wanted)
        except BaseException as why:
            if isinstance(why, FS3Error) and why.code is Code.UNSUPPORTED:
                self.is_needed = False
                for each in asked:
                    self._end(each, None)
                return
            failure = why if isinstance(why, FS3Error) else error(Code.CANCELLED, "the client is closed")
            for each in asked:
                self._end(each, failure)
            if not isinstance(why, FS3Error):
                raise
            return
        self.fetched += len(asked)
        for each, answer in zip(asked, answers, strict=True):
            if isinstance(answer, Code):
                self._end(each, error(answer, _REASONS.get(answer, "no capability is to be had")))
            else:
                self.learn(answer)
                self._end(each, None)

    def _end(self, each: tuple[int, int], failure: FS3Error | None) -> None:
        turn = self._asked.pop(each)
        if turn.done():
            return
        if failure is None:
            turn.set_result(None)
        else:
            turn.set_exception(failure)


_REASONS = {
    Code.ACCESS: "permission denied",
    Code.NOT_FOUND: "the file was removed",
    Code.NO_NAMESPACE: "the namespace was deleted",
    Code.BUSY: "no capability can be had at the moment",
}


def _look_at(turn: asyncio.Future[None]) -> None:
    """The callers that waited for it may have given up: then its failure is of no interest."""
    if not turn.cancelled():
        turn.exception()


def _make_room(table: dict[int, Held], now: int) -> None:
    gone = [key for key, held in table.items() if held.ends_at <= now] or list(table)[: capabilities_held_max // 8]
    for key in gone:
        table.pop(key, None)
