"""Commits batches, each as one transaction of etcd, and finds out what became of those it was not told of.

Each opening of a store has a row of its own, which goes with its lease. Every commit writes its number there and requires that
the row is as its last commit has left it. When no answer comes, the row says what happened: it has the number, and the batch
is committed; or it is as it was, and is then written (a *fence*), after which the commit cannot take place any more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, MINUTE, SECOND
from fs3.drivers.etcd.batch import EtcdBatch
from fs3.drivers.etcd.client import EtcdClient, is_refusal
from fs3.drivers.etcd.feed import CacheFeed
from fs3.drivers.etcd.key_space import KeySpace
from fs3.drivers.etcd.row_cache import EtcdRowCache
from fs3.wire.etcd import (
    LEASE_GRANT,
    LEASE_REVOKE,
    TXN,
    EtcdChange,
    EtcdCondition,
    EtcdRange,
    EtcdRow,
    decode_lease_grant,
    decode_lease_keep_alive,
    decode_txn,
    encode_check,
    encode_lease_grant,
    encode_lease_keep_alive,
    encode_lease_revoke,
    encode_txn,
)

log = logging.getLogger("fs3.etcd")

Entropy = Callable[[int], bytes]
"""Draws so many bytes."""

etcd_process_lease_ns = 60 * MINUTE
"""The row of a process that has vanished goes after so long. No process stands still in a commit for longer and is then told what
became of it."""
etcd_process_renewal_ns = 5 * MINUTE
etcd_commit_ns = 3 * SECOND
"""How long a member may take for a commit; then another one is asked what became of it."""
etcd_settle_pause_ns = 50 * MILLISECOND
"""Between two attempts to find that out, and between two to send a commit."""
_INSTANCE_BYTES = 8


class Committer:
    """One opening of a store, as the others see it."""

    def __init__(self, client: EtcdClient, keys: KeySpace, cache: EtcdRowCache, feed: CacheFeed, entropy: Entropy) -> None:
        """`entropy`: tells openings apart."""
        self._client = client
        self._keys = keys
        self._cache = cache
        self._feed = feed
        self._entropy = entropy
        self._row = b""
        """Key of the row of this opening; empty: there is none."""
        self._row_revision = 0
        """Of the row, as our last commit has left it."""
        self._lease = 0
        self._number = 0
        """Of the last commit or fence."""
        self._in_doubt = 0
        """Number of a commit of which nothing is known; 0: none."""
        self._told_needed = 0
        """Revision up to which the cache has to be told before operations run."""
        self._renewal: asyncio.Task[None] | None = None
        self.met_others = False
        """The last commit has found that another process commits too."""

    async def prepare(self, deadline: int) -> None:
        """What comes before operations are run: nothing is in doubt, and the cache has what this process has committed."""
        if self._in_doubt:
            try:
                await self._settle(deadline)
            except FS3Error as why:
                if why.code is not Code.DEADLINE:
                    raise
                # Nothing is known of the commit before; what waits now has surely not been carried out.
                raise error(Code.UNAVAILABLE, why.strerror or "") from why
        if not self._row:
            await self._register(deadline)
        await self._feed.wait_told(self._told_needed, deadline)

    async def commit(self, batch: EtcdBatch, deadline: int, *, by_mark: bool) -> bool:
        """Commit a batch. False: what it has read is not so any more, and nothing of it took place. `by_mark`: see
        `EtcdBatch.conditions`.

        FS3Error: NO_SPACE, TOO_LARGE, ACCESS when etcd refuses; DEADLINE when it is not known whether it took place.
        """
        conditions = batch.conditions(by_mark=by_mark)
        mark = EtcdRange(self._keys.mark)
        if not batch.writes.rows:
            reply = decode_txn(await self._client.ask(TXN, encode_check(conditions, [mark]), deadline))
            if not reply.succeeded:
                self._note_mark(reply.ranges[0])
            return reply.succeeded
        self._number += 1
        puts, deletes = batch.puts(), batch.deletes()
        request = encode_txn(
            [EtcdCondition(self._row, self._row_revision), *conditions],
            puts,
            deletes,
            leased=(self._row, self._encode(self._number), self._lease),
            traced=(self._keys.mark, b""),
            otherwise=[mark, EtcdRange(self._row)],
        )
        self._in_doubt = self._number
        try:
            reply = decode_txn(await self._send(request, deadline))
        except FS3Error as why:
            if is_refusal(why) or why.code is Code.UNAVAILABLE:
                self._in_doubt = 0
                raise
            return await self._settle(deadline, why)
        self._in_doubt = 0
        if not reply.succeeded:
            mark_rows, own_rows = reply.ranges
            self._note_mark(mark_rows)
            self._note_row(own_rows)
            self.met_others = True
            # The library may send a request twice: what the second one finds is then what the first one has done.
            return bool(own_rows) and own_rows[0].value == self._encode(self._number)
        self._row_revision = reply.revision
        self._told_needed = reply.revision
        self.met_others = reply.replaced != self._cache.revision
        if not self.met_others:
            changes = [EtcdChange(key, value, reply.revision) for key, value in puts.items()]
            changes += [EtcdChange(key, None, reply.revision) for key in deletes]
            self._feed.apply(self._keys.rows_of(changes), reply.revision)
        return True

    async def _send(self, request: bytes, deadline: int) -> bytes:
        """To the first member that can be reached. FS3Error: UNAVAILABLE when there is none, else as `EtcdClient.call`."""
        client = self._client
        while True:
            try:
                left = max(deadline - client.clock.now(), etcd_settle_pause_ns)
                return await client.call(TXN, request, timeout_ns=min(etcd_commit_ns, left))
            except FS3Error as why:
                if why.code is not Code.UNAVAILABLE:
                    raise
                if client.clock.now() >= deadline:
                    raise client.no_quorum(why) from why
            await asyncio.sleep(etcd_settle_pause_ns / SECOND)

    async def _settle(self, deadline: int, why: FS3Error | None = None) -> bool:
        """Find out what became of the commit in doubt: True when it took place. `why`: how the member has failed to say it.

        FS3Error: DEADLINE, and it stays in doubt; NO_SPACE, when that was the answer and nothing took place.
        """
        client, number = self._client, self._in_doubt
        while True:
            try:
                (rows,) = (await client.read([EtcdRange(self._row)], deadline)).ranges
            except FS3Error as problem:
                told = f"it is not known whether a commit has taken place: {problem.strerror}"
                raise error(Code.DEADLINE, told) from problem
            if not rows:
                self._in_doubt, self._row = 0, b""
                raise error(Code.DEADLINE, "it is not known whether a commit has taken place: the lease of the process is over")
            if rows[0].value == self._encode(number):
                self._in_doubt = 0
                self._row_revision = self._told_needed = rows[0].mod_revision
                return True
            if rows[0].mod_revision != self._row_revision:
                self._in_doubt = 0
                self._row_revision = rows[0].mod_revision
                return False
            if why is not None and why.code is Code.NO_SPACE:  # the commit has been answered: nothing of it is under way
                self._in_doubt = 0
                raise why
            await self._fence()
            if client.clock.now() >= deadline:
                raise error(Code.DEADLINE, "it is not known whether a commit has taken place: etcd does not settle it")

    async def _fence(self) -> None:
        """Write the row, if it is as our last commit has left it. What became of that is read afterwards."""
        self._number += 1
        condition = EtcdCondition(self._row, self._row_revision)
        request = encode_txn([condition], {}, (), leased=(self._row, self._encode(self._number), self._lease))
        try:
            await self._client.call(TXN, request)
        except FS3Error as why:
            if is_refusal(why):
                raise
            await asyncio.sleep(etcd_settle_pause_ns / SECOND)

    def _note_mark(self, rows: tuple[EtcdRow, ...]) -> None:
        if rows:
            self._told_needed = max(self._told_needed, rows[0].mod_revision)

    def _note_row(self, rows: tuple[EtcdRow, ...]) -> None:
        if rows:
            self._row_revision = rows[0].mod_revision
        else:
            self._row = b""

    # --- the row of this opening --------------------------------------------------------------------------------------

    async def _register(self, deadline: int) -> None:
        """Make a row that no other opening knows of; so it is written once, however often the request is repeated."""
        client = self._client
        seconds = etcd_process_lease_ns // SECOND
        lease = decode_lease_grant(await client.ask(LEASE_GRANT, encode_lease_grant(seconds), deadline))
        row = self._keys.process(self._entropy(_INSTANCE_BYTES).hex().encode())
        leased = (row, self._encode(self._number), lease)
        await client.ask(TXN, encode_txn([EtcdCondition(row, 0)], {}, (), leased=leased), deadline)
        (rows,) = (await client.read([EtcdRange(row)], deadline)).ranges
        if not rows:
            raise error(Code.UNAVAILABLE, "the lease of the process ended as it began")
        self._row, self._row_revision, self._lease = row, rows[0].mod_revision, lease
        if self._renewal is None:
            self._renewal = asyncio.get_running_loop().create_task(self._renew(), name="fs3-etcd-lease")

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(etcd_process_renewal_ns / SECOND)
            try:
                # One that is over is noticed by the next commit, whose condition on the row does not hold.
                decode_lease_keep_alive(await self._client.keep_alive(encode_lease_keep_alive(self._lease)))
            except FS3Error as why:
                log.warning("%s", why)

    async def close(self) -> None:
        """Take the row away. Nothing is committed afterwards."""
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.gather(self._renewal, return_exceptions=True)
        if self._row and not self._in_doubt:
            try:
                await self._client.call(LEASE_REVOKE, encode_lease_revoke(self._lease))
            except FS3Error as why:
                log.info("%s", why)

    @staticmethod
    def _encode(number: int) -> bytes:
        return b"%d" % number
