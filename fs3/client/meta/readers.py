"""What a client has open for reading, so that it stays readable when it is removed. See docs/posix.md.

A read open tells the services nothing. Its handle is known here by a weak reference, and goes when it is closed or forgotten.
While there are any, and each time that `session_keepalive_ns` have passed, the client tells of those contents that were open the
last time as well, and keeps those that have no name any more by a session. A request of the client's own that may give up what
it has open says so itself (`told_with`), and the service keeps it in the same transaction; which contents it was, the next
keep-alive tells.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, Protocol
from weakref import ref

from fs3.base.errors import FS3Error
from fs3.base.ids import InodeId, SessionId
from fs3.base.limits import open_contents_per_request_max, session_keepalive_ns
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.model.inode import Inode
from fs3.model.namespace import OpenResult
from fs3.model.requests import Close, Hold, KeepAlive, Request
from fs3.runtime.tasks import start_background

log = logging.getLogger("fs3.client")


open_contents_told_max = 4096
"""Contents that a client has open for reading and tells of while it lives; readers of more may lose those that are removed."""

OnHeld = Callable[[SessionId], object]
"""The client has a session from now on."""


class ReadHandle(Protocol):
    """An open file, as far as this is about it."""

    inode: Inode
    closed: bool
    """It reads no more."""


class ReaderRequests(Protocol):
    """What is needed of a client of the metadata services."""

    async def ask(self, request: Request[Any]) -> Any:
        """The answer to a request."""
        ...

    async def batch(self, requests: Sequence[Request[Any]]) -> list[Any]:
        """Of many; per request its answer or its FS3Error."""
        ...


class Readers:
    """The read handles of one client. Belongs to its event loop; `add` may be called from any thread."""

    def __init__(
        self,
        requests: ReaderRequests,
        session: SessionId,
        on_held: OnHeld,
        interval_ns: int = session_keepalive_ns,
    ) -> None:
        """`session`: the client's, on whatever it keeps. `on_held`: it has to be kept alive from now on."""
        self._requests = requests
        self._session = session
        self._on_held = on_held
        self._interval_ns = interval_ns
        self._handles: dict[ref[ReadHandle], None] = {}
        """In the order they were opened. A weak reference that is taken out calls back no more."""
        self._forget = self._handles.pop
        self._added = 0
        self._known: tuple[int, int, dict[InodeId, None]] = (0, 0, {})
        """(handles added, handles there, their contents) when that was worked out."""
        self._before: dict[InodeId, None] = {}
        """Open at the last look."""
        self._held: set[InodeId] = set()
        """There is a session on them."""
        self._unsure: dict[InodeId, None] = {}
        """There may be one: they were told with a request that could give them up."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopped = False

    # --- handles ------------------------------------------------------------------------------------------------------

    def add(self, handle: ReadHandle) -> None:
        """A file was opened for reading."""
        self._handles[ref(handle, self._forget)] = None
        self._added += 1
        if self._timer is None and self._task is None and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._arm)

    def discard(self, handle: ReadHandle) -> None:
        """It was closed."""
        self._handles.pop(ref(handle), None)

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on there is a loop to tell of handles on, those that are there included."""
        self._loop = loop
        if self._handles:
            self._arm()

    @property
    def is_attached(self) -> bool:
        """There is."""
        return self._loop is not None

    # --- what is removed ----------------------------------------------------------------------------------------------

    def told_with(self, *requests: Request[Any]) -> Sequence[InodeId]:
        """The contents to tell of with requests that travel together."""
        if not self._handles:
            return ()
        if any(request.may_give_up for request in requests):
            told = list(islice(reversed(self._contents()), open_contents_per_request_max))
        else:
            closes = [one for one in requests if isinstance(one, Close) and one.session != self._session]
            if not closes:
                return ()
            open_contents = self._contents()
            closed = dict.fromkeys(one.content for one in closes if one.content in open_contents)
            told = list(islice(closed, open_contents_per_request_max))
        for content in told:
            if content not in self._held:
                self._unsure[content] = None
        return told

    def is_held(self, content: InodeId) -> bool:
        """The content is kept, whether it has a name or not."""
        return content in self._held

    async def hold(self, content: InodeId) -> OpenResult:
        """Keep a content that is open. Raises FS3Error STALE when it may be partly gone."""
        held: OpenResult = await self._requests.ask(Hold(content))
        if held.session:
            self._note_held(content)
        return held

    def on_return(self) -> None:
        """The client was not heard of for so long that its sessions may have been ended."""
        self._unsure.update(dict.fromkeys(self._held))
        self._held.clear()

    @property
    def has_sessions(self) -> bool:
        """There are sessions, or may be."""
        return bool(self._held or self._unsure)

    async def end(self) -> None:
        """End the sessions: nothing is read any more. Raises FS3Error when no service is told."""
        await self.stop()
        if self.has_sessions:
            await self._look()

    async def stop(self) -> None:
        """Tell nothing any more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._handles.clear()

    # --- looks --------------------------------------------------------------------------------------------------------

    def _contents(self) -> dict[InodeId, None]:
        """Of all handles, in the order they were opened."""
        added, count, known = self._known
        if (added, count) != (self._added, len(self._handles)):
            added, references = self._added, list(self._handles)
            handles = [handle for reference in references if (handle := reference()) is not None]
            known = dict.fromkeys(handle.inode.content_id for handle in handles if not handle.closed)
            self._known = added, len(references), known
        return known

    def _arm(self) -> None:
        if self._timer is None and self._task is None and not self._stopped and self._loop is not None:
            self._timer = self._loop.call_later(self._interval_ns / SECOND, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._handles or self._held or self._unsure:
            self._task = start_background(self._look_again())
        else:
            self._before = {}

    async def _look_again(self) -> None:
        try:
            await self._look()
        except FS3Error as why:
            log.info("no metadata service was told what this client reads: %s", why)
        finally:
            self._task = None
            self._arm()

    async def _look(self) -> None:
        """Tell what is open, keep what has no name any more, and let go of what is not open any more."""
        contents, before = self._contents(), self._before
        self._before = contents
        told = dict(self._unsure)
        told.update(dict.fromkeys(content for content in contents if content in before and content not in self._held))
        asked = list(islice(told, open_contents_told_max))
        left = [content for content in self._held if content not in contents]
        for begin in range(0, len(asked), open_contents_per_request_max):
            part = asked[begin : begin + open_contents_per_request_max]
            unnamed: list[InodeId] = await self._requests.ask(KeepAlive(tuple(part)))
            # What was closed while the question was under way is let go at the next look.
            await self._hold_all(content for content in unnamed if content in contents)
            left += [content for content in unnamed if content not in contents]
            for content in part:
                self._unsure.pop(content, None)
        await self._end_sessions(left)

    async def _hold_all(self, contents: Iterable[InodeId]) -> None:
        wanted = [content for content in contents if content not in self._held]
        answers = await self._requests.batch([Hold(content) for content in wanted]) if wanted else []
        for content, answer in zip(wanted, answers, strict=True):
            if isinstance(answer, FS3Error):
                log.info("content %d was removed while it was read: %s", content, answer)
            elif answer.session:
                self._note_held(content)

    async def _end_sessions(self, contents: Sequence[InodeId]) -> None:
        answers = await self._requests.batch([Close(content, self._session) for content in contents]) if contents else []
        for content, answer in zip(contents, answers, strict=True):
            if not isinstance(answer, FS3Error) or answer.code in (Code.NO_SESSION, Code.STALE):
                self._held.discard(content)
        if contents and self._held:
            self._on_held(self._session)

    def _note_held(self, content: InodeId) -> None:
        self._held.add(content)
        self._unsure.pop(content, None)
        self._on_held(self._session)
        self._arm()
