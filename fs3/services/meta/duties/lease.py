"""Which of several metadata services does the duties that one does for all: a lease record in the store they share.

The same machine elects the manager: see `fs3.core.membership.election`. This is a shell of its own all the same, not the
manager's (`fs3.services.mgmtd.candidate`): nothing is founded or announced here, and two that do a duty at the same time do no
harm, so a step that was begun under the lease may end after it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from fs3.base.errors import FS3Error
from fs3.base.units import MILLISECOND, SECOND
from fs3.core.membership.election import (
    Election,
    ElectionEvent,
    ElectionTick,
    ElectionTimes,
    Holder,
    Lead,
    LeaseConflict,
    LeaseIOFailed,
    LeaseRead,
    LeaseRecord,
    LeaseWritten,
    ReadLease,
    Resign,
    StepDown,
    WriteLease,
)
from fs3.core.meta import keys
from fs3.core.txn import ReadTxn, Txn
from fs3.ports.clock import Clock
from fs3.ports.kv import KV, RoomMaker

log = logging.getLogger("fs3.meta")

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(LeaseRecord).decode
_STOP_PATIENCE_NS = 2 * SECOND


class DutyLease:
    """Takes part in the election from `start` to `stop`. Belongs to one event loop."""

    def __init__(self, kv: KV, clock: Clock, entropy: Callable[[int], bytes], lease_ms: int) -> None:
        self._kv = kv
        self._clock = clock
        times = ElectionTimes(lease_ns=lease_ms * MILLISECOND)
        self._election = Election(clock.now(), Holder("meta", entropy(8)), times)
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._stepped = asyncio.Event()

    @property
    def is_held(self) -> bool:
        """This service does the duties now."""
        return self._election.may_act(self._clock.now())

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="fs3-meta-lease")

    async def stop(self) -> None:
        """Give the lease back, so that another service goes on at once."""
        if self._task is None:
            return
        await self._step(Resign())
        try:
            async with asyncio.timeout(_STOP_PATIENCE_NS / SECOND):
                while not self._election.has_resigned:
                    self._stepped.clear()
                    await self._stepped.wait()
        except TimeoutError:
            log.info("the lease of the duties was left to run out")
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None

    async def _run(self) -> None:
        while True:
            deadline = self._election.next_deadline()
            self._wake.clear()
            wait = None if deadline is None else max(0, deadline - self._clock.now()) / SECOND
            try:
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            except TimeoutError:
                await self._step(ElectionTick())

    async def _step(self, event: ElectionEvent) -> None:
        """Take the event in and do what it asks for, until it asks for nothing more."""
        events = [event]
        while events:
            for effect in self._election.step(self._clock.now(), events.pop(0)):
                match effect:
                    case ReadLease():
                        events.append(await self._read_lease())
                    case WriteLease():
                        events.append(await self._write(effect))
                    case Lead():
                        log.info("this service does the duties for all, epoch %d", effect.epoch)
                    case StepDown():
                        log.info("this service leaves the duties to others: %s", effect.why)
        self._wake.set()
        self._stepped.set()

    async def _read_lease(self) -> ElectionEvent:
        try:
            return LeaseRead(await self._kv.read(_read))
        except FS3Error as why:
            return LeaseIOFailed(str(why))

    async def _write(self, write: WriteLease) -> ElectionEvent:
        async def op(txn: Txn) -> ElectionEvent:
            found = await _read(txn)
            if found != write.expected:
                return LeaseConflict(found)
            txn.put(keys.DUTIES, _encode(write.record))
            return LeaseWritten()

        try:
            return await self._kv.transact(RoomMaker(op))  # garbage is reclaimed under it
        except FS3Error as why:
            return LeaseIOFailed(str(why))


async def _read(txn: ReadTxn) -> LeaseRecord | None:
    row = await txn.get(keys.DUTIES)
    return None if row is None else _decode(row)
