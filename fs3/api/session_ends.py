"""Ending sessions that have nothing more to tell.

What a handle wrote is published by `fsync`, or by a close that finds something to publish. When nothing was written since, the
end of its session changes nothing that another client sees; so `close` does not wait for it. It is told a little later, together
with all others of the client, in one request and one commit.
"""

from __future__ import annotations

import asyncio
import logging

from fs3.base.errors import FS3Error
from fs3.base.ids import InodeId, SessionId
from fs3.base.limits import batch_items_max
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.client.meta.client import MetaClient
from fs3.model.requests import Close
from fs3.runtime.tasks import start_background

log = logging.getLogger("fs3.client")

session_end_wait_ns = 50 * MILLISECOND
"""How long the end of a session waits for others."""
_RETRY_NS = 10 * SECOND

_GONE = (Code.NO_SESSION, Code.STALE)
"""Of the end of a session: there is none any more."""


class SessionEnds:
    """Of one client. Belongs to its event loop."""

    def __init__(self, meta: MetaClient) -> None:
        self._meta = meta
        self._waiting: dict[SessionId, InodeId] = {}
        """Sessions, and what they are on."""
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def add(self, content: InodeId, session: SessionId) -> None:
        """A session is over."""
        self._waiting[session] = content
        self._arm(session_end_wait_ns)

    async def flush(self) -> None:
        """End what waits now. What cannot be ended waits on."""
        if self._task is not None:
            await asyncio.wait([self._task])
        if self._waiting:
            await self._end_all()

    async def stop(self) -> None:
        """End nothing any more. Sessions that wait are ended by the services after a while."""
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _arm(self, wait_ns: int) -> None:
        if self._timer is None and self._task is None:
            self._timer = asyncio.get_running_loop().call_later(wait_ns / SECOND, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._task = start_background(self._run())

    async def _run(self) -> None:
        failed = False
        try:
            failed = await self._end_all()
        finally:
            self._task = None
        if self._waiting:
            self._arm(_RETRY_NS if failed else session_end_wait_ns)

    async def _end_all(self) -> bool:
        """One request for all that wait. True when some have to wait on, because no service could be told."""
        ending = dict(list(self._waiting.items())[:batch_items_max])
        answers = await self._meta.batch([Close(content, session) for session, content in ending.items()])
        failed = False
        for session, answer in zip(ending, answers, strict=True):
            if isinstance(answer, FS3Error) and answer.code not in _GONE:
                log.info("session %d is ended later: %s", session, answer)
                failed = True
            else:
                self._waiting.pop(session, None)
        return failed
