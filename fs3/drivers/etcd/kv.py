"""The KV port on etcd: group commit by optimistic transactions, reads from a row cache that is proved fresh.

    submit ─► inbox ─► run, one after the other, on the writes of their batch over the row cache
                       rows that are missing: read for all operations that wait, at once; then run again
    batch  ─► one transaction: if what was read is the same, write         ─► answer all callers
                       else wait for the changes of the others, run again
    submit_read ─► one probe for all reads that wait: how new is the store? ─► the cache has been told so far ─► run

**What is compared.** Every row that an operation has read outside of its batch must have the revision it had, or be absent as it
was; and in each range that was scanned, up to the last row returned, nothing may be newer than the state the scan was on.
Operations that raised or wrote nothing count as well: their answers, too, are of the state their batch commits on. While no
other process commits, one comparison says all that: the *mark*, which every transaction writes, is the one of the state the
batch was run on. The same is required of an operation that reads more rows than one transaction can compare.

**When etcd does not answer.** Another member is asked. A commit may have taken place nonetheless, which the row of this process
says (`fs3.drivers.etcd.committer`); operations are answered once that is known, or with DEADLINE when it is not in time. Without
a quorum, operations fail with UNAVAILABLE after `etcd_patience_ns`; the store goes on by itself when there is one again.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence, Sized
from typing import Any, Self, TypeVar

from fs3.base.checksum import is_sealed
from fs3.base.errors import FS3Error, error
from fs3.base.limits import (
    attempt_timeout_ns,
    key_bytes_stored_max,
    transactions_per_commit_max,
    transactions_per_turn_max,
    transactions_waiting_max,
)
from fs3.base.status import Code
from fs3.base.units import MICROSECOND, MILLISECOND, SECOND
from fs3.core.txn import unseal_row
from fs3.drivers.etcd.access import PLAIN, EtcdAccess
from fs3.drivers.etcd.batch import EtcdBatch, WaitingOperation
from fs3.drivers.etcd.client import EtcdClient, etcd_request_bytes_max, etcd_txn_operations_max, is_refusal
from fs3.drivers.etcd.committer import Committer, Entropy
from fs3.drivers.etcd.feed import CacheFeed
from fs3.drivers.etcd.key_space import KeySpace
from fs3.drivers.etcd.row_cache import EtcdRowCache
from fs3.drivers.etcd.state import EtcdState, EtcdStats, find_state
from fs3.drivers.etcd.transaction import OperationRun
from fs3.drivers.kv.write_set import WriteSet
from fs3.model.metrics import catalogue
from fs3.model.metrics.metric import Sample
from fs3.ports.clock import Clock
from fs3.ports.kv import KVRow, KVScrubStep, OnDone, ReadOp, WriteOp, future_callback
from fs3.runtime.tasks import start_background
from fs3.wire.etcd import (
    RANGE,
    TXN,
    EtcdCondition,
    EtcdRange,
    decode_range,
    encode_limit_probe,
    encode_range,
    encode_txn,
)

log = logging.getLogger("fs3.etcd")

etcd_patience_ns = 4_500 * MILLISECOND
"""An operation that etcd does not carry out in so long fails: clients wait for an answer a little longer, so they learn why."""
assert etcd_patience_ns < attempt_timeout_ns
etcd_patience_min_ns = 4 * SECOND
"""The same for one that has waited long for its turn: an election, and a commit after it."""
etcd_patience_away_ns = 2 * SECOND
"""The same for one that begins when the one before it has failed so."""
etcd_gather_ns = 500 * MICROSECOND
etcd_gathers_max = 4
etcd_gather_operations_min = 8
"""After a batch of so many, more are waited for before the next one begins, as long as some come in each of so many such times:
what a commit or a probe costs is shared by all."""
etcd_crowded_commits = 16
"""So many commits after one that met another process', what was read is compared, not the mark."""
etcd_conflict_pause_ns = 4 * MILLISECOND
"""At most so long a process lets others go first, each time one of its batches has met one of theirs; a random part of it."""
etcd_ahead_operations_max = 16
"""Operations that are looked at for what they will miss, once all of a batch were."""
etcd_state_ns = 5 * SECOND
"""How often the members are asked how they are."""
etcd_room_ns = 60 * SECOND
"""How often they are asked for their quota, and what they have compacted."""
etcd_scrub_rows = 256
"""Rows one step of a scrub looks at."""
etcd_snapshot_rows = 512
"""Rows that are read at once for a snapshot."""
_REQUEST_OVERHEAD_BYTES = 512 * 1024
"""etcd reads requests that are larger than `--max-request-bytes` by so much, and only then looks at that limit."""
_BEHIND_ALL_KEYS = b"\xff" * (key_bytes_stored_max + 1)
_FORMAT = b"fs3-kv 1"

