"""The scrub of one target: every committed chunk is read back and verified in the background, again and again.

It goes through the chunks in key order, at a limited rate, and lets clients go first. The place it has reached is written
down now and then, so that a restart goes on from there. What it finds is marked by the store and repaired like any other.
"""

from __future__ import annotations

import asyncio
import logging

import msgspec

from fs3.base.errors import FS3Error
from fs3.base.ids import ChunkId
from fs3.base.limits import scrub_bytes_per_second_default
from fs3.base.units import MIB, MINUTE, SECOND
from fs3.ports.disks import Disks
from fs3.services.storage.foreground_load import ForegroundLoad
from fs3.services.storage.node_context import NodeContext
from fs3.services.storage.target import TargetShell
from fs3.services.storage.upkeep.throttle import Throttle

log = logging.getLogger("fs3.storage")

scrub_note_ns = 30 * SECOND
"""How often the place a scrub has reached is written down, so that a restart goes on from there."""

scrub_first_ns = 10 * MINUTE
"""After a target was opened, before its first scrub begins; one that a restart interrupted goes on at once."""

scrub_step_bytes = 4 * MIB
"""What one step of a scrub reads before it looks whether clients need the disk."""


class Scrubber:
    """Scrubs one target for as long as it is open."""

    def __init__(self, shell: TargetShell, disks: Disks, context: NodeContext, foreground: ForegroundLoad) -> None:
        self.is_running = False
        self.done_chunks = 0
        """Verified by the one under way."""
        self.bytes = 0
        """Read since the process started."""
        self.passes = 0
        """That went through the whole target since the process started."""
        self._shell = shell
        self._store = shell.store
        self._disks = disks
        self._context = context
        self._clock = context.clock
        self._foreground = foreground
        self._throttle = Throttle(context.clock)
        self._is_requested = False
        self._first_at = self._clock.now() + (0 if disks.read_note(shell.target).scrub_after else scrub_first_ns)
        self._begun_at: int | None = None
        self._woken = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._work())

    def begin(self) -> None:
        """Begin one now, unless one is under way."""
        if not self.is_running:
            self._is_requested = True
            self._woken.set()

    def on_config_changed(self) -> None:
        """The interval or the rate may have changed."""
        self._woken.set()

    @property
    def total_chunks(self) -> int:
        """Chunks there are."""
        return max(self._store.get_space().chunks, self.done_chunks)

    async def stop(self) -> None:
        """Before the store is closed."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _work(self) -> None:
        while not self._shell.failure:
            await self._wait_turn()
            self._begun_at = self._clock.now()
            self.is_running = True
            try:
                await self._scrub_once()
            except FS3Error as failure:
                log.error("target %d: the scrub has failed: %s", self._shell.target, failure)
                self._shell.fail(failure)
            except Exception:
                log.exception("target %d: the scrub has failed", self._shell.target)
            finally:
                self.is_running = False

    async def _wait_turn(self) -> None:
        while not self._is_requested:
            now = self._clock.now()
            config = self._context.config
            due = self._first_at if self._begun_at is None else self._begun_at + config.scrub_interval_s * SECOND
            if config.scrub_bytes_per_second and now >= due:
                return
            self._woken.clear()
            try:
                async with asyncio.timeout((due - now) / SECOND if config.scrub_bytes_per_second else None):
                    await self._woken.wait()
            except TimeoutError:
                pass
        self._is_requested = False

    async def _scrub_once(self) -> None:
        """One scrub, from where the last one got to."""
        target = self._shell.target
        note = self._disks.read_note(target)
        after = ChunkId(note.scrub_after) if note.scrub_after else None
        self.done_chunks = 0
        noted_at = self._clock.now()
        found_bad = 0
        while True:
            await self._foreground.wait_idle()
            step = await self._store.scrub(after, scrub_step_bytes)
            after = step.after
            self.done_chunks += step.chunks
            self.bytes += step.bytes
            found_bad += len(step.bad_chunks)
            if after is None:
                break
            if self._clock.now() - noted_at >= scrub_note_ns:
                noted_at = self._clock.now()
                self._write(scrub_after=bytes(after))
            # One that was asked for while none is wanted in the background goes at the usual rate.
            rate = self._context.config.scrub_bytes_per_second or scrub_bytes_per_second_default
            await self._throttle.take(max(step.bytes, 1), rate)
        self.passes += 1
        self._write(scrub_after=b"", scrub_passes=self._disks.read_note(target).scrub_passes + 1)
        log.info("target %d: scrubbed: %d chunks, %d of them bad", target, self.done_chunks, found_bad)

    def _write(self, **changes: object) -> None:
        target = self._shell.target
        self._disks.write_note(target, msgspec.structs.replace(self._disks.read_note(target), **changes))
