"""Calls between processes, whatever wire carries them.

Bulk bytes never pass through protobuf: a request or a reply may carry a payload, given as parts and delivered into buffers the
receiver chose. A handler is a plain function that is handed a call and answers it now or later, so that a server can put a
thousand small requests into one batch without a task for each.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.model.method import Method
from fs3.model.principal import AuthContext
from fs3.model.trace import CallSpan


@dataclass(frozen=True, slots=True)
class FileRange:
    """Bytes of an open file, to be sent from the page cache without passing through the process.

    `on_sent` says that the kernel has taken them, which on a socket means that it refers to the pages, not that it has copied
    them: a range that is overwritten in place soon after may arrive changed. The receiver's checksums find that.
    """

    fd: int
    offset: int
    length: int


Part = bytes | bytearray | memoryview | FileRange
"""One piece of a payload on its way out. It must stay unchanged until the transport says it is gone."""

BufferProvider = Callable[[Any, int], Sequence[memoryview]]
"""(reply message, payload length) -> writable buffers that together hold exactly the payload. Raising refuses the payload.

Called once for every OK reply, also when its payload is empty; what it raises becomes the outcome of the call.
"""


class FlatBuffers(list[memoryview]):
    """What a `BufferProvider` may return to say that all of them are flat (format "B"), contiguous, writable and not empty.

    A read of hundreds of small ranges has as many buffers: no transport looks at each of them again. It takes the list."""

    __slots__ = ()


OnSent = Callable[[], None]
"""Called exactly once, when the parts of a reply are no longer needed: they were sent, or dropped with the connection."""

OnCancel = Callable[[], None]
"""Called once, when the client of a call goes away or gives the call up before the answer."""


@dataclass(slots=True)
class Reply:
    """An answer: the message, and where the payload is: the one buffer `into` gave, or one the transport allocated.

    None when the payload is empty or lies in several buffers of `into`.
    """

    message: Any
    payload: memoryview | None = None


class Call(Protocol):
    """One request on the server's side. Exactly one of `reply` and `fail` ends it; later ones are ignored."""

    @property
    def method(self) -> Method: ...

    @property
    def request(self) -> Any:
        """The protobuf message."""
        ...

    @property
    def payload(self) -> memoryview | None:
        """Bulk bytes of the request, valid until `release`."""
        ...

    @property
    def peer(self) -> str:
        """The client's name, for logs and messages."""
        ...

    @property
    def span(self) -> CallSpan | None:
        """None, nearly always: it belongs to no trace."""
        ...

    @property
    def auth(self) -> AuthContext:
        """What the connection it came by has proved."""
        ...

    @property
    def deadline(self) -> int:
        """Monotonic nanoseconds after which the client waits no longer; `NEVER` when it always will."""
        ...

    @property
    def is_cancelled(self) -> bool:
        """The client has gone, or has given the call up."""
        ...

    def reply(self, message: Any, parts: Sequence[Part] = (), on_sent: OnSent | None = None) -> None:
        """Answer. `on_sent` may be called before this returns. Streaming methods: ends the stream, after `message` unless that is
        None."""
        ...

    def fail(self, code: Code, message: str, routing_version: int = 0) -> None:
        """Answer with an error."""
        ...

    def send(self, message: Any) -> bool:
        """Streaming methods: one more message. False when the client has gone or its queue is full: stop, and `fail` or drop."""
        ...

    def add_cancel_callback(self, callback: OnCancel) -> None:
        """Have `callback` called; at once, when the call is cancelled already."""
        ...

    def release(self) -> None:
        """The payload buffer is no longer needed. Ending the call does this too."""
        ...


Handler = Callable[[Call], None]
"""Must not block and must not raise for bad requests (it fails the call); a raised exception fails the call as INTERNAL."""

Bindings = Mapping[Method, Handler]

OnReply = Callable[[Reply | None, FS3Error | None], None]
"""What came of a call: its reply, or why there is none."""


