"""Requests of one call to storage nodes: sent a few at a time, answered in any order, taken in order, given up if need be."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar

from fs3.base.errors import FS3Error, error
from fs3.base.ids import ChainId, NodeId
from fs3.base.limits import liveness_idle_ticks_max, liveness_tick_ns
from fs3.base.status import Code
from fs3.base.units import MILLISECOND
from fs3.ports.rpc import Channel, Reply


class HedgeReply(NamedTuple):
    """Another node has answered first."""

    node: NodeId
    reply: Reply


class NodeRequest:
    """One request at one node. A read or find is `Watched` while it is under way: another replica may answer it as well."""

    __slots__ = ("abort_reason", "chains", "channel", "future", "health", "hedge_reply", "idle_ticks", "last_activity", "node")

    def __init__(self, node: NodeId, chains: Sequence[int], health: ReplicaHealth) -> None:
        self.node = node
        self.chains = chains
        """The chain of each of its IOs."""
        self.health = health
        self.future: asyncio.Future[Reply] | None = None
        """While it is under way."""
        self.abort_reason: FS3Error | None = None
        """Why this side stopped waiting."""
        self.hedge_reply: HedgeReply | None = None
        """Its answer, of another node."""
        self.channel: Channel
        """Set before it is watched."""
        self.last_activity = 0
        self.idle_ticks = 0

    @property
    def activity(self) -> int:
        """As `Channel.activity`: of the node, whichever request it was for."""
        return self.channel.activity

    def on_active(self) -> None:
        """The node sends something; the answer is waited for."""

    def on_idle(self) -> None:
        """A node that says nothing keeps nothing from the others. Once that has been so for long enough, stop waiting if another
        one can be asked."""
        self.health.on_silent(self)
        if self.idle_ticks >= liveness_idle_ticks_max and self.health.has_alternative(self):
            self.health.on_unresponsive(self.node)
            idle_ms = self.idle_ticks * liveness_tick_ns // MILLISECOND
            self.abort(error(Code.DEADLINE, f"node {self.node} has said nothing for {idle_ms} ms"))

    def abort(self, reason: FS3Error) -> None:
        """Stop waiting for the answer. The caller's buffers are not written to any more, whatever arrives later."""
        if self.future is not None and not self.future.done():
            self.abort_reason = reason
            self.future.cancel()

    def give_way(self, hedge: HedgeReply) -> None:
        """Another node has answered: stop waiting for this one. As `abort`, but the call goes on with that answer."""
        self.hedge_reply = hedge
        self.abort(error(Code.CANCELLED, f"node {hedge.node} has answered before node {self.node}"))

    @property
    def is_bulk(self) -> bool:
        """What is to be done to its answer may hold the loop for long."""
        return False

    async def prepare(self) -> None:
        """A bulk request was answered: do what takes long, before its handler hears of the answer."""

    def chain_ids(self) -> list[ChainId]:
        """Each chain once."""
        return [ChainId(chain) for chain in dict.fromkeys(self.chains)]


class ReplicaHealth(Protocol):
    """What is known of the nodes' health, and told of it. `ReplicaRouter` is the one of production."""

    def has_alternative(self, request: NodeRequest) -> bool:
        """Something a request asks for can be asked of another node, one that is not suspect itself."""
        ...

    def on_silent(self, request: NodeRequest) -> None:
        """The node of a request has said nothing for a moment."""
        ...

    def on_unresponsive(self, node: NodeId) -> None:
        """A node was found to say nothing."""
        ...

    def probe_channel(self, node: NodeId) -> Channel | None:
        """How to reach a node; None when a probe is not worth it (it has left, or the manager knows that it is dead). Raises
        FS3Error when no wire reaches it."""
        ...

    def on_recovered(self, node: NodeId) -> None:
        """A probe was answered."""
        ...


R = TypeVar("R", bound=NodeRequest)
RC = TypeVar("RC", bound=NodeRequest, contravariant=True)


class RequestHandler(Protocol[RC]):
    """What one kind of call does with its requests, called by `send_windowed`.

    `on_end` is called exactly once for every request, and after it `on_reply` or `on_error`, or neither when the call itself is
    cancelled. An `on_reply` that raises FS3Error is followed by `on_error`.
    """

    def send(self, request: RC) -> None:
        """Send a request: set its future. Or raise FS3Error, which ends it."""
        ...

    def on_reply(self, request: RC, reply: Reply) -> None:
        """The node has answered. Raises FS3Error for an answer that makes no sense."""
        ...

    def on_error(self, request: RC, failure: FS3Error) -> None:
        """It was not sent, not answered, refused as a whole, answered with nonsense, or aborted."""
        ...

    def on_end(self, request: RC) -> None:
        """It is not waited for any more, or never will be."""
        ...


def cancellation_count() -> int:
    """How often the running task has been cancelled: what tells a request that was aborted from a caller that was cancelled."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


async def send_windowed(requests: Sequence[R], window: int, handler: RequestHandler[R]) -> None:
    """Send every request, `window` of them at a time, and hand over what comes back, in the order of the requests.

    `NodeRequest.abort` ends one of them with its reason; the cancellation of the caller ends all of them.
    """
    before = cancellation_count()
    started = 0
    try:
        for place, request in enumerate(requests):
            while started < len(requests) and started < place + window:
                following = requests[started]
                started += 1
                try:
                    handler.send(following)
                except FS3Error as failure:
                    handler.on_end(following)
                    handler.on_error(following, failure)
            if request.future is None:
                continue
            try:
                reply = await request.future
                _end(request, handler)
                if request.is_bulk:
                    await request.prepare()
                handler.on_reply(request, reply)
            except FS3Error as failure:
                _end(request, handler)
                handler.on_error(request, failure)
            except asyncio.CancelledError:
                # Both look the same from here: the caller was cancelled, or the request was aborted, which cancels its future.
                if request.abort_reason is None or cancellation_count() > before:
                    raise
                _end(request, handler)
                if request.hedge_reply is None:
                    handler.on_error(request, request.abort_reason)
                else:
                    _take_hedge(request, request.hedge_reply, handler)
    except BaseException:
        # The callers' buffers must not be written to once this call has ended.
        for index, request in enumerate(requests):
            future = request.future
            if future is not None:
                if not future.cancel() and not future.cancelled():
                    future.exception()  # it was answered meanwhile; nothing else will look
                _end(request, handler)
            elif index >= started:
                handler.on_end(request)
        raise


def _take_hedge(request: R, hedge: HedgeReply, handler: RequestHandler[R]) -> None:
    request.node = hedge.node
    try:
        handler.on_reply(request, hedge.reply)
    except FS3Error as failure:
        handler.on_error(request, failure)


def _end(request: R, handler: RequestHandler[R]) -> None:
    """A request that was under way ends, once."""
    if request.future is not None:
        request.future = None
        handler.on_end(request)
