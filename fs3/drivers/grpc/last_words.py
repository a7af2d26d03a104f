"""What gRPC still has to say when a channel is closed: the ends of streams that were cancelled.

They are told to the event loop that the streams were on. Had it been closed meanwhile, the next loop of the process would fail
over them, with a traceback: all loops of a process share one queue of gRPC's.
"""

from __future__ import annotations

import asyncio

from fs3.base.units import MILLISECOND, SECOND

last_words_ns = 100 * MILLISECOND
"""How long they are waited for. Streams of other channels that go on on the same loop are not told apart, and are not waited for
any longer."""

_CALL = "_AioCall."
"""How the names of the library's own tasks begin: one per stream, until it has heard its end."""


async def await_last_words() -> None:
    """Return when every stream that was cancelled on the running loop has ended, or after a moment."""
    ending = [task for task in asyncio.all_tasks() if getattr(task.get_coro(), "__qualname__", "").startswith(_CALL)]
    if ending:
        await asyncio.wait(ending, timeout=last_words_ns / SECOND)
