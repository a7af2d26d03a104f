"""The states of a store that one process has in view."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import lmdb

from fs3.base.limits import key_bytes_stored_max
from fs3.base.units import MILLISECOND, SECOND
from fs3.drivers.lmdb.damage import KnownDamage
from fs3.drivers.lmdb.env import Environment
from fs3.drivers.lmdb.overlay import Snapshot
from fs3.ports.kv import KVRow

lmdb_snapshot_rest_ns = 500 * MILLISECOND
"""A store that has not been read for so long closes the state it has in view."""
lmdb_snapshot_rows = 1024
"""Of one page of everything."""


class Snapshots:
    """`newest` is what is read, `base` what the batches under way were run on: one object while that is the same state.

    Both are closed while the store is idle, since no process can use those pages again that a snapshot of any process shows.
    """

    def __init__(self, environment: Environment, damage: KnownDamage) -> None:
        """`damage`: what every snapshot knows of, whenever it became known."""
        self._environment = environment
        self._damage = damage
        self.newest = self.base = Snapshot(environment.begin_read(), damage)
        self.busy = False
        """The writer is at work: the map cannot be moved, and `base` has to stay."""
        self._used = False
        self._close_timer: asyncio.TimerHandle | None = None
        self.close()

    def renew(self) -> None:
        """Make `newest` the newest state. Raises FS3Error, and MapResizedError when the map has to be moved and cannot be now."""
        newest = self.newest
        self._used = True
        try:
            txn = self._environment.begin_read()
            if txn.id() == newest.state:
                # Cheaper than to ask whether there is a newer one; py-lmdb keeps the reader's slot for the next time.
                txn.abort()
                return
        except lmdb.MapResizedError:
            if self.busy:
                raise
            self.reopen()
            return
        except lmdb.Error as why:
            raise self._environment.explain(why) from why
        self.newest = Snapshot(txn, self._damage)
        if newest is not self.base:
            newest.close()
        if self._close_timer is None:
            self._schedule_close()

    def rebase(self) -> None:
        """Let the next batch run on the newest state. None is under way. Raises FS3Error."""
        self.renew()
        if self.base is not self.newest:
            self.base.close()
            self.base = self.newest

    def reopen(self) -> None:
        """After they were closed, or because another process has outgrown our map. The writer is idle.

        Raises FS3Error; then nothing can be read any more, rather than something old.
        """
        self.close()
        try:
            try:
                txn = self._environment.begin_read()
            except lmdb.MapResizedError:
                self._environment.adopt_map()
                txn = self._environment.begin_read()
        except lmdb.Error as why:
            raise self._environment.explain(why) from why
        self.newest = self.base = Snapshot(txn, self._damage)
        if self._close_timer is None:
            self._schedule_close()

    def close(self) -> None:
        """Show nothing; moving the map, for one, invalidates every open transaction. `renew` opens again."""
        self.newest.close()
        self.base.close()

    def stop(self) -> None:
        """Close for good."""
        if self._close_timer is not None:
            self._close_timer.cancel()
        self.close()

    def _schedule_close(self) -> None:
        self._used = False
        self._close_timer = asyncio.get_running_loop().call_later(lmdb_snapshot_rest_ns / SECOND, self._close_if_unused)

    def _close_if_unused(self) -> None:
        """Nothing has been read for a while: let the pages of the snapshot be used again."""
        self._close_timer = None
        if self._used or self.busy:
            self._schedule_close()
        else:
            self.close()


async def read_pages(environment: Environment, damage: KnownDamage) -> AsyncIterator[Sequence[KVRow]]:
    """All rows of the newest state, in order: see `ScrubbedKV.snapshot`. Their pages are not used again before it ends."""
    state = Snapshot(environment.begin_read(), damage)
    try:
        begin = b""
        while page := state.scan_nowait(begin, _BEHIND_ALL_KEYS, lmdb_snapshot_rows, False):
            yield page
            begin = page[-1][0] + b"\0"
    finally:
        state.close()


_BEHIND_ALL_KEYS = b"\xff" * (key_bytes_stored_max + 1)
