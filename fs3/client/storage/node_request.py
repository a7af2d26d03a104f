"""Requests of one call to storage nodes: sent a few at a time, answered in any order, taken in order, given up if need be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from fs3.base.errors import FS3Error
from fs3.base.ids import ChainId, NodeId
from fs3.ports.rpc import Channel, Reply


class NodeRequest:
    """One request at one node."""

    __slots__ = ("abort_reason", "activity", "chains", "channel", "future", "idle_ticks", "node")

    def __init__(self, node: NodeId, chains: Sequence[int]) -> None:
        self.node = node
        self.chains = chains
        """The chain of each of its IOs."""
        self.future: asyncio.Future[Reply] | None = None
        """While it is under way."""
        self.abort_reason: FS3Error | None = None
        """Why this side stopped waiting."""
        self.channel: Channel | None = None
        self.activity = 0
        self.idle_ticks = 0
        """Kept by `LivenessMonitor`."""

    def abort(self, reason: FS3Error) -> None:
        """Stop waiting for the answer. The caller's buffers are not written to any more, whatever arrives later."""
        if self.future is not None and not self.future.done():
            self.abort_reason = reason
            self.future.cancel()

    def chain_ids(self) -> list[ChainId]:
        """Each chain once."""
        return [ChainId(chain) for chain in dict.fromkeys(self.chains)]


def cancellation_count() -> int:
    """How often the running task has been cancelled: what tells a frame that was given up from a caller that was."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


F = TypeVar("F", bound=NodeRequest)


async def send_windowed(
    requests: Sequence[F],
    window: int,
    send: Callable[[F], None],
    on_reply: Callable[[F, Reply], None],
    on_error: Callable[[F, FS3Error], None],
    on_end: Callable[[F], None],
) -> None:
    """Send every frame, `window` of them at a time, and hand over what comes back, in the order of the frames.

    `start` sets the frame's future, or raises FS3Error. Exactly one of the others is called for every frame: `answered` (which
    may raise FS3Error for an answer that makes no sense: then `failed` follows), `failed`, or `dropped` when this call is
    cancelled.
    """
    before = cancellation_count()
    started = 0
    place = 0
    try:
        for place, frame in enumerate(requests):
            while started < len(requests) and started < place + window:
                following = requests[started]
                started += 1
                try:
                    send(following)
                except FS3Error as failure:
                    on_error(following, failure)
            future = frame.future
            if future is None:
                continue
            try:
                on_reply(frame, await future)
            except FS3Error as failure:
                on_error(frame, failure)
            except asyncio.CancelledError:
                if frame.abort_reason is None or cancellation_count() > before:
                    raise
                on_error(frame, frame.abort_reason)
            frame.future = None
    except BaseException:
        # The callers' buffers must not be written to once this call has ended.
        for index, frame in enumerate(requests):
            future, frame.future = frame.future, None
            if future is not None and not future.cancel() and not future.cancelled():
                future.exception()  # it was answered meanwhile; nobody else will look
            if future is not None or index >= started:
                on_end(frame)
        raise
