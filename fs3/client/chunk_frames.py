"""Requests of one call to storage nodes: sent a few at a time, answered in any order, taken in order, given up if need be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from fs3.base.errors import FS3Error
from fs3.base.ids import ChainId, NodeId
from fs3.ports.rpc import Channel, Reply


class Frame:
    """One request at one node."""

    __slots__ = ("chains", "channel", "future", "given_up", "heard", "node", "quiet")

    def __init__(self, node: NodeId, chains: Sequence[int]) -> None:
        self.node = node
        self.chains = chains
        """The chain of each of its IOs."""
        self.future: asyncio.Future[Reply] | None = None
        """While it is under way."""
        self.given_up: FS3Error | None = None
        """Why this side stopped waiting."""
        self.channel: Channel | None = None
        self.heard = 0
        self.quiet = 0
        """Kept by `SilenceWatch`."""

    def give_up(self, reason: FS3Error) -> None:
        """Stop waiting for the answer. The caller's buffers are not written to any more, whatever arrives later."""
        if self.future is not None and not self.future.done():
            self.given_up = reason
            self.future.cancel()

    def chain_ids(self) -> list[ChainId]:
        """Each chain once."""
        return [ChainId(chain) for chain in dict.fromkeys(self.chains)]


def cancels_so_far() -> int:
    """How often the running task has been cancelled: what tells a frame that was given up from a caller that was."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


F = TypeVar("F", bound=Frame)


async def exchange(
    frames: Sequence[F],
    window: int,
    start: Callable[[F], None],
    answered: Callable[[F, Reply], None],
    failed: Callable[[F, FS3Error], None],
    dropped: Callable[[F], None],
) -> None:
    """Send every frame, `window` of them at a time, and hand over what comes back, in the order of the frames.

    `start` sets the frame's future, or raises FS3Error. Exactly one of the others is called for every frame: `answered` (which
    may raise FS3Error for an answer that makes no sense: then `failed` follows), `failed`, or `dropped` when this call is
    cancelled.
    """
    before = cancels_so_far()
    started = 0
    place = 0
    try:
        for place, frame in enumerate(frames):
            while started < len(frames) and started < place + window:
                following = frames[started]
                started += 1
                try:
                    start(following)
                except FS3Error as failure:
                    failed(following, failure)
            future = frame.future
            if future is None:
                continue
            try:
                answered(frame, await future)
            except FS3Error as failure:
                failed(frame, failure)
            except asyncio.CancelledError:
                if frame.given_up is None or cancels_so_far() > before:
                    raise
                failed(frame, frame.given_up)
            frame.future = None
    except BaseException:
        # The callers' buffers must not be written to once this call has ended.
        for index, frame in enumerate(frames):
            future, frame.future = frame.future, None
            if future is not None and not future.cancel() and not future.cancelled():
                future.exception()  # it was answered meanwhile; nobody else will look
            if future is not None or index >= started:
                dropped(frame)
        raise
