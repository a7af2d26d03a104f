"""What the framed wire needs to know of a way for payloads beside its stream; `fs3.drivers.rdma` has one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from fs3.model.connection import ConnectionInfo
from fs3.model.rdma import RemoteRegion
from fs3.ports.rpc import Part


class FetchedBytes(Protocol):
    """Bytes in memory of the path."""

    @property
    def view(self) -> memoryview:
        """All of them."""
        ...

    def release(self) -> None:
        """They are not needed any more. Once."""
        ...


OnFetched = Callable[[FetchedBytes | None], None]
"""What became of a fetch: the bytes, which the callee releases, or None: the path is dead."""


class BulkPath(Protocol):
    """The path of one connection. All of it runs on the connection's loop."""

    def should_ask(self) -> bool:
        """Of a client: the request that is about to be sent should ask the server for a path. True once, and again after a while
        when nothing came of it."""
        ...

    @property
    def is_idle(self) -> bool:
        """Nothing is lent or being fetched."""
        ...

    @property
    def bytes_min(self) -> int:
        """Shorter payloads travel on the stream."""
        ...

    def on_asked(self) -> None:
        """Of a server: the client asks for a path."""
        ...

    def on_message(self, step: int, header: bytes | bytearray | memoryview) -> None:
        """A PATH frame has arrived. Raises FrameError."""
        ...

    def lend(self, number: int, parts: Sequence[Part], length: int) -> bytes | None:
        """Copy a payload to where the peer can read it while call `number` is under way; what stands before the protobuf of the
        offer. None: there is no path, or no room, and it travels on the stream. What cannot be read of a file raises FS3Error."""
        ...

    def on_taken(self, number: int) -> None:
        """The peer has what was lent for a call. Raises FrameError when nothing was."""
        ...

    def on_refused(self, number: int) -> FetchedBytes:
        """The peer did not fetch it: the bytes, to be sent on the stream. Raises FrameError when nothing was lent."""
        ...

    def fetch(self, regions: Sequence[RemoteRegion], fetched: OnFetched) -> None:
        """Read what the peer offers. `fetched` is called once, perhaps before this returns."""
        ...

    def describe(self) -> tuple[str, str]:
        """The path that is used, or "", and why it is this one or none."""
        ...

    def close(self) -> None:
        """The connection has ended: the peer reaches nothing any more, and nothing more arrives. No callback follows."""
        ...


ENCRYPTED = "the connection is encrypted, and RDMA is not"
"""Why it has no path."""

SendMessage = Callable[[int, bytes], None]
"""Send a PATH frame: its step, and its header."""


class BulkPaths(Protocol):
    """Makes the paths of a process."""

    def client(self, peer: str, send: SendMessage) -> BulkPath | None:
        """For a connection to a server. None: this process has nothing to make one of."""
        ...

    def server(self, peer: str, send: SendMessage) -> BulkPath:
        """For the connection of a client."""
        ...


def describe_connection(
    peer: str, endpoint: str, path: BulkPath | None, *, passes: bool, out: bool, plain: bool = True
) -> ConnectionInfo:
    """How the payloads of a connection travel, and why so. `endpoint`: the server's. `passes`: files may be passed. `out`: this
    process made it. `plain`: it is not encrypted."""
    scheme = endpoint.partition("://")[0]
    if scheme != "tcp":
        by = "descriptors of files are passed" if passes else "payloads go by the socket: the users differ"
        return ConnectionInfo(peer, out, scheme, "", f"both ends are on one host; {by}")
    if not plain:
        return ConnectionInfo(peer, out, scheme, "", ENCRYPTED)
    if path is None:
        why = "no RDMA here: it is for data, where FS3_RDMA is set" if out else "the client has not asked for RDMA"
        return ConnectionInfo(peer, out, scheme, "", why)
    using, why = path.describe()
    return ConnectionInfo(peer, out, "rdma" if using else scheme, using, why)
