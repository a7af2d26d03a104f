"""The end of a program that has files open which cannot be closed."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from fs3.api.fsspec import unclosed
from fs3.runtime.worker_threads import WorkerThreads


async def _cancel_all() -> None:
    """What a stopped loop still has under way would be told of in the log of a later test."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    running = asyncio.new_event_loop()
    thread = threading.Thread(target=running.run_forever)
    thread.start()
    yield running
    asyncio.run_coroutine_threadsafe(_cancel_all(), running).result()
    running.call_soon_threadsafe(running.stop)
    thread.join()
    running.close()


class StuckFile:
    """Its closing never ends."""

    fs: Any = SimpleNamespace()

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def close_unclosed(self, flush: unclosed.Flush | None = None) -> None:
        unclosed.finish(self._loop, "/x", self._wait())

    async def _wait(self) -> None:
        await asyncio.Event().wait()


def test_a_thread_that_has_to_serve_it_does_not_wait_for_a_closing(loop: asyncio.AbstractEventLoop) -> None:
    """A garbage collection comes in any thread, also in one without which nothing is closed."""
    waited: Future[None] = WorkerThreads(1, "serving").submit(StuckFile(loop).close_unclosed)
    waited.result()
    (stuck,) = unclosed._endings
    assert not stuck.done()
    stuck.cancel()


def test_the_end_of_a_program_waits_for_all_files_together(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(unclosed, "UNCLOSED_PATIENCE_S", 0.01)
    monkeypatch.setattr(unclosed, "_ending", False)
    monkeypatch.setattr(unclosed, "_endings", set())
    monkeypatch.setattr(unclosed, "_open", weakref.WeakValueDictionary())
    files = [StuckFile(loop) for _ in range(3)]
    for file in files:
        unclosed.watch(file)
    unclosed._close_open()
    assert caplog.messages == ["3 files were not closed: that takes longer than 0.01 s now"]
    for ending in list(unclosed._endings):
        ending.cancel()
