"""The reads of one queue pair: posted as far as there are credits, completed, and watched while they are under way."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from fs3.base.units import MIB, MILLISECOND, SECOND
from fs3.core.rdma.fetching import Fetching, PayloadFetch
from fs3.drivers.framed.bulk_path import OnFetched
from fs3.drivers.rdma.pool import MemorySlot
from fs3.drivers.rdma.settings import RdmaHost
from fs3.drivers.rdma.verbs import QueuePair, VerbsError
from fs3.model.rdma import RemoteRegion

piece_bytes_max = 1 * MIB
"""Of one read."""
watch_ns = 100 * MILLISECOND
"""How often reads under way are looked at."""


class FetchJob(NamedTuple):
    """What a fetch is for: `PayloadFetch.item`."""

    slot: MemorySlot
    fetched: OnFetched


class ReadsOwner(Protocol):
    """Whose queue pair it is."""

    def on_fetched(self, fetch: PayloadFetch) -> None:
        """A payload is in its slot. May close the reads."""
        ...

    def on_broken(self, reason: str) -> None:
        """A read has failed, or none completes: must close."""
        ...


class PairReads:
    """Owns a queue pair, from when it was made to its end."""

    def __init__(self, owner: ReadsOwner, host: RdmaHost, pair: QueuePair) -> None:
        self.pair = pair
        self._owner = owner
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._now = host.clock.now
        self._fetching = Fetching(0, piece_bytes_max, host.settings.stall_ns)
        self._watcher: asyncio.TimerHandle | None = None
        self._is_closed = False
        if pair.fileno() >= 0:
            self._loop.add_reader(pair.fileno(), self._on_completions)

    def __len__(self) -> int:
        return len(self._fetching)

    def start(self, reads_max: int) -> None:
        """It is connected: so many reads may be under way at once."""
        self._fetching.credits = reads_max

    def fetch(self, regions: Sequence[RemoteRegion], job: FetchJob) -> None:
        """Read a payload into a slot; the owner is told when it is there."""
        self._fetching.begin(PayloadFetch(regions, job))
        self._post()

    def close(self) -> list[PayloadFetch]:
        """Close the queue pair: no key of it is worth anything, no read arrives any more. What was under way. Harmless when it is
        closed."""
        if self._is_closed:
            return []
        self._is_closed = True
        if self._watcher is not None:
            self._watcher.cancel()
        if self.pair.fileno() >= 0:
            self._loop.remove_reader(self.pair.fileno())
        self.pair.close()
        self._host.pool.forget(self.pair)
        return self._fetching.close()

    def _post(self) -> None:
        if self._is_closed:
            return
        try:
            for piece in self._fetching.next_pieces(self._now()):
                into = piece.fetch.item.slot.register_destination(self.pair)
                self.pair.read(piece.number, into, piece.offset, piece.length, piece.address, piece.key)
        except VerbsError as problem:
            self._owner.on_broken(str(problem))
            return
        if self._watcher is None and len(self._fetching):
            self._watch_later()

    def _watch_later(self) -> None:
        every_ns = watch_ns if self.pair.fileno() >= 0 else self._host.settings.poll_ns
        self._watcher = self._loop.call_later(every_ns / SECOND, self._watch)

    def _watch(self) -> None:
        """Fetches are under way: look whether they get on."""
        self._watcher = None
        self._drain()
        if self._is_closed:
            return
        if self._fetching.is_stalled(self._now()):
            self._owner.on_broken(f"no read has completed for {self._host.settings.stall_ns / SECOND:.3g} s")
        elif self._watcher is None and len(self._fetching):
            self._watch_later()

    def _on_completions(self) -> None:
        try:
            self.pair.arm()
        except VerbsError as problem:
            self._owner.on_broken(str(problem))
            return
        self._drain()

    def _drain(self) -> None:
        """Handle what has completed, until nothing more has. After `arm`, so that none is overlooked."""
        while not self._is_closed:
            try:
                completed = self.pair.poll()
            except VerbsError as problem:
                self._owner.on_broken(str(problem))
                return
            if not completed:
                return
            now = self._now()
            for number, failure in completed:
                if failure:
                    self._owner.on_broken(f"a read has failed: {failure}")
                    return
                fetch = self._fetching.on_completed(number, now)
                if fetch is not None:
                    self._owner.on_fetched(fetch)
                    if self._is_closed:
                        return
            self._post()
