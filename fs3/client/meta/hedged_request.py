"""One request to the metadata services, which may be under way at several of them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from fs3.base.errors import FS3Error, error
from fs3.base.limits import attempt_timeout_ns, meta_change_hedge_ns, meta_read_hedge_ns
from fs3.base.status import Code, Retry
from fs3.base.units import SECOND
from fs3.client.meta.owners import Directory
from fs3.client.meta.selector import MetaEndpoint, MetaSelector
from fs3.model.method import Method
from fs3.ports.clock import Clock
from fs3.ports.rpc import Reply
from fs3.runtime.tracing import attempting
from fs3.wire.meta import mark_repeated


class HedgedRequest:
    """Sends a request to one service and, when that is silent, to the next one as well. The first answer counts.

    Each service may carry out a change at any later time, although another one has answered meanwhile. So a change that is
    sent again says so (`repeated`), and then its refusal is remembered too: it stays refused, wherever else it still
    arrives. A refusal of the first sending does not bind the second one, and is not believed once there is a second one.
    """

    def __init__(
        self,
        nodes: MetaSelector,
        clock: Clock,
        method: Method,
        message: Any,
        deadline: int,
        *,
        changes: bool,
        directory: Directory | None = None,
    ) -> None:
        """`directory`: see `MetaSelector.choose`."""
        self._nodes = nodes
        self._clock = clock
        self._method = method
        self._message = message
        self._deadline = deadline
        self._changes = changes
        self._directory = directory
        self._patience_ns = meta_change_hedge_ns if changes else meta_read_hedge_ns
        self._in_flight: dict[asyncio.Future[Reply], tuple[MetaEndpoint, bool]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._sent = 0
        self.may_have_happened = False
        """A change may have happened although no service said so."""

    async def run(self) -> Any:
        """The reply message of one round: of every node that is asked until one has answered. FS3Error: the last failure."""
        place = self._nodes.choose(directory=self._directory)
        if place is not None and not self._nodes.has_another():
            return await self._run_alone(place)
        loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[Any] = loop.create_future()
        try:
            self._send(place)
            return await self._answer
        finally:
            if self._timer is not None:
                self._timer.cancel()
            for future, (place, _) in list(self._in_flight.items()):
                if self._answer.done() and not self._answer.cancelled() and self._answer.exception() is None:
                    # Another one was asked because this one was silent, and has answered first.
                    self._nodes.suspect(place)
                self.may_have_happened = self.may_have_happened or self._changes
                future.remove_done_callback(self._on_done)
                future.cancel()
            self._in_flight.clear()

    async def _run_alone(self, place: MetaEndpoint) -> Any:
        """`run` where there is one service only: its answer is waited for, and nothing else."""
        repeated = self._changes and self._sent > 0
        future = self._start(place, repeated)
        try:
            reply = await future
        except FS3Error as failure:
            raise self._weigh(failure, place, repeated) from None
        except asyncio.CancelledError:
            self.may_have_happened = self.may_have_happened or self._changes
            raise
        self._nodes.trust(place)
        return reply.message

    def _send(self, place: MetaEndpoint | None) -> None:
        """To this node; None: there is none. Raises FS3Error when it cannot be sent."""
        if place is None:
            return
        repeated = self._changes and self._sent > 0
        future = self._start(place, repeated)
        self._in_flight[future] = place, repeated
        future.add_done_callback(self._on_done)
        if self._nodes.has_another():
            self._timer = asyncio.get_running_loop().call_later(self._patience_ns / SECOND, self._hedge)

    def _start(self, place: MetaEndpoint, repeated: bool) -> asyncio.Future[Reply]:
        if repeated:
            mark_repeated(self._message)
        self._sent += 1
        timeout_ns = max(1, min(self._deadline - self._clock.now(), attempt_timeout_ns))
        if self._sent == 1:
            return place.channel.start(self._method, self._message, timeout_ns=timeout_ns)
        with attempting(self._sent):
            return place.channel.start(self._method, self._message, timeout_ns=timeout_ns)

    def _hedge(self) -> None:
        self._timer = None
        with contextlib.suppress(FS3Error):
            # No other service can be asked now? Those that are asked already may still answer.
            asked = {place.node.id for place, _ in self._in_flight.values()}
            self._send(self._nodes.choose(asked, self._directory))

    def _on_done(self, future: asyncio.Future[Reply]) -> None:
        asked = self._in_flight.pop(future, None)
        if asked is None or self._answer.done():
            # Too late to count; it may even have been answered in the turn in which this round ended.
            if not future.cancelled():
                future.exception()
            return
        place, repeated = asked
        if future.cancelled():
            self._answer.cancel()
            return
        failure = future.exception()
        if failure is None:
            self._nodes.trust(place)
            self._answer.set_result(future.result().message)
            return
        if isinstance(failure, FS3Error):
            failure = self._weigh(failure, place, repeated)
        final = isinstance(failure, FS3Error) and failure.code.retry is Retry.NEVER
        if final or not self._in_flight:
            self._answer.set_exception(failure)

    def _weigh(self, failure: FS3Error, place: MetaEndpoint, repeated: bool) -> FS3Error:
        """What the failure of one sending means for the request."""
        retry = failure.code.retry
        if retry is Retry.NEVER:
            if not repeated and self._sent > 1 and self._changes:
                return error(Code.BUSY, f"asked again to be sure of: {failure.strerror}")
        else:
            self.may_have_happened = self.may_have_happened or (self._changes and retry is Retry.MAYBE)
            if retry is not Retry.BACKOFF:
                self._nodes.suspect(place)
        return failure
