"""Ending the sessions and the locks of clients that have died: the lengths of their files are repaired, files without a name are
given up, locks are released.

A client that was merely silent loses nothing that it was acknowledged but its locks, and is told of those. If it is heard of
before a session is ended, that session goes on. If it comes back later, its close and sync still count; see
`fs3.core.meta.sessions`.
"""

from __future__ import annotations

import logging
from functools import partial

from fs3.base.errors import FS3Error
from fs3.base.ids import ClientId
from fs3.base.units import MILLISECOND, SECOND
from fs3.client.routing import RoutingSource
from fs3.core.meta import locks, sessions
from fs3.core.meta.client_liveness import (
    ClientFailureDetector,
    ClientRecord,
    forget_client,
    is_presumed_dead,
    list_clients,
    presume_dead,
    register_client,
)
from fs3.core.meta.contents import find_by_content
from fs3.core.meta.context import LayoutDefaults, OpContext
from fs3.core.meta.errors import LengthUnknown, MetaError, TrimOutstanding
from fs3.core.txn import ReadTxn, Txn
from fs3.model.inode import FileSession, Inode, User
from fs3.ports.clock import Clock
from fs3.ports.kv import KV, RoomMaker
from fs3.services.meta.chunk_client import ChunkClient, file_length
from fs3.services.meta.duties.duty import Duty
from fs3.services.meta.duties.lease import DutyLease
from fs3.services.meta.trimmer import Trimmer

log = logging.getLogger("fs3.meta")

sessions_per_page_max = 512
"""Rows of clients and sessions that one read or transaction looks at."""

lock_rows_per_step_max = 64
"""Rows with all locks of a file that one transaction cleans."""

_TIMEOUT_NS = 5 * SECOND
_NO_CLIENT = ClientId(bytes(16))