class Channel(Protocol):
    """A connection to one endpoint. It is made on first use and made again after it breaks; calls under way then fail."""

    @property
    def activity(self) -> int:
        """A number that rises whenever anything arrives from the server: part of a payload, the answer to any call."""
        ...

    @property
    def connections(self) -> int:
        """How often it was connected: a request goes to another connection than the one before only when this has risen, or is
        about to. 0: it never was, or the wire does not say."""
        ...

    def start(
        self,
        method: Method,
        request: Any,
        parts: Sequence[Part] = (),
        into: BufferProvider | None = None,
        timeout_ns: int = 0,
    ) -> asyncio.Future[Reply]:
        """Send a request; the future has the reply or an FS3Error. Requests started in one turn of the loop leave together
        (a channel with nothing under way may send the first of them at once).

        Cancelling the future gives the call up. Once the future is done, however it ended, the caller's memory is its own
        again: buffers handed out by `into` are no longer written to, and `parts` are no longer read.
        Raises FS3Error at once for a call that can never be sent: a request of another type, a payload the method does not
        take, a channel of another event loop or one that was made before a fork.
        """
        ...

    async def call(
        self,
        method: Method,
        request: Any,
        parts: Sequence[Part] = (),
        into: BufferProvider | None = None,
        timeout_ns: int = 0,
    ) -> Reply:
        """`start`, awaited. 0 means the default timeout."""
        ...

    def submit(self, method: Method, request: Any, finished: OnReply, timeout_ns: int = 0) -> bool:
        """Send a request without a payload; `finished` is called in the turn in which its reply arrives, not before this returns.
        False: nothing was sent, since there is no connection at the moment. Raises as `start` does."""
        ...

    def stream(self, method: Method, request: Any) -> AsyncIterator[Any]:
        """The replies of a streaming method; ends or raises FS3Error when the server or the connection does."""
        ...

    async def close(self) -> None:
        """Fail what is under way and disconnect."""
        ...


class BlockingChannel(Protocol):
    """A connection for callers that block: no event loop, one call at a time, of any thread. It ends with the first failure
    that is no answer of the server."""

    @property
    def is_closed(self) -> bool:
        """It has failed, or was closed: no call will succeed any more."""
        ...

    def call(self, method: Method, request: Any, into: memoryview) -> tuple[Any, int]:
        """Send a request and wait: the reply's message, and how many bytes of payload are in `into` now. Raises OSError (FS3Error
        among them) or ValueError; `into` is the caller's again then."""
        ...

    def abort(self) -> None:
        """From any thread: the call that waits fails, and every later one. The thread that calls closes it."""
        ...

    def close(self) -> None:
        """Disconnect; not while another thread calls."""
        ...


@runtime_checkable
class BlockingTransport(Protocol):
    """What a `Transport` is as well when it has channels for callers that block."""

    def connect_blocking(self, endpoint: str, timeout_ns: int) -> BlockingChannel | None:
        """A channel that is connected, each of whose calls takes `timeout_ns` at most. None where the endpoint has a name that
        must be looked up first, which may take long. Raises OSError when no server listens."""
        ...


class Listener(Protocol):
    """A server that accepts connections."""

    @property
    def endpoint(self) -> str:
        """Where it really listens (the port that was chosen when 0 was asked for)."""
        ...

    async def close(self, grace_ns: int = 0) -> None:
        """Stop accepting, let calls under way finish for `grace_ns`, then disconnect all clients. Meanwhile new requests are
        answered SHUTTING_DOWN."""
        ...


class Transport(Protocol):
    """One way to reach other processes: tcp, local, grpc, memory."""

    @property
    def scheme(self) -> str:
        """The endpoints it understands: "tcp" for "tcp://host:port"."""
        ...

    def connect(self, endpoint: str) -> Channel:
        """A channel; does no I/O yet. Raises FS3Error INVALID for an endpoint it cannot parse."""
        ...

    async def serve(self, endpoint: str, bindings: Bindings) -> Listener:
        """Listen and dispatch. Raises FS3Error naming the endpoint, EXISTS when it is taken, INVALID otherwise."""
        ...
