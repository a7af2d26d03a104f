"""Complaints about peers, at most one line a second: a client that reaches a port must not be able to fill a disk with logs."""

from __future__ import annotations

import logging

from fs3.base.units import NEVER, SECOND
from fs3.ports.clock import Clock

log = logging.getLogger("fs3.transport")

log_interval_ns = 1 * SECOND
"""A repeated complaint about peers is logged at most so often."""


class RateLimitedLog:
    """Warnings of one listener, one per `interval_ns` at most; the next line tells how many were left out."""

    def __init__(self, clock: Clock, interval_ns: int = log_interval_ns, logger: logging.Logger = log) -> None:
        self._now = clock.now
        self._interval_ns = interval_ns
        self._logger = logger
        self._next = -NEVER
        self._left_out = 0

    def warning(self, message: str, *arguments: object) -> None:
        """As `Logger.warning`."""
        now = self._now()
        if now < self._next:
            self._left_out += 1
            return
        self._next = now + self._interval_ns
        if self._left_out:
            message += f" ({self._left_out} similar lines left out)"
            self._left_out = 0
        self._logger.warning(message, *arguments)
