"""Mistakes about chunks whose copies are all damaged."""

from __future__ import annotations

from fs3.base.checksum import BLOCK_BYTES, checksums
from fs3.base.status import Code
from fs3.core.craq.effects import Forward
from fs3.core.craq.resync.steps import CopyLost, ResyncEvent
from fs3.ports.chunk_store import ReadResult
from fs3.services.storage.forwarding.forwarder import Forwarder
from fs3.services.storage.resync.source import ResyncSource
from fs3.sim.ring2.service_bug import ServiceBug

_feed = ResyncSource.feed


def feed_without_losses(self: ResyncSource, event: ResyncEvent) -> None:
    """In place of `ResyncSource.feed`."""
    if not isinstance(event, CopyLost):
        _feed(self, event)


async def read_zeros(self: Forwarder, effect: Forward) -> ReadResult:
    """In place of `Forwarder._read_damaged`."""
    zeros = memoryview(bytes(effect.update.length))
    return ReadResult(Code.OK, effect.update.version, len(zeros), (zeros,), checksums(zeros), BLOCK_BYTES)


DAMAGE_BUGS: dict[str, ServiceBug] = {
    "awaits_lost_bytes": ServiceBug(
        "a resync waits for the bytes of a file's chunk that is damaged on every replica that serves",
        [(ResyncSource, "feed", feed_without_losses)],
        scene="a_file_is_damaged_on_all_that_serve",
    ),
    "brings_zeros": ServiceBug(
        "what is brought of a damaged chunk is zeros, as if they were its bytes",
        [(Forwarder, "_read_damaged", read_zeros)],
        scene="a_file_is_damaged_on_all_that_serve",
    ),
}
