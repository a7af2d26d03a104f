"""Ports for clusters of tests and benches. Each process hands out those of a range of its own: two that look for free ones at the
same time would else find the same, and one of their clusters would not start.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterable
from contextlib import ExitStack

from fs3.base.errors import error
from fs3.base.status import Code

_PORTS = range(20_000, 32_000)
"""Below the range the kernel takes ports of outgoing connections from."""
_RANGE_PORTS = 240
_MARKS = range(19_900, 19_900 + len(_PORTS) // _RANGE_PORTS)
"""A process that has the n-th range keeps the n-th of these bound."""
_RANDOM_TRIES = 200


class _PortRange:
    """What one process hands out, one after the other and round again."""

    def __init__(self, mark: socket.socket | None, ports: range) -> None:
        self.pid = os.getpid()
        self._mark = mark
        """Bound for as long as the process lives."""
        self._ports = ports
        self._turn = 0

    def candidates(self, count: int) -> Iterable[int]:
        """Where so many neighbouring ports may begin, those that were not handed out for longest first."""
        places = len(self._ports) - count + 1
        return (self._ports[(self._turn + step) % places] for step in range(max(places, 0)))

    def on_taken(self, first: int, count: int) -> None:
        """These are handed out."""
        self._turn = first + count - self._ports.start


_own: _PortRange | None = None


def free_ports(count: int) -> int:
    """The first of `count` neighbouring ports on which no server listens, and that no other process is given meanwhile."""
    global _own
    if _own is None or _own.pid != os.getpid():
        _own = _claim_range()
    for first in _own.candidates(count):
        if _are_free(range(first, first + count)):
            _own.on_taken(first, count)
            return first
    for _ in range(_RANDOM_TRIES):  # more than a range has, or all are claimed
        first = random.choice(_PORTS)
        if _are_free(range(first, first + count)):
            return first
    raise error(Code.UNAVAILABLE, f"no {count} neighbouring free ports were found")


def _claim_range() -> _PortRange:
    """A range that no other process of this machine has; an empty one when all are claimed."""
    for number in random.sample(range(len(_MARKS)), len(_MARKS)):
        mark = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            mark.bind(("127.0.0.1", _MARKS[number]))
        except OSError:
            mark.close()
            continue
        return _PortRange(mark, _PORTS[number * _RANGE_PORTS : (number + 1) * _RANGE_PORTS])
    return _PortRange(None, range(0))


def _are_free(ports: Iterable[int]) -> bool:
    with ExitStack() as stack:
        try:
            for port in ports:
                probe = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
