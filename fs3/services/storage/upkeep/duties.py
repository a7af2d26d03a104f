"""What goes on in the background for each target that is open: repairing bad chunks, the scrub, and the channel epochs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import islice
from typing import NamedTuple

from msgspec.structs import replace

from fs3.base.errors import FS3Error
from fs3.base.ids import TargetId
from fs3.base.limits import channel_forget_ns
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.model.target_report import UpkeepProgress
from fs3.model.upkeep import ScrubStatus
from fs3.ports.disks import Disks
from fs3.ports.rpc import Call
from fs3.services.storage.foreground_load import ForegroundLoad
from fs3.services.storage.node_context import NodeContext
from fs3.services.storage.target import TargetShell
from fs3.services.storage.target_map import TargetMap
from fs3.services.storage.upkeep.repair import Repairer
from fs3.services.storage.upkeep.scrub import Scrubber
from fs3.wire.storage_upkeep import (
    report_bad_reply_to_pb,
    report_bad_request_from_pb,
    resync_reply_to_pb,
    scrub_reply_to_pb,
)

bad_chunks_shown_max = 64
"""Of a target's bad chunks, those that are named to people."""


class TargetUpkeep(NamedTuple):
    """The duties of one target."""

    shell: TargetShell
    repairer: Repairer
    scrubber: Scrubber


class Duties:
    """The duties of all targets of a node, and the handlers of Scrub, ReportBad and Resync."""

    def __init__(self, targets: TargetMap, disks: Disks, context: NodeContext, foreground: ForegroundLoad) -> None:
        self._targets = targets
        self._disks = disks
        self._context = context
        self._foreground = foreground
        self._by_target: dict[TargetId, TargetUpkeep] = {}
        self._forgetting: asyncio.Task[None] | None = None

    @property
    def by_target(self) -> Mapping[TargetId, TargetUpkeep]:
        """The duties of every target that is open."""
        return self._by_target

    # --- life --------------------------------------------------------------------------------------------------------

    def on_target_opened(self, shell: TargetShell) -> None:
        """A target has been opened."""
        repairer = Repairer(shell, self._context)
        scrubber = Scrubber(shell, self._disks, self._context, self._foreground)
        self._by_target[shell.target] = TargetUpkeep(shell, repairer, scrubber)
        shell.staging.repairs = repairer
        if self._forgetting is None:
            self._forgetting = asyncio.get_running_loop().create_task(self._forget_channels())

    async def on_target_closing(self, target: TargetId) -> None:
        """Its store is about to be closed."""
        duties = self._by_target.pop(target, None)
        if duties is not None:
            await asyncio.gather(duties.repairer.stop(), duties.scrubber.stop())

    async def stop(self) -> None:
        """The node stops."""
        if self._forgetting is not None:
            self._forgetting.cancel()
            await asyncio.gather(self._forgetting, return_exceptions=True)
        await asyncio.gather(*(self.on_target_closing(target) for target in list(self._by_target)))

    def on_chains_changed(self) -> None:
        """Newer routing."""
        for duties in self._by_target.values():
            duties.repairer.on_chain_changed()

    def on_config_changed(self) -> None:
        """Newer configuration."""
        for duties in self._by_target.values():
            duties.scrubber.on_config_changed()

    def add_figures(self, shell: TargetShell, progress: UpkeepProgress) -> UpkeepProgress:
        """What the manager is told: `progress`, which has the figures of the resync, with those of repair and scrub."""
        bad = len(shell.store.bad_chunks)
        duties = self._by_target.get(shell.target)
        if duties is None:
            return replace(progress, bad_blocks=bad)
        _, repairer, scrubber = duties
        return replace(
            progress,
            bad_blocks=bad,
            repaired_blocks=repairer.repaired_chunks,
            scrub_done_chunks=scrubber.done_chunks if scrubber.is_running else 0,
            scrub_total_chunks=scrubber.total_chunks if scrubber.is_running else 0,
            scrub_passes=scrubber.passes,
        )

    def repair_reason(self, target: TargetId) -> str:
        """Why bad chunks of a target cannot be repaired; "" when there is nothing to say."""
        duties = self._by_target.get(target)
        return duties.repairer.reason if duties is not None else ""

    async def _forget_channels(self) -> None:
        while True:
            await asyncio.sleep(channel_forget_ns / SECOND)
            for duties in self._by_target.values():
                if not duties.shell.failure:
                    duties.shell.store.advance_channel_epoch()

    # --- methods -----------------------------------------------------------------------------------------------------

    def scrub(self, call: Call) -> None:
        """The handler of Scrub."""
        wanted = call.request.target_id
        if wanted and wanted not in self._by_target:
            call.fail(Code.NO_SUCH_TARGET, f"this node has no target {wanted} that works")
            return
        statuses = []
        for target in [TargetId(wanted)] if wanted else sorted(self._by_target):
            shell, repairer, scrubber = self._by_target[target]
            if call.request.begin:
                scrubber.begin()
            bad = shell.store.bad_chunks
            statuses.append(
                ScrubStatus(
                    target_id=target,
                    running=scrubber.is_running,
                    done_chunks=scrubber.done_chunks,
                    total_chunks=scrubber.total_chunks,
                    bytes=scrubber.bytes,
                    passes=self._disks.read_note(target).scrub_passes,
                    bad_chunks=len(bad),
                    bad=tuple(islice(bad, bad_chunks_shown_max)),
                    repaired_chunks=repairer.repaired_chunks,
                )
            )
        call.reply(scrub_reply_to_pb(statuses))

    def report_bad(self, call: Call) -> None:
        """The handler of ReportBad."""
        try:
            suspects = report_bad_request_from_pb(call.request)
        except FS3Error as wrong:
            call.fail(wrong.code, wrong.strerror or "")
            return
        for chunk, chain in suspects:
            shell = self._targets.by_chain.get(chain)
            duties = self._by_target.get(shell.target) if shell is not None else None
            if duties is not None:
                duties.repairer.suspect(chunk)
        call.reply(report_bad_reply_to_pb())

    def resync(self, call: Call) -> None:
        """The handler of Resync."""
        target = TargetId(call.request.target_id)
        duties = self._by_target.get(target)
        if duties is None:
            call.fail(Code.NO_SUCH_TARGET, f"this node has no target {target} that works")
        elif not duties.shell.leave_chain("a resync was asked for"):
            call.fail(Code.BUSY, f"target {target} cannot leave its chain: it does not serve, or nobody else does")
        else:
            call.reply(resync_reply_to_pb())