class SessionsDuty(Duty):
    """Looks at the signs of life of all clients; when some have been silent for too long, walks over all sessions once."""

    name = "sessions"

    def __init__(
        self,
        lease: DutyLease | None,
        kv: KV,
        clock: Clock,
        routing: RoutingSource,
        storage: ChunkClient,
        trimmer: Trimmer,
        *,
        silence_ms: int,
        interval_ms: int,
    ) -> None:
        super().__init__(lease, interval_ms)
        self._kv = kv
        self._clock = clock
        self._routing = routing
        self._storage = storage
        self._trimmer = trimmer
        self._failure_detector = ClientFailureDetector(silence_ms * MILLISECOND)
        self._walked = False
        """The sessions have been looked at once: each of their clients has a row."""
        self._sweep_at = b""
        self.pruned = 0
        """Sessions ended since the start."""

    def set_silence(self, silence_ms: int) -> None:
        """A client that is silent for so long is presumed dead, from now on."""
        self._failure_detector.timeout_ns = silence_ms * MILLISECOND

    async def step(self) -> bool:
        """One look, and what follows from it."""
        clients: list[tuple[ClientId, ClientRecord]] = []
        after: ClientId | None = None
        while page := await self._kv.read(partial(list_clients, after=after, limit=sessions_per_page_max)):
            clients += page
            after = page[-1][0]
        presumed_dead: dict[ClientId, int] = {}
        for client, record in self._failure_detector.observe(self._clock.now(), clients):
            if record.presumed_dead or await self._presume_dead(client, record):
                presumed_dead[client] = record.heartbeats
        if presumed_dead or not self._walked:
            known = {client for client, _ in clients}
            await self._walk(known, presumed_dead)
            if not self._walked:
                await self._register_holders(known)
            self._walked = True
        wall_ns, sweep_at = self._clock.wall(), self._sweep_at

        async def sweep(txn: Txn) -> tuple[bytes | None, int]:
            return await sessions.forget_pruned(txn, wall_ns, sweep_at, sessions_per_page_max)

        following, _ = await self._kv.transact(RoomMaker(sweep))
        self._sweep_at = following or b""
        return False

    async def _presume_dead(self, client: ClientId, record: ClientRecord) -> bool:
        async def op(txn: Txn) -> bool:
            return await presume_dead(txn, client, record)

        if not await self._kv.transact(RoomMaker(op)):
            return False
        log.warning("client %s has been silent for too long: its sessions are ended", client.hex())
        return True

    async def _walk(self, known: set[ClientId], presumed_dead: dict[ClientId, int]) -> None:
        """End the sessions of these clients. Those that have no row (an older version opened them) get one."""
        left = await self._release_locks(presumed_dead)
        after: FileSession | None = None
        while page := await self._kv.read(partial(sessions.list_sessions, after=after, limit=sessions_per_page_max)):
            after = page[-1]
            for session in page:
                if session.client in presumed_dead:
                    if not await self._prune(session, presumed_dead[session.client]):
                        left.add(session.client)
                elif session.client not in known:
                    await self._register(session.client, known)
        for client, heartbeats in presumed_dead.items():
            if client not in left:
                await self._kv.transact(RoomMaker(partial(forget_client, client=client, heartbeats=heartbeats)))

    async def _register(self, client: ClientId, known: set[ClientId]) -> None:
        known.add(client)
        await self._kv.transact(partial(register_client, client=client))

    async def _register_holders(self, known: set[ClientId]) -> None:
        """Clients with locks, of which an older version has forgotten the row."""
        after: ClientId | None = None
        while page := await self._kv.read(partial(locks.list_locking_clients, after=after, limit=sessions_per_page_max)):
            after = page[-1]
            for client in page:
                if client not in known:
                    await self._register(client, known)

    async def _release_locks(self, presumed_dead: dict[ClientId, int]) -> set[ClientId]:
        """Of these clients; those that were heard of meanwhile. When it returns, no row of a file names locks of the others."""
        alive: set[ClientId] = set()
        for client, heartbeats in presumed_dead.items():
            if not await self._kv.transact(RoomMaker(partial(locks.end_epoch, client=client, heartbeats=heartbeats))):
                alive.add(client)
        begin: bytes | None = b""
        while begin is not None:
            begin, _ = await self._kv.transact(RoomMaker(partial(locks.purge, begin=begin, limit=lock_rows_per_step_max)))
        return alive

    async def _prune(self, session: FileSession, heartbeats: int) -> bool:
        """False when the session has to stay for now: its client was heard of, or storage does not say how long its file is."""

        async def look(txn: ReadTxn) -> Inode | None:
            return await find_by_content(txn, session.content)

        inode = await self._kv.read(look)
        length: int | None = None
        if inode is not None and inode.nlink and not (session.append or session.reader):
            try:
                if inode.trim is not None:
                    await self._finish_trim(inode)
                    inode = await self._kv.read(look)
                    if inode is None:
                        return False
                length = await file_length(self._storage, inode, timeout_ns=_TIMEOUT_NS)
            except (FS3Error, MetaError) as why:
                log.warning("content %d of a dead writer waits for its storage: %s", session.content, why)
                return False

        async def op(txn: Txn) -> bool:
            if not await is_presumed_dead(txn, session.client, heartbeats):
                return False
            truncations = None if inode is None else inode.truncations
            ctx = OpContext(User(0, 0), self._clock.wall(), _NO_CLIENT, 0, self._routing.routing, LayoutDefaults())
            after = await sessions.prune(txn, ctx, session, length, truncations)
            if after is not None and inode is not None and after.length > inode.length:
                repaired.append(after.length)
            return True

        repaired: list[int] = []
        try:
            done = await self._kv.transact(RoomMaker(op))
        except (LengthUnknown, TrimOutstanding):
            return False  # it was truncated just now; the next walk asks again
        if done:
            self.pruned += 1
            if repaired and inode is not None:
                log.info("inode %d: a dead writer left %d bytes, %d were known", inode.id, repaired[-1], inode.length)
        return done

    async def _finish_trim(self, inode: Inode) -> None:
        """Storage has bytes from before a truncation: its word counts when they are gone."""
        await self._trimmer.finish(inode.id)
