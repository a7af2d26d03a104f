"""Streams of server-sent events: the same message for all, a bounded number of streams, and none that waits for another one.

What is sent to a browser that does not take it waits in memory, up to a bound; a browser that takes nothing for a while is
disconnected, and so is one that has been here for long: it comes back by itself if its page is still open.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from fs3.base.units import MIB, MINUTE, SECOND

event_streams_max = 32
"""Browsers at a time; further ones are answered 503, and try again."""
stream_waiting_bytes_max = 4 * MIB
stream_stall_ns = 15 * SECOND
"""A browser that has not taken what waits for it for so long is disconnected."""
stream_turn_ns = 15 * MINUTE
"""Then another one gets its turn where there are too many."""
_RETRY = b"retry: 1000\n\n"


@dataclass(eq=False)
class _Stream:
    transport: asyncio.WriteTransport
    begun_at: int
    taken_at: int
    """When nothing waited any more."""


class EventStreams:
    """Of one server, on its loop."""

    def __init__(self) -> None:
        self._streams: set[_Stream] = set()
        self.dropped = 0
        """Browsers that took too little."""

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def is_full(self) -> bool:
        """No further one is taken."""
        return len(self._streams) >= event_streams_max

    async def serve(self, reader: asyncio.StreamReader, transport: asyncio.WriteTransport, first: bytes) -> None:
        """One browser, until it goes or is disconnected. `first`: what it begins with; it is sent everything from now on."""
        now = time.monotonic_ns()
        stream = _Stream(transport, now, now)
        self._streams.add(stream)
        try:
            transport.write(_RETRY + first)
            # A browser has nothing to say: what it sends ends the stream, as its going does.
            await reader.read(1)
        except OSError:
            pass
        finally:
            self._streams.discard(stream)

    def publish(self, message: bytes) -> None:
        """Send to all; who takes nothing is disconnected."""
        now = time.monotonic_ns()
        for stream in list(self._streams):
            waiting = stream.transport.get_write_buffer_size()
            if not waiting:
                stream.taken_at = now
            if waiting + len(message) > stream_waiting_bytes_max or now - stream.taken_at > stream_stall_ns:
                self.dropped += 1
                self._end(stream)
            elif now - stream.begun_at > stream_turn_ns:
                self._end(stream)
            else:
                stream.transport.write(message)

    def close(self, last: bytes = b"") -> None:
        """End all, with a last message."""
        for stream in list(self._streams):
            if last:
                stream.transport.write(last)
            self._streams.discard(stream)
            stream.transport.close()

    def _end(self, stream: _Stream) -> None:
        self._streams.discard(stream)
        stream.transport.abort()


def event_message(kind: str, data: bytes) -> bytes:
    """One event. `data`: JSON without line breaks."""
    return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"
