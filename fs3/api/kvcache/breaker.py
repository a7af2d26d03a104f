"""A circuit breaker per chain: what could not be asked a moment ago is not asked again by every call.

An engine that waits its whole timeout for each batch of pages is slower than one without a cache. So once a call has ended
without an answer of a chain, calls leave that chain out and answer its keys at once, as they do when it could not be asked. In
the background the chain is asked whether it answers again; each time that it did and fails once more, it is left out for twice as
long (Nygard, "Release It!", 2007: the circuit breaker pattern).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeAlias, TypeVar

import msgspec

from fs3.base.ids import ChainId, ChunkId
from fs3.base.status import Code, Retry
from fs3.base.units import SECOND
from fs3.client.storage.client import StorageClient
from fs3.client.storage.page_heads import LeasedAt, LeasedPresence, PageSet
from fs3.client.storage.presence import ChunkPresence
from fs3.client.storage.reads import ReadOutcome
from fs3.core.files.read_plan import ReadIO
from fs3.core.files.write_plan import WriteIO
from fs3.model.chunk import UpdateResult
from fs3.model.page_usage import PinKind
from fs3.runtime.tasks import start_background

R = TypeVar("R")
PageAction: TypeAlias = "Callable[[PageSet], Awaitable[list[Code]]]"
"""Does something to pages; a code each."""

probe_interval_ns_min = 1 * SECOND
"""How long a chain is left out before it is asked whether it answers again."""
probe_interval_ns_max = 60 * SECOND
probe_timeout_ns = 1 * SECOND

_REASON = "its chain did not answer lately"


class OpenCircuit(msgspec.Struct):
    """A chain that is left out, or was until its last probe."""

    sample: ChunkId
    """A chunk of it, to be asked for."""
    interval_ns: int
    probe_at_ns: int
    closed: bool = False
    """It answered the last probe: calls ask it again, and the next failure doubles the interval."""


class GuardedStorage:
    """The chunk IO of one namespace. Belongs to one event loop, as the client below it.

    IOs of chains that are left out end with UNAVAILABLE at once; all others are passed on.
    """

    def __init__(self, storage: StorageClient) -> None:
        self._storage = storage
        self._circuits: dict[ChainId, OpenCircuit] = {}
        self._probe: asyncio.Task[None] | None = None

    @property
    def left_out(self) -> list[ChainId]:
        """Chains that calls do not ask now."""
        return sorted(chain for chain, circuit in self._circuits.items() if not circuit.closed)

    def close(self) -> None:
        """Probe no more."""
        if self._probe is not None:
            self._probe.cancel()

    async def read(self, ios: Sequence[ReadIO], *, timeout_ns: int, is_use: bool = True) -> list[ReadOutcome]:
        """`StorageClient.read`."""
        asked = await self._select([io.chain for io in ios]) if self._circuits else None
        if asked is None:
            outcomes = await self._storage.read(ios, timeout_ns=timeout_ns, is_use=is_use)
        else:
            answers = await self._storage.read([ios[index] for index in asked], timeout_ns=timeout_ns, is_use=is_use)
            outcomes = _among(ReadOutcome(Code.UNAVAILABLE, message=_REASON), len(ios), asked, answers)
        self._learn([outcome.code for outcome in outcomes], [(io.chunk, io.chain) for io in ios], asked)
        return outcomes

    async def update(self, writes: Sequence[WriteIO], *, timeout_ns: int, of_lost_pages: bool = False) -> list[UpdateResult]:
        """`StorageClient.update`."""
        asked = await self._select([write.chain for write in writes]) if self._circuits else None
        if asked is None:
            results = await self._storage.update(writes, timeout_ns=timeout_ns, of_lost_pages=of_lost_pages)
        else:
            some = [writes[index] for index in asked]
            answers = await self._storage.update(some, timeout_ns=timeout_ns, of_lost_pages=of_lost_pages)
            results = _among(UpdateResult(Code.UNAVAILABLE, message=_REASON), len(writes), asked, answers)
        self._learn([result.code for result in results], [(write.chunk, write.chain) for write in writes], asked)
        return results

    async def contains(
        self,
        chunks: Sequence[ChunkId],
        places: Sequence[int],
        chains: Sequence[ChainId],
        *,
        timeout_ns: int,
    ) -> ChunkPresence:
        """`StorageClient.contains`."""
        asked = await self._select([chains[place] for place in places]) if self._circuits else None
        if asked is None:
            presence = await self._storage.contains(chunks, places, chains, timeout_ns=timeout_ns)
            if not self._circuits and not presence.failures:
                return presence
        else:
            some = [chunks[index] for index in asked], [places[index] for index in asked]
            answers = await self._storage.contains(*some, chains, timeout_ns=timeout_ns)
            presence = ChunkPresence(
                _among(0, len(chunks), asked, answers.lengths),
                dict.fromkeys(sorted(set(range(len(chunks))).difference(asked)), Code.UNAVAILABLE)
                | {asked[index]: code for index, code in answers.failures.items()},
            )
        failures = presence.failures
        codes = [failures.get(index, Code.OK) for index in range(len(chunks))]
        self._learn(codes, ((chunk, chains[place]) for chunk, place in zip(chunks, places, strict=True)), asked)
        return presence

    async def lease(self, pages: PageSet, lease_ms: int, *, timeout_ns: int) -> LeasedPresence:
        """`StorageClient.lease`."""
        asked = await self._select([pages.chains[place] for place in pages.places]) if self._circuits else None
        if asked is None:
            found = await self._storage.lease(pages, lease_ms, timeout_ns=timeout_ns)
            if not self._circuits and not found.failures:
                return found
        else:
            answers = await self._storage.lease(pages.select(asked), lease_ms, timeout_ns=timeout_ns)
            failures = dict.fromkeys(sorted(set(range(len(pages.chunks))).difference(asked)), Code.UNAVAILABLE)
            failures.update({asked[index]: code for index, code in answers.failures.items()})
            found = LeasedPresence(
                _among(0, len(pages.chunks), asked, answers.lengths),
                failures,
                [asked[index] for index in answers.unleased],
                answers.leases,
            )
        codes = [found.failures.get(index, Code.OK) for index in range(len(pages.chunks))]
        self._learn(codes, pages.keys(), asked)
        return found

    async def pin(self, pages: PageSet, kind: PinKind, pin_ms: int, *, timeout_ns: int) -> list[Code]:
        """`StorageClient.pin`."""
        return await self._change(pages, lambda some: self._storage.pin(some, kind, pin_ms, timeout_ns=timeout_ns))

    async def touch_pages(self, pages: PageSet, *, timeout_ns: int) -> list[Code]:
        """`StorageClient.touch_pages`."""
        return await self._change(pages, lambda some: self._storage.touch_pages(some, timeout_ns=timeout_ns))

    async def _change(self, pages: PageSet, action: PageAction) -> list[Code]:
        asked = await self._select([pages.chains[place] for place in pages.places]) if self._circuits else None
        if asked is None:
            codes = await action(pages)
        else:
            codes = _among(Code.UNAVAILABLE, len(pages.chunks), asked, await action(pages.select(asked)))
        self._learn(codes, pages.keys(), asked)
        return codes

    async def release(self, leases: Sequence[LeasedAt], *, timeout_ns: int) -> None:
        """`StorageClient.release`."""
        await self._storage.release(leases, timeout_ns=timeout_ns)

    async def _select(self, chains: list[ChainId]) -> list[int] | None:
        """The indices of IOs that are to be sent; None: all of them."""
        self._start_probe()
        out = {chain for chain, circuit in self._circuits.items() if not circuit.closed}
        if not out.intersection(chains):
            return None
        asked = [index for index, chain in enumerate(chains) if chain not in out]
        if not asked:
            await asyncio.sleep(0)  # who calls again and again must not keep the loop from the probe
        return asked

    def _learn(self, codes: list[Code], keys: Iterable[tuple[ChunkId, ChainId]], asked: list[int] | None) -> None:
        """A chain of which a call got nothing but failures is left out from now on; one that answered is trusted again."""
        if not self._circuits and sum(map(codes.count, _USUAL)) == len(codes):
            return
        pairs = list(zip(codes, keys, strict=True))
        if asked is not None:
            pairs = [pairs[index] for index in asked]
        answered = {chain for code, (_, chain) in pairs if code in _ANSWERS}
        for chain in answered:
            self._circuits.pop(chain, None)
        now = _now_ns()
        for _, (chunk, chain) in pairs:
            if chain in answered:
                continue
            circuit = self._circuits.get(chain)
            if circuit is None:
                self._circuits[chain] = OpenCircuit(chunk, probe_interval_ns_min, now + probe_interval_ns_min)
            elif circuit.closed:
                circuit.closed = False
                circuit.interval_ns = min(2 * circuit.interval_ns, probe_interval_ns_max)
                circuit.probe_at_ns = now + circuit.interval_ns

    def _start_probe(self) -> None:
        """Ask the chains whose time has come, beside the call. Only calls start probes: who asks nothing needs none."""
        if self._probe is not None and not self._probe.done():
            return
        now = _now_ns()
        due = [chain for chain, circuit in self._circuits.items() if not circuit.closed and circuit.probe_at_ns <= now]
        if due:
            self._probe = start_background(self._ask_again(due))

    async def _ask_again(self, chains: list[ChainId]) -> None:
        keys = [(self._circuits[chain].sample, chain) for chain in chains]
        outcomes = await self._storage.find(keys, timeout_ns=probe_timeout_ns)
        for outcome, chain in zip(outcomes, chains, strict=True):
            circuit = self._circuits.get(chain)
            if circuit is None:
                continue
            circuit.closed = outcome.code in _ANSWERS
            circuit.probe_at_ns = _now_ns() + circuit.interval_ns


_ANSWERS = frozenset(code for code in Code if code.retry is Retry.NEVER)
"""What a chain that works can answer."""
_USUAL = (Code.OK, Code.NOT_FOUND, Code.EXISTS)
"""Nearly all of what is answered, counted because a set of codes is slow to ask."""


def _among(left_out: R, count: int, asked: Sequence[int], answers: Sequence[R]) -> list[R]:
    """The answers at the indices that were asked for, `left_out` at all others."""
    outcomes = [left_out] * count
    for index, answer in zip(asked, answers, strict=True):
        outcomes[index] = answer
    return outcomes


def _now_ns() -> int:
    return round(asyncio.get_running_loop().time() * SECOND)
