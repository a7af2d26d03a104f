"""Which KVCache namespaces there are, as a storage node knows it: their settings, and which ids have none any more.

Whenever the routing info says that the manager's list has changed, a node asks what has changed since the version it knows. When
the manager cannot say, the node reads the list, page by page. It may change while it is read; what is missing then was deleted
all the same. Namespaces come in the order of their names, so an id that a namespace has all the while, given out before the first
page was read, is on the page of its name; and an id that none has any more is never given out again. So an id below the next one
of the *first* page that is on no page was deleted before its page was read.

That holds for one list that only goes forward. A manager's store that was put back from an old copy has an older one, which lacks
ids that are in use. A list, or a page of one, that is older than what this process has seen, here or in the routing info, is not
taken, and what is known stays. To a process that has seen nothing, an older list is the only one there is; the ids it lacks are
not below its next one, so they are not taken for deleted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol, TypeAlias

from fs3.base.errors import FS3Error, error
from fs3.base.limits import namespaces_max
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.client.mgmtd.namespace_source import NamespaceSource
from fs3.client.mgmtd.selector import JitteredBackoff
from fs3.model.cluster import CacheNamespace, NamespaceChanges, NamespacePage
from fs3.model.routing import Routing
from fs3.ports.clock import Clock
from fs3.runtime.tasks import start_background

log = logging.getLogger("fs3.storage")

refresh_pause_ns = 100 * MILLISECOND
"""At least so long from one reading of the list to the next."""
refresh_pause_factor = 9
"""And at least so many times what the reading took: a long list that changes all the time is read a tenth of the time."""
refresh_retry_first_ns = 100 * MILLISECOND
refresh_retry_most_ns = 10 * SECOND
"""Between attempts to read the list, when the manager does not answer."""
read_names_max = 2 * namespaces_max
"""Namespaces on the pages of one reading. More than there may be at a time: some are made and deleted meanwhile."""

OnNamespacesChanged: TypeAlias = "Callable[[], None]"
"""Called when the table knows something else than before."""


class VersionedNamespaces(NamespaceSource, Protocol):
    """And what has changed since, and routing info that tells when. `MgmtdClient` is the one of production."""

    async def list_namespace_changes(self, since: int) -> NamespaceChanges:
        """What has changed since the list of namespaces had a version. Raises FS3Error."""
        ...

    @property
    def routing(self) -> Routing:
        """The newest routing info."""
        ...


class NamespaceTable:
    """The namespaces of the cluster. `start`, then `on_routing_changed` with every newer routing info; `stop` at the end.

    Everything is unknown before the list has been read for the first time: no id has a namespace, and none is deleted.
    """

    def __init__(self, source: VersionedNamespaces, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._prng = Prng(clock.now())
        self._namespaces: dict[int, CacheNamespace] = {}
        """By id."""
        self.version = 0
        """How often the list had been changed, at least, when it was read last; see `Routing.namespaces_version`."""
        self.next_id = 0
        """Below this, every id is of a namespace in the table, or was deleted."""
        self._callbacks: list[OnNamespacesChanged] = []
        self._stale = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._namespaces)

    def get(self, namespace_id: int) -> CacheNamespace | None:
        """The namespace with this id; None: it is not known here, or not yet, or was deleted."""
        return self._namespaces.get(namespace_id)

    def is_deleted(self, namespace_id: int) -> bool:
        """There was a namespace with this id, and there never will be one again: its pages are unreachable."""
        return 0 < namespace_id < self.next_id and namespace_id not in self._namespaces

    def on_change(self, callback: OnNamespacesChanged) -> None:
        """Call back whenever the list was read and is another one."""
        self._callbacks.append(callback)

    # --- staying fresh -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Read the list, and again whenever it has changed."""
        if self._reading is None:
            self._stale.set()
            self._reading = start_background(self._keep_fresh())

    async def stop(self) -> None:
        """Read no more. What is known stays."""
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    def on_routing_changed(self, routing: Routing) -> None:
        """The list is read again, in the background, when it has changed."""
        if routing.namespaces_version > self.version:
            self._stale.set()

    async def _keep_fresh(self) -> None:
        backoff = JitteredBackoff(self._prng, refresh_retry_first_ns, refresh_retry_most_ns)
        failing = False
        while True:
            await self._stale.wait()
            self._stale.clear()
            begun = self._clock.now()
            try:
                await self.read()
            except Exception as failure:
                # Whatever it was, the node goes on with what it knows, and asks again.
                if not failing:
                    expected = isinstance(failure, FS3Error)
                    log.warning("the list of namespaces cannot be read: %s", failure, exc_info=None if expected else failure)
                failing = True
                self._stale.set()
                await backoff.pause(refresh_retry_most_ns)
                continue
            failing = False
            backoff.reset()
            self.on_routing_changed(self._source.routing)
            pause = max(refresh_pause_ns, refresh_pause_factor * (self._clock.now() - begun))
            await asyncio.sleep(pause / SECOND)

    async def read(self) -> None:
        """Take over what has changed, or the whole list when that is not known. Raises FS3Error: STALE for a list that is older
        than what was known, and what it is that the manager does not answer with; then nothing has changed."""
        if self.version:
            changes = await self._source.list_namespace_changes(self.version)
            self._check_age(changes.version, changes.next_id, self._source.routing.namespaces_version, self.next_id)
            if changes.is_complete:
                # Of others than these, nothing has changed since the version that the table has at least.
                found = dict(self._namespaces)
                for number in changes.gone:
                    found.pop(number, None)
                found.update((namespace.id, namespace) for namespace in changes.namespaces)
                self._replace(found, changes.version, changes.next_id)
                return
        await self._read_list()

    async def _read_list(self) -> None:
        version, next_id = max(self.version, self._source.routing.namespaces_version), self.next_id
        first: NamespacePage | None = None
        found: dict[int, CacheNamespace] = {}
        names, after = 0, ""
        while True:
            page = await self._source.list_namespaces(after=after)
            self._check_age(page.version, page.next_id, version, next_id)
            version, next_id = page.version, page.next_id
            first = first or page
            for namespace in page.namespaces:
                if namespace.name <= after:
                    raise error(Code.PROTOCOL, f"namespace {namespace.name!r} comes after {after!r} in the manager's list")
                after = namespace.name
                found[namespace.id] = namespace
            names += len(page.namespaces)
            if not page.more:
                break
            if not page.namespaces or names > read_names_max:
                raise error(Code.PROTOCOL, f"the manager's list of namespaces does not end after {names}")
        # Namespaces that were made meanwhile are in the table; of other ids from the first page's next one on, nothing is known.
        self._replace(found, first.version, first.next_id)

    def _check_age(self, version: int, next_id: int, known_version: int, known_next_id: int) -> None:
        if version < known_version or next_id < known_next_id:
            raise error(
                Code.STALE,
                f"the manager's list of namespaces has version {version} and ids below {next_id}, {known_version} and "
                f"{known_next_id} were seen before: its store is older than the cluster, perhaps an old copy",
            )

    def _replace(self, found: dict[int, CacheNamespace], version: int, next_id: int) -> None:
        is_other = (found, next_id) != (self._namespaces, self.next_id)
        self._namespaces, self.version, self.next_id = found, version, next_id
        if is_other:
            for callback in self._callbacks:
                callback()
