"""Processes of their own that put pages of made-up keys, as workers of a fleet do, and remove them again."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

from benches.cache.pages import PageOracle, numbered
from benches.loop import run
from fs3.api.kvcache import KVCache, Status

TIMEOUT_S = 60.0
PATIENCE_S = 120.0
"""How long an answer of a process is waited for."""
_CONTEXT = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Wanted:
    """Pages to put, or to remove."""

    prefix: str
    first: int
    count: int
    call_pages: int
    """In one call."""
    seconds: float = 0.0
    """The calls begin evenly over so long; 0: one after the other."""
    is_removal: bool = False

    def calls(self) -> Iterator[tuple[float, list[bytes]]]:
        """The keys of each call, and how many seconds after the first one it begins."""
        for at in range(0, self.count, self.call_pages):
            here = range(self.first + at, self.first + min(at + self.call_pages, self.count))
            yield self.seconds * at / self.count, numbered(self.prefix, here)


@dataclass(frozen=True)
class Outcome:
    """What became of them."""

    seconds: float
    statuses: dict[str, int]
    """How many pages were told each."""

    def count_failed(self) -> int:
        """Pages that were neither put (or removed) nor there already."""
        return sum(count for name, count in self.statuses.items() if name not in (Status.OK.name, Status.EXISTS.name))


class Putter:
    """One process, and the way to it."""

    def __init__(self, url: str, namespace: str, page_bytes: int, replicas: int) -> None:
        self._pipe, its = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_serve, args=(its, url, namespace, page_bytes, replicas), daemon=True)
        self._process.start()
        its.close()

    def wait_ready(self) -> None:
        """Until its cache is open. Raises RuntimeError with what went wrong there."""
        self._receive()

    def begin(self, wanted: Wanted) -> None:
        """Have it done; `is_done` and `finish` tell of it."""
        self._pipe.send(wanted)

    def is_done(self) -> bool:
        """The outcome is there."""
        return self._pipe.poll()

    def finish(self) -> Outcome:
        """Wait for the outcome. Raises RuntimeError with what went wrong, TimeoutError when there is none in time."""
        outcome = self._receive()
        assert isinstance(outcome, Outcome)
        return outcome

    def do(self, wanted: Wanted) -> Outcome:
        """`begin` and `finish`."""
        self.begin(wanted)
        return self.finish()

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.join()
        self._pipe.close()

    def _receive(self) -> Outcome | None:
        if not self._pipe.poll(PATIENCE_S):
            raise TimeoutError(f"a process that puts pages has not answered in {PATIENCE_S:.0f} s")
        try:
            said = self._pipe.recv()
        except EOFError:
            raise RuntimeError("a process that puts pages has ended") from None
        if isinstance(said, str):
            raise RuntimeError(f"a process that puts pages failed: {said}")
        return said  # type: ignore[no-any-return]


@contextmanager
def opened_putters(count: int, url: str, namespace: str, page_bytes: int, replicas: int) -> Iterator[Sequence[Putter]]:
    """So many processes, ready, for the length of a `with` block. The namespace must be there."""
    with ExitStack() as stack:
        putters = []
        for _ in range(count):
            putters.append(Putter(url, namespace, page_bytes, replicas))
            stack.callback(putters[-1].close)
        for putter in putters:
            putter.wait_ready()
        yield putters


def _serve(pipe: Connection, url: str, namespace: str, page_bytes: int, replicas: int) -> None:
    try:
        run(_serve_with_cache(pipe, url, namespace, page_bytes, replicas))
    except EOFError:
        return  # the process that wanted pages has gone
    except BaseException as failure:
        pipe.send(f"{type(failure).__name__}: {failure}")
        raise


async def _serve_with_cache(pipe: Connection, url: str, namespace: str, page_bytes: int, replicas: int) -> None:
    oracle = PageOracle(page_bytes)
    async with await KVCache.open(
        url, namespace=namespace, page_bytes=page_bytes, replicas=replicas, timeout=TIMEOUT_S, circuit_breaker=False
    ) as cache:
        pipe.send(None)
        while True:
            pipe.send(await _do(cache, oracle, await asyncio.to_thread(pipe.recv)))


async def _do(cache: KVCache, oracle: PageOracle, wanted: Wanted) -> Outcome:
    told: dict[str, int] = {}
    began = time.perf_counter()
    for begins, keys in wanted.calls():
        await asyncio.sleep(max(0.0, began + begins - time.perf_counter()))
        statuses = await (cache.remove(keys) if wanted.is_removal else cache.put_from(keys, oracle.pages(keys)))
        for status in statuses:
            told[status.name] = told.get(status.name, 0) + 1
    return Outcome(time.perf_counter() - began, told)