OpeningStep = Callable[[int], Coroutine[Any, Any, None]]
"""Is given a deadline."""
T = TypeVar("T")


class EtcdKV:
    """`KV` under a prefix of an etcd cluster. All methods are called on one loop. A forked child cannot use it."""

    def __init__(self, client: EtcdClient, prefix: str, clock: Clock, entropy: Entropy, patience_ns: int) -> None:
        """Use `open`."""
        self._clock = clock
        self._patience_ns = patience_ns
        self._client = client
        self._keys = KeySpace(prefix.encode())
        self._cache = EtcdRowCache()
        self._feed = CacheFeed(self._client, self._keys, self._cache)
        self._committer = Committer(self._client, self._keys, self._cache, self._feed, entropy)
        self._inbox: deque[WaitingOperation] = deque()
        self._reads: list[WaitingOperation] = []
        self._write_lane: asyncio.Task[None] | None = None
        self._read_lane: asyncio.Task[None] | None = None
        self._crowded_commits = 0
        """Commits for which what was read is compared."""
        self._closing = False
        self._is_away = False
        """The last operation was not carried out: no quorum of etcd has answered."""
        self._damaged: set[bytes] = set()
        self._state: EtcdState | None = None
        self._state_task: asyncio.Task[None] | None = None
        self.stats = EtcdStats()

    @classmethod
    async def open(
        cls,
        endpoints: Sequence[str],
        prefix: str,
        clock: Clock,
        *,
        access: EtcdAccess = PLAIN,
        entropy: Entropy = os.urandom,
        patience_ns: int = etcd_patience_ns,
    ) -> Self:
        """Open the store under a prefix, creating it when there is none. Waits for etcd as long as that takes, and says so.

        `patience_ns`: an operation that etcd does not carry out in so long fails.

        FS3Error: INVALID or TOO_LARGE when the members admit smaller transactions than a store needs; ACCESS; CONFIG; UNSUPPORTED
        for a store of another version.
        """
        kv = cls(EtcdClient(endpoints, clock, access), prefix, clock, entropy, patience_ns)
        try:
            await kv._feed.start()
            await kv._patiently(kv._check_members)
            await kv._patiently(kv._committer.prepare)
            kv._state_task = start_background(kv._watch_state())
        except BaseException:
            await kv._feed.stop()
            await kv._client.close()
            raise
        return kv

    async def _patiently(self, step: OpeningStep) -> None:
        while True:
            try:
                await step(self._clock.now() + etcd_patience_ns)
                return
            except FS3Error as why:
                if is_refusal(why):
                    raise
                log.warning("%s; trying again", why)

    async def _check_members(self, deadline: int) -> None:
        """FS3Error when they admit too little, or have rows of another format."""
        keys, client = self._keys, self._client
        await client.ask(TXN, encode_limit_probe(keys.format, etcd_txn_operations_max, 0), deadline)
        try:
            size = etcd_request_bytes_max + _REQUEST_OVERHEAD_BYTES - 1024
            await client.ask(TXN, encode_limit_probe(keys.format, 1, size), deadline)
        except FS3Error as why:
            if why.code is not Code.TOO_LARGE:
                raise
            told = f"each member has to be started with --max-request-bytes {etcd_request_bytes_max}"
            raise error(Code.TOO_LARGE, f"{why.strerror}; {told}") from why
        absent = [EtcdCondition(keys.format, 0)]
        await client.ask(TXN, encode_txn(absent, {keys.format: _FORMAT}, ()), deadline)
        (rows,) = (await client.read([EtcdRange(keys.format)], deadline)).ranges
        if not rows or rows[0].value != _FORMAT:
            found = rows[0].value if rows else None
            told = f"{keys.prefix.decode()!r} in etcd has a store of format {found!r}; this version of fs3 reads {_FORMAT!r}"
            raise error(Code.UNSUPPORTED, told)

    # --- reading ------------------------------------------------------------------------------------------------------

    def submit_read(self, op: ReadOp[T], done: OnDone[T]) -> None:
        """See the port."""
        if self._closing or len(self._reads) >= transactions_waiting_max:
            done(None, self._refusal())
            return
        self._reads.append(WaitingOperation(op, done, self._clock.now()))
        if self._read_lane is None or self._read_lane.done():
            self._read_lane = asyncio.get_running_loop().create_task(self._run_reads(), name="fs3-etcd-reads")

    async def read(self, op: ReadOp[T]) -> T:
        """See the port."""
        future, done = future_callback()
        self.submit_read(op, done)
        result: T = await future
        return result

    async def _run_reads(self) -> None:
        await asyncio.sleep(0)  # all that are submitted in this turn share one probe
        last = 0
        while self._reads:
            if last >= etcd_gather_operations_min:
                await _gather(self._reads)
            waiting, self._reads = self._reads, []
            last = len(waiting)
            deadline = self._deadline(waiting[0])
            try:
                await self._feed.probe(deadline)
                while waiting:
                    waiting = await self._answer_reads(waiting, deadline)
            except Exception as why:  # every caller is told
                self._fail(waiting, why)

    async def _answer_reads(self, waiting: list[WaitingOperation], deadline: int) -> list[WaitingOperation]:
        """Run reads on the state the cache has. Returns those that need what it has not, once it has."""
        cache, nothing = self._cache, WriteSet()
        suspended = []
        for number, one in enumerate(waiting, 1):
            run = OperationRun(one.operation, cache, nothing)
            if run.missing:
                suspended.append((one, run))
            else:
                self._answer(one, run)
            if number % transactions_per_turn_max == 0:
                await asyncio.sleep(0)
        if not suspended:
            return []
        again = [one for one, _ in suspended]
        try:
            await self._fetch_for([run for _, run in suspended], deadline)
        except FS3Error as why:
            self._fail(again, why)
            return []
        for one, run in suspended:
            # On one state from its beginning to its end; else it runs again, on rows that are at hand now.
            if run.revision == cache.revision:
                self._answer(one, run)
                again.remove(one)
        return again

    async def _fetch_for(self, runs: list[OperationRun], deadline: int) -> None:
        """Take operations to their ends, whatever states of the store they meet on the way: the cache has then what they need."""
        try:
            while wanted := [missing for run in runs for missing in run.missing]:
                await self._feed.fetch(wanted, deadline)
                for run in runs:
                    if run.missing:
                        run.go_on()
        except BaseException:
            for run in runs:
                run.drop()
            raise

    # --- writing ------------------------------------------------------------------------------------------------------

    def submit(self, op: WriteOp[T], done: OnDone[T]) -> None:
        """See the port. Operations take effect in the order in which they were submitted."""
        if self._closing or len(self._inbox) >= transactions_waiting_max:
            done(None, self._refusal())
            return
        self._inbox.append(WaitingOperation(op, done, self._clock.now()))
        if self._write_lane is None or self._write_lane.done():
            self._write_lane = asyncio.get_running_loop().create_task(self._run_writes(), name="fs3-etcd-writes")

    async def transact(self, op: WriteOp[T]) -> T:
        """See the port."""
        future, done = future_callback()
        self.submit(op, done)
        result: T = await future
        return result

    async def _run_writes(self) -> None:
        await asyncio.sleep(0)  # all that are submitted in this turn share one commit
        last = 0
        while inbox := self._inbox:
            if last >= etcd_gather_operations_min:
                await _gather(inbox)
            waiting = [inbox.popleft() for _ in range(min(len(inbox), transactions_per_commit_max))]
            try:
                batch = await self._commit_some(waiting, self._deadline(waiting[0]))
            except Exception as why:  # every caller is told
                self._fail(waiting, why)
                continue
            last = len(batch.outcomes)
            inbox.extendleft(reversed(waiting[last:]))
            for one, run in batch.outcomes:
                self._answer(one, run)

    async def _commit_some(self, waiting: list[WaitingOperation], deadline: int) -> EtcdBatch:
        """Run and commit the first of these operations, as many as fit. FS3Error when none is committed."""
        conflicts = 0
        while True:
            await self._committer.prepare(deadline)
            if self._cache.is_full:
                self._cache.clear()
            batch = await self._run_batch(waiting, deadline)
            committed = await self._committer.commit(batch, deadline, by_mark=not self._crowded_commits)
            if not committed or self._committer.met_others:
                self._crowded_commits = etcd_crowded_commits
            elif self._crowded_commits:
                self._crowded_commits -= 1
            if committed:
                self.stats.commits += bool(batch.writes.rows)
                self.stats.rows += len(batch.writes.rows)
                if self._committer.met_others:
                    await self._yield_to_others()
                return batch
            conflicts += 1
            self.stats.conflicts += 1
            self.stats.reruns += len(batch.outcomes)
            if self._clock.now() >= deadline:
                raise error(Code.BUSY, f"other processes have changed what was read, {conflicts} times in a row")
            if conflicts > 1:
                await self._yield_to_others()

    async def _yield_to_others(self) -> None:
        await asyncio.sleep(random.random() * etcd_conflict_pause_ns / SECOND)

    async def _run_batch(self, waiting: list[WaitingOperation], deadline: int) -> EtcdBatch:
        """Operations in their order, each on what those before it leave."""
        cache = self._cache
        batch = EtcdBatch(self._keys)
        at = 0
        looks_ahead = 0
        while at < len(waiting):
            run = OperationRun(waiting[at].operation, cache, batch.writes)
            if run.missing:
                # All that wait are looked at, so that what they miss is read at once. First by guessing, which finds all of what
                # makers of new rows need; then step by step.
                ahead = len(waiting) if looks_ahead < 2 else etcd_ahead_operations_max
                others = waiting[at + 1 : at + 1 + ahead]
                runs = [run, *(OperationRun(one.operation, cache, batch.writes) for one in others)]
                if looks_ahead:
                    await self._fetch_for(runs, deadline)
                else:
                    await self._feed.fetch([missing for one in runs for missing in one.guess()], deadline)
                looks_ahead += 1
                continue
            if not batch.admit(waiting[at], run, cache.revision):
                break
            at += 1
            if at % transactions_per_turn_max == 0:
                await asyncio.sleep(0)
        return batch

    # --- answers ------------------------------------------------------------------------------------------------------

    def _deadline(self, first: WaitingOperation) -> int:
        if self._is_away:
            return self._clock.now() + min(self._patience_ns, etcd_patience_away_ns)
        return max(first.since + self._patience_ns, self._clock.now() + min(self._patience_ns, etcd_patience_min_ns))

    def _answer(self, one: WaitingOperation, run: OperationRun) -> None:
        self.stats.transactions += 1
        self._is_away = False
        try:
            one.done(None if run.failure is not None else run.result, run.failure)
        except Exception:
            log.exception("the callback of a transaction raised")

    def _fail(self, waiting: Sequence[WaitingOperation], why: Exception) -> None:
        if not isinstance(why, FS3Error):
            log.error("the lane of a store on etcd has failed", exc_info=why)
            why = error(Code.INTERNAL, f"the key-value store has failed: {why}")
        self.stats.failed += len(waiting)
        self._is_away = self._is_away or why.code in (Code.UNAVAILABLE, Code.DEADLINE)
        for one in waiting:
            try:
                # One each: an object raised in many places would chain tracebacks.
                one.done(None, error(why.code, why.strerror or "", why.filename))
            except Exception:
                log.exception("the callback of a transaction raised")

    def _refusal(self) -> FS3Error:
        if self._closing:
            return error(Code.SHUTTING_DOWN, "the key-value store is closed")
        return error(Code.BUSY, f"{transactions_waiting_max} operations are waiting already")

    # --- upkeep -------------------------------------------------------------------------------------------------------

    async def _watch_state(self) -> None:
        turns = etcd_room_ns // etcd_state_ns
        for turn in itertools.count():
            known = self._state.rooms if self._state is not None and turn % turns else None
            self._state = await find_state(self._client, known)
            await asyncio.sleep(etcd_state_ns / SECOND)

    @property
    def problem(self) -> str:
        """See `ScrubbedKV`: members that do not answer, alarms such as a quota of space that is used up."""
        return "; ".join(self._state.problems) if self._state is not None else ""

    def samples(self) -> Iterator[Sample]:
        """See `ScrubbedKV`."""
        stats = self.stats
        yield Sample(catalogue.STORE_TRANSACTIONS, (), stats.transactions)
        yield Sample(catalogue.STORE_COMMITS, (), stats.commits)
        yield Sample(catalogue.STORE_ROWS, (), stats.rows)
        yield Sample(catalogue.STORE_CONFLICTS, (), stats.conflicts)
        yield Sample(catalogue.STORE_RERUNS, (), stats.reruns)
        yield Sample(catalogue.STORE_FAILED, (), stats.failed)

    @property
    def description(self) -> str:
        """See `ScrubbedKV`."""
        return self._state.describe() if self._state is not None else ""

    async def scrub(self, begin: bytes) -> KVScrubStep:
        """See `ScrubbedKV`. etcd keeps sums of its files; this looks at what fs3 has written."""
        if self._closing:
            raise self._refusal()
        end = self._keys.to_etcd(EtcdRange(b"", _BEHIND_ALL_KEYS)).end
        wanted = EtcdRange(self._keys.row(begin), end, etcd_scrub_rows)
        deadline = self._clock.now() + etcd_patience_ns
        (rows,) = (await self._client.read([wanted], deadline)).ranges
        found = [(self._keys.strip(row.key), row.value) for row in rows]
        following = found[-1][0] + b"\0" if len(found) == etcd_scrub_rows else None
        damaged = {key for key, sealed in found if not is_sealed(key, sealed)}
        for key in damaged - self._damaged:
            log.error("row %r in etcd is damaged", key)
        self._damaged = {key for key in self._damaged if not (begin <= key and (following is None or key < following))} | damaged
        return KVScrubStep(following, sum(len(key) + len(sealed) for key, sealed in found), len(found))

    async def snapshot(self) -> AsyncIterator[Sequence[KVRow]]:
        """See `ScrubbedKV`."""
        keys, client = self._keys, self._client
        begin, end = keys.row(b""), keys.to_etcd(EtcdRange(b"", _BEHIND_ALL_KEYS)).end
        revision = (await client.read([EtcdRange(keys.mark)], self._clock.now() + etcd_patience_ns)).revision
        while True:
            request = encode_range(EtcdRange(begin, end, etcd_snapshot_rows), revision)
            (rows,) = decode_range(await client.ask(RANGE, request, self._clock.now() + etcd_patience_ns)).ranges
            page = [(key := keys.strip(row.key), unseal_row(key, row.value, tolerant=False)) for row in rows]
            if not page:
                return
            yield page
            begin = rows[-1].key + b"\0"

    @property
    def damaged_rows(self) -> tuple[bytes, ...]:
        """See `ScrubbedKV`."""
        return tuple(sorted(self._damaged))

    @property
    def failure(self) -> FS3Error | None:
        """See `ScrubbedKV`: this store goes on by itself whenever etcd does."""
        return None

    async def close(self) -> None:
        """See the port."""
        if self._closing:
            return
        self._closing = True
        if self._state_task is not None:
            self._state_task.cancel()
            await asyncio.gather(self._state_task, return_exceptions=True)
        lanes = [lane for lane in (self._write_lane, self._read_lane) if lane is not None]
        await asyncio.gather(*lanes, return_exceptions=True)
        await self._committer.close()
        await self._feed.stop()
        await self._client.close()


async def _gather(waiting: Sized) -> None:
    """Return when nothing more has come for a moment."""
    for _ in range(etcd_gathers_max):
        before = len(waiting)
        await asyncio.sleep(etcd_gather_ns / SECOND)
        if len(waiting) == before:
            return
