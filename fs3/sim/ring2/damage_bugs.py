"""Mistakes about chunks whose copies are all damaged."""

from __future__ import annotations

from fs3.base.checksum import BLOCK_BYTES, checksums
from fs3.base.status import Code
from fs3.core.craq.effects import Forward
from fs3.core.craq.resync.steps import CopyLost, ResyncEvent
from fs3.ports.chunk_store import ReadResult
from fs3.services.storage.forwarding.forwarder import Forwarder
from fs3.services.storage.resync.source import ResyncSource

_feed = ResyncSource.feed


def feed_without_losses(self: ResyncSource, event: ResyncEvent) -> None:
    """In place of `ResyncSource.feed`."""
    if not isinstance(event, CopyLost):
        _feed(self, event)


async def read_zeros(self: Forwarder, effect: Forward) -> ReadResult:
    """In place of `Forwarder._read_damaged`."""
    zeros = memoryview(bytes(effect.update.length))
    return ReadResult(Code.OK, effect.update.version, len(zeros), (zeros,), checksums(zeros), BLOCK_BYTES)
