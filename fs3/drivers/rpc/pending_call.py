"""One request of a client, from its start to its outcome, as far as all wires share it; and how its reply reaches the caller."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

from fs3.base.counting import CallCounts
from fs3.base.errors import FS3Error, error
from fs3.base.limits import stream_queue_bytes_max
from fs3.base.status import Code
from fs3.drivers.rpc.payload import copy_parts, destinations
from fs3.model.method import Method
from fs3.ports.rpc import BufferProvider, OnReply, Part, Reply
from fs3.runtime.tracing import OpenSpan

log = logging.getLogger("fs3.transport")


class CallOwner(Protocol):
    """The channel of a call: `fs3.drivers.rpc.channel.ClientChannel`."""

    def explain_refusal(self, problem: FS3Error) -> FS3Error:
        """See `ClientChannel.explain_refusal`."""
        ...

    def on_call_cancelled(self, call: PendingCall) -> None:
        """See `ClientChannel.on_call_cancelled`."""
        ...

    def abandon(self, call: PendingCall, problem: BaseException) -> None:
        """See `ClientChannel.abandon`."""
        ...

    def describe(self, call: PendingCall) -> str:
        """See `ClientChannel.describe`."""
        ...


class PendingCall(asyncio.Future[Reply]):
    """One request of the client, from `start` to its outcome."""

    __slots__ = (
        "begun_at",
        "channel",
        "counts",
        "data",
        "deadline",
        "into",
        "length",
        "method",
        "parts",
        "request_id",
        "timeout_ns",
        "wire_state",
    )

    channel: CallOwner
    method: Method
    data: bytes
    """The request, serialised."""
    parts: Sequence[Part]
    length: int
    """Bytes of `parts`."""
    into: BufferProvider | None
    timeout_ns: int
    """`NEVER` (that very object) for none."""
    deadline: int
    """Of the channel's clock."""
    request_id: int
    """0 while it waits for a place."""
    wire_state: Any
    """What the wire keeps of the request while it is being sent."""
    counts: CallCounts | None
    """None: it is not counted. The wire counts the answers that are OK, this class the rest."""
    begun_at: int
    """Of the channel's clock."""
    span: OpenSpan | None = None
    """Of a call that belongs to a trace (`TracedCall`)."""

    def set_exception(self, exception: type | BaseException, /) -> None:
        """As `Future.set_exception`."""
        if self.counts is not None:
            self.counts.end(exception.code if isinstance(exception, FS3Error) else Code.INTERNAL, self.begun_at)
        if isinstance(exception, FS3Error) and exception.code is Code.NOT_AUTHENTICATED:
            exception = self.channel.explain_refusal(exception)
        super().set_exception(exception)

    def cancel(self, msg: Any | None = None) -> bool:
        """As `Future.cancel`. The server is told, and the place goes to the next caller."""
        if not super().cancel(msg):
            return False
        if self.counts is not None:
            self.counts.end(Code.CANCELLED, self.begun_at)
        self.channel.on_call_cancelled(self)
        return True


class TracedCall(PendingCall):
    """A call that is a part of an operation that is traced."""

    __slots__ = ("span",)

    span: OpenSpan

    def set_result(self, reply: Reply, /) -> None:
        """As `Future.set_result`."""
        self.span.end()
        super().set_result(reply)

    def set_exception(self, exception: type | BaseException, /) -> None:
        """As `Future.set_exception`."""
        self.span.end(exception.code if isinstance(exception, FS3Error) else Code.INTERNAL)
        super().set_exception(exception)

    def cancel(self, msg: Any | None = None) -> bool:
        """As `Future.cancel`."""
        if not self.done():
            self.span.end(Code.CANCELLED)
        return super().cancel(msg)


class CallbackCall(PendingCall):
    """A call whose outcome is told in the turn in which it arrives."""

    __slots__ = ("finished", "is_submitted")

    finished: OnReply
    is_submitted: bool
    """`submit` has returned, or is about to."""

    def set_result(self, reply: Reply) -> None:
        """As `Future.set_result`."""
        super().set_result(reply)
        self._tell(reply, None)

    def set_exception(self, why: Any) -> None:
        """As `Future.set_exception`."""
        super().set_exception(why)
        self._tell(None, self.exception())

    def _tell(self, reply: Reply | None, why: Any) -> None:
        if not self.is_submitted:  # the connection broke while it was sent
            self.get_loop().call_soon(self._tell, reply, why)
            return
        if why is not None and not isinstance(why, FS3Error):
            why = error(Code.INTERNAL, f"{self.channel.describe(self)}: {why}")
        try:
            self.finished(reply, why)
        except Exception:
            log.exception("what follows %s failed", self.channel.describe(self))


class AuthenticationCall(PendingCall):
    """Tells the server who calls. What comes of it shows in the calls behind it: a server of an open cluster, or of a release
    before, knows no such method, and asks for nothing."""

    __slots__ = ()

    def set_exception(self, exception: type | BaseException, /) -> None:
        """As `Future.set_exception`. It counts as seen."""
        super().set_exception(exception)
        self.exception()


class StreamCall(PendingCall):
    """A call of a streaming method, with the messages that have arrived and are not consumed yet."""

    __slots__ = ("messages", "queued_bytes", "waiter")

    messages: deque[tuple[Any, int]]
    """Each with its size in bytes."""
    queued_bytes: int
    waiter: asyncio.Future[None] | None

    def push(self, message: Any, size: int) -> None:
        """Queue a message of `size` bytes. Beyond `stream_queue_bytes_max` the call fails with BUSY instead."""
        if self.messages and self.queued_bytes + size > stream_queue_bytes_max:
            self.channel.abandon(
                self, error(Code.BUSY, f"{self.channel.describe(self)}: messages come faster than they are read")
            )
            return
        self.messages.append((message, size))
        self.queued_bytes += size
        self.wake()

    def wake(self, _done: object = None) -> None:
        """Resume the consumer, if it waits."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


def deliver_reply(call: PendingCall, message: Any, parts: Sequence[Part], length: int) -> Reply:
    """The reply of a call whose payload, `length` bytes in `parts`, is copied to where the caller wants it.

    Nothing is copied for a call that is done, or that `into` ends: the buffers are the caller's again. What `into` raises passes
    through; FS3Error INVALID for buffers of another length, DISK for a part that cannot be read.
    """
    if call.done():
        return Reply(message)
    if call.into is None:
        targets = [memoryview(bytearray(length))] if length else []
    else:
        targets = destinations(call.into, message, length)
        if call.done():
            return Reply(message)
    if length:
        copy_parts(parts, targets)
    return Reply(message, targets[0] if len(targets) == 1 else None)
