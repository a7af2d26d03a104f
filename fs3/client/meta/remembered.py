"""Attributes and names that a client remembers, for as long as the metadata service promises to tell of changes.

See docs/protocols/attribute-leases.md. What is remembered is what the service would answer: it tells no other client that a
change is done before this one has dropped what it knew, or can know it no more because its lease is over. What this client
changes itself it drops itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from fs3.base.errors import FS3Error
from fs3.base.ids import InodeId
from fs3.base.status import Code, Retry
from fs3.base.units import SECOND
from fs3.model.inode import Inode, InodeType, User
from fs3.model.lock import Lock
from fs3.model.namespace import Listing
from fs3.model.remembered import directory_of, inodes_dropped, inodes_told, name_of, paths_of
from fs3.model.requests import KeepAlive, List, Request, Stat
from fs3.model.watch import END_WATCH, Watch, WatchNews
from fs3.ports.clock import Clock
from fs3.runtime.tasks import start_background

remembered_inodes_max = 200_000
"""Beyond it everything is dropped."""
watch_again_ns = 1 * SECOND
"""After a question for news failed."""
watch_unsupported_ns = 30 * SECOND
"""After a service said that it gives no leases."""
watch_question_ns = 3 * SECOND
"""A question that is not answered in this time is asked again."""

log = logging.getLogger("fs3.client")

Ask = Callable[[Watch, int], Awaitable[WatchNews]]
"""(question, deadline): asks a metadata service."""


class RememberedAttributes:
    """Of one client, for all its users. Belongs to one event loop."""

    def __init__(self, clock: Clock, ask: Ask) -> None:
        self._clock = clock
        self._ask = ask
        self._inodes: dict[InodeId, Inode] = {}
        self._names: dict[InodeId, dict[str, tuple[InodeId, set[User]]]] = {}
        """Directory -> name -> its inode, and the users who may know of it."""
        self._linked: set[InodeId] = set()
        """Of the inodes, those that have other names as well."""
        self._watch = 0
        self._seen = 0
        self._until_ns = 0
        self._turn = 0
        """Rises with everything that may make an answer that is on its way an old one."""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Ask for leases from now on."""
        self._task = start_background(self._watch_on())

    async def stop(self) -> None:
        """Remember nothing any more, and say so."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        self._forget_all()
        if self._watch:
            with suppress(FS3Error):
                await self._ask(Watch(self._watch, END_WATCH), self._clock.now() + watch_again_ns)
            self._watch = 0

    # --- answers -----------------------------------------------------------------------------------------------------

    def find(self, user: User, request: Request[Any]) -> Inode | None:
        """What the service would answer, if that is known."""
        if type(request) is not Stat or self._clock.now() >= self._until_ns:
            return None
        path = request.path
        directory, name = directory_of(path), name_of(path.path)
        if not name:
            return self._inodes.get(directory) if name is not None else None
        if request.follow:
            return None
        known = self._names.get(directory, {}).get(name)
        return self._inodes.get(known[0]) if known is not None and user in known[1] else None

    @property
    def turn(self) -> int:
        """What an answer to a question that is asked now is remembered with."""
        return self._turn

    def keep(self, turn: int, watch: int, user: User, request: Request[Any], answer: Any) -> None:
        """A service has answered a question that was asked in this turn; this watch hears of changes."""
        if turn != self._turn or not watch or watch != self._watch or not any(inodes_told(request, answer)):
            return
        if len(self._inodes) > remembered_inodes_max:
            self._forget_all()
        directory = directory_of(request.path)  # type: ignore[attr-defined]
        if isinstance(request, Stat):
            self._keep(answer)
            if request.path.path:
                self._keep_name(user, directory, request.path.path, answer)
        elif isinstance(request, List) and isinstance(answer, Listing):
            for entry in answer.entries:
                if entry.inode is not None:
                    self._keep(entry.inode)
                    self._keep_name(user, directory, entry.name, entry.inode)

    def _keep(self, inode: Inode) -> None:
        self._inodes[inode.id] = inode
        if inode.nlink > 1 and inode.type is not InodeType.DIRECTORY:
            self._linked.add(inode.id)

    def _keep_name(self, user: User, directory: InodeId, name: str, inode: Inode) -> None:
        names = self._names.setdefault(directory, {})
        known = names.get(name)
        if known is None or known[0] != inode.id:
            names[name] = inode.id, {user}
        else:
            known[1].add(user)

    # --- changes -----------------------------------------------------------------------------------------------------

    def begin_change(self) -> None:
        """This client asks for a change."""
        self._turn += 1

    def end_change(self, request: Request[Any], answer: Any) -> None:
        """It was answered, or refused: `answer` is the FS3Error then; None: what became of it is not known."""
        self._turn += 1
        if isinstance(request, Lock | KeepAlive):
            return
        if answer is None or (isinstance(answer, FS3Error) and answer.code.retry is not Retry.NEVER):
            self._forget_all()
            return
        dropped = inodes_dropped(request, answer)
        if dropped is None:
            self._forget_all()
            return
        for path in paths_of(request):
            names = self._names.get(directory_of(path), {})
            if path.path in names:
                self._forget(names[path.path][0])
        for inode in dropped:
            self._forget(inode)
        # One of them may have lost or got a name that is not known here.
        for linked in list(self._linked):
            self._forget(linked)

    def _forget(self, inode: InodeId) -> None:
        self._inodes.pop(inode, None)
        self._names.pop(inode, None)
        self._linked.discard(inode)

    def _forget_all(self) -> None:
        self._inodes.clear()
        self._names.clear()
        self._linked.clear()

    # --- news --------------------------------------------------------------------------------------------------------

    async def _watch_on(self) -> None:
        while True:
            sent_ns = self._clock.now()
            try:
                news = await self._ask(Watch(self._watch, self._seen), sent_ns + watch_question_ns)
            except FS3Error as why:
                pause_ns = watch_again_ns if why.code is Code.BUSY or why.code.retry is not Retry.NEVER else watch_unsupported_ns
                log.debug("attributes are not remembered: %s", why)
                await asyncio.sleep(pause_ns / SECOND)
                continue
            self._on_news(news, sent_ns)

    def _on_news(self, news: WatchNews, sent_ns: int) -> None:
        if news.all or news.watch != self._watch:
            self._turn += 1
            self._forget_all()
        elif news.inodes:
            self._turn += 1
            for inode in news.inodes:
                self._forget(inode)
        self._watch, self._seen = news.watch, news.serial
        self._until_ns = sent_ns + news.lease_ns
