"""What `fs3.drivers.rdma` needs of a verbs library, and nothing more, so that another binding can take its place.

One queue pair serves one connection: reliable, connected, with a protection domain of its own, so that no key of it is worth
anything to another peer. It only ever reads. Nothing is received, so no receive can be missing (RNR), and no peer is ever allowed
to write into memory of this process.
"""

from __future__ import annotations

from typing import Protocol

from fs3.model.rdma import PathEnd, RdmaAddress


class VerbsError(Exception):
    """A device, or the library, refused; the text says what, and what can be done about it."""


class Registration(Protocol):
    """Memory that a device knows."""

    @property
    def address(self) -> int:
        """Where it begins, as the other end names it."""
        ...

    @property
    def key(self) -> int:
        """By which the other end reads it; the local key, when it may not."""
        ...

    def close(self) -> None:
        """The device knows it no longer, from the return on. Harmless when it is closed."""
        ...


class QueuePair(Protocol):
    """One end of a path."""

    number: int
    mtu: int
    """Of the port, in bytes."""
    reads_max: int
    """Reads that it has under way, and answers, at once."""

    def register(self, memory: memoryview, *, is_remote: bool) -> Registration:
        """Make memory known: to be read by the other end, or to be written to by reads of this one. Raises VerbsError."""
        ...

    def connect(self, theirs: PathEnd, psn: int, mtu: int, reads_max: int) -> None:
        """To the other end; `psn` is this end's. Raises VerbsError."""
        ...

    def read(self, number: int, into: Registration, offset: int, length: int, address: int, key: int) -> None:
        """Post one read of the other end's memory. Raises VerbsError."""
        ...

    def poll(self) -> list[tuple[int, str]]:
        """Reads that have completed: number, and what went wrong, "" when nothing did. Raises VerbsError."""
        ...

    def fileno(self) -> int:
        """Readable once something has completed after `arm`; -1: there is none, it must be polled."""
        ...

    def arm(self) -> None:
        """Have the next completion told by `fileno`; takes what was told so far. Raises VerbsError."""
        ...

    def close(self) -> None:
        """From the return on the device reads and writes none of the memory that was registered. Harmless when closed."""
        ...


class Verbs(Protocol):
    """The library."""

    def queue_pair(self, address: RdmaAddress, depth: int) -> QueuePair:
        """A queue pair on the port of an address, for `depth` reads at once. Raises VerbsError."""
        ...

    def forget(self) -> None:
        """In a forked child: the devices are the parent's, and must not be touched any more."""
        ...
