"""Jobs of an engine: any number of pages to be read or stored, in calls of bounded size, without ever waiting for one.

An engine hands over what it has: a block, or the ten thousand of a long prompt. One call over all of these would have to be done
within one timeout. So a job is done in parts, of which so many are under way at a time, each within a timeout of its own. Reads
and stores do not wait for each other.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec

from fs3.api.kvcache import BlockingKVCache, JobKind, JobResult, Status
from fs3.api.kvcache.arguments import Key
from fs3.base.errors import FS3Error
from fs3.base.units import MIB

part_bytes_max = 128 * MIB
part_pages_max = 1024
parts_max = 4
"""Parts of one kind that are under way at a time."""

log = logging.getLogger("fs3.engines")


class Transfer(msgspec.Struct):
    """A job that is under way, or has ended."""

    number: int
    """The engine's own."""
    kind: JobKind
    keys: Sequence[Key]
    statuses: list[Status]
    """Per key; ERROR for what was not tried."""
    begun: float
    """`time.monotonic()`."""
    parts: int
    """That have not ended."""


class _Part(msgspec.Struct):
    transfer: Transfer
    first: int
    """Index of its first key in the transfer."""
    buffers: Sequence[Any]


class TransferQueue:
    """The jobs of one engine over one namespace. One thread at a time may use it. No call raises.

    Parts begin when a job is handed over, when others have ended and `poll` is called, and while `drain` waits.
    """

    def __init__(self, cache: BlockingKVCache) -> None:
        self._cache = cache
        self._part_pages = max(1, min(part_pages_max, part_bytes_max // cache.page_bytes))
        self._waiting: dict[JobKind, deque[_Part]] = {JobKind.GET: deque(), JobKind.PUT: deque()}
        self._under_way: dict[JobKind, dict[int, _Part]] = {JobKind.GET: {}, JobKind.PUT: {}}
        """By the number of the cache's job."""
        self._ended: list[Transfer] = []

    def read(self, number: int, keys: Sequence[Key], buffers: Sequence[Any]) -> None:
        """Begin to read pages to these buffers, which are undefined until the job has ended."""
        self._begin(number, JobKind.GET, keys, buffers)

    def store(self, number: int, keys: Sequence[Key], buffers: Sequence[Any]) -> None:
        """Begin to store pages from these buffers, which must not change until the job has ended."""
        self._begin(number, JobKind.PUT, keys, buffers)

    def _begin(self, number: int, kind: JobKind, keys: Sequence[Key], buffers: Sequence[Any]) -> None:
        firsts = range(0, len(keys), self._part_pages)
        transfer = Transfer(number, kind, keys, [Status.ERROR] * len(keys), time.monotonic(), len(firsts))
        if not firsts:
            self._ended.append(transfer)
        self._waiting[kind].extend(_Part(transfer, first, buffers[first : first + self._part_pages]) for first in firsts)
        self._submit(kind)

    def poll(self) -> list[Transfer]:
        """The jobs that have ended since the last time. Never waits."""
        for kind in self._under_way:
            if self._under_way[kind]:
                try:
                    results = self._cache.poll(kind)
                except FS3Error as failure:
                    self._give_up(failure)
                    break
                self._settle(results)
            self._submit(kind)
        ended, self._ended = self._ended, []
        return ended

    def drain(self) -> None:
        """Wait until every job has ended, however it ends; `poll` tells how."""
        while jobs := [job for parts in self._under_way.values() for job in parts]:
            try:
                results = self._cache.wait(jobs[:1])
            except (FS3Error, KeyError) as failure:
                self._give_up(failure)
                return
            self._settle(results)
            for kind in self._waiting:
                self._submit(kind)

    def close(self) -> None:
        """Wait for the parts that are under way, so that what is nearly stored is stored; others never begin."""
        for waiting in self._waiting.values():
            while waiting:
                self._end_part(waiting.popleft())
        self.drain()

    def _submit(self, kind: JobKind) -> None:
        waiting, under_way = self._waiting[kind], self._under_way[kind]
        begin = self._cache.submit_get if kind is JobKind.GET else self._cache.submit_put
        while waiting and len(under_way) < parts_max:
            part = waiting.popleft()
            keys = part.transfer.keys[part.first : part.first + self._part_pages]
            try:
                job = begin(keys, part.buffers)
            except (FS3Error, ValueError, TypeError) as failure:
                log.warning("fs3 is left out of a job over %d pages: %s", len(keys), failure)
                self._end_part(part)
            else:
                under_way[job] = part

    def _settle(self, results: Sequence[JobResult]) -> None:
        for result in results:
            part = self._under_way[result.kind].pop(result.job, None)
            if part is None:
                continue
            if result.failure is not None:
                log.warning("a job over %d pages has failed: %s", len(result.statuses), result.failure)
            part.transfer.statuses[part.first : part.first + len(result.statuses)] = result.statuses
            self._end_part(part)

    def _end_part(self, part: _Part) -> None:
        part.transfer.parts -= 1
        part.buffers = ()
        if not part.transfer.parts:
            self._ended.append(part.transfer)

    def _give_up(self, failure: Exception) -> None:
        """The cache is closed, and all calls have been cancelled: nothing touches a buffer any more."""
        log.warning("the jobs that were under way have failed: %s", failure)
        for parts in self._under_way.values():
            for part in parts.values():
                self._end_part(part)
            parts.clear()
        for waiting in self._waiting.values():
            while waiting:
                self._end_part(waiting.popleft())
