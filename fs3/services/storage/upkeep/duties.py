"""What goes on in the background for each target that is open: repairing bad chunks, the scrub, and the channel epochs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from fs3.base.ids import CHUNK_ID_BYTES, ChunkId, NodeId, TargetId
from fs3.base.limits import channel_forget_ns, ios_per_read_max
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.ports.clock import Clock
from fs3.ports.disks import Disks
from fs3.ports.rpc import Call, Channel
from fs3.services.storage.config import StorageConfig
from fs3.services.storage.foreground_load import ForegroundLoad
from fs3.services.storage.target import TargetShell
from fs3.services.storage.upkeep.repair import Repairer
from fs3.services.storage.upkeep.scrub import Scrubber
from fs3.wire.pb import mgmtd_pb2
from fs3.wire.pb import storage_pb2 as pb

bad_chunks_shown_max = 64
"""Of a target's bad chunks, those that are named to people."""


class Duties:
    """The duties of all targets of a node, and the handlers of Scrub, ReportBad and Resync."""

    def __init__(
        self,
        by_chain: Mapping[int, TargetShell],
        disks: Disks,
        clock: Clock,
        channel: Callable[[NodeId], Channel],
        foreground: ForegroundLoad,
        config: Callable[[], StorageConfig],
    ) -> None:
        self._by_chain = by_chain
        self._disks = disks
        self._clock = clock
        self._channel = channel
        self._foreground = foreground
        self._config = config
        self._by_target: dict[TargetId, tuple[TargetShell, Repairer, Scrubber]] = {}
        self._forgetting: asyncio.Task[None] | None = None

    # --- life --------------------------------------------------------------------------------------------------------

    def on_target_opened(self, shell: TargetShell) -> None:
        """A target has been opened."""
        repairer = Repairer(shell, self._clock, self._channel)
        scrubber = Scrubber(shell, self._disks, self._clock, self._foreground, self._config)
        self._by_target[shell.target] = (shell, repairer, scrubber)
        shell.is_under_repair = repairer.may_be_repaired
        if self._forgetting is None:
            self._forgetting = asyncio.get_running_loop().create_task(self._forget_channels())

    async def on_target_closing(self, target: TargetId) -> None:
        """Its store is about to be closed."""
        duties = self._by_target.pop(target, None)
        if duties is not None:
            await asyncio.gather(duties[1].stop(), duties[2].stop())

    async def stop(self) -> None:
        """The node stops."""
        if self._forgetting is not None:
            self._forgetting.cancel()
            await asyncio.gather(self._forgetting, return_exceptions=True)
        await asyncio.gather(*(self.on_target_closing(target) for target in list(self._by_target)))

    def on_chains_changed(self) -> None:
        """Newer routing."""
        for _, repairer, _ in self._by_target.values():
            repairer.on_chain_changed()

    def on_config_changed(self) -> None:
        """Newer configuration."""
        for _, _, scrubber in self._by_target.values():
            scrubber.on_config_changed()

    def add_figures(self, shell: TargetShell, report: mgmtd_pb2.TargetReport) -> None:
        """What the manager is told."""
        report.bad_blocks = len(shell.store.bad_chunks)
        duties = self._by_target.get(shell.target)
        if duties is None:
            return
        _, repairer, scrubber = duties
        report.repaired_blocks = repairer.repaired_chunks
        report.scrub_passes = scrubber.passes
        report.reason = report.reason or repairer.reason
        if scrubber.is_running:
            report.scrub_done_chunks = scrubber.done_chunks
            report.scrub_total_chunks = scrubber.total_chunks

    async def _forget_channels(self) -> None:
        while True:
            await asyncio.sleep(channel_forget_ns / SECOND)
            for shell, _, _ in self._by_target.values():
                if not shell.failure:
                    shell.store.advance_channel_epoch()

    # --- methods -----------------------------------------------------------------------------------------------------

    def scrub(self, call: Call) -> None:
        """The handler of Scrub."""
        wanted = call.request.target_id
        if wanted and wanted not in self._by_target:
            call.fail(Code.NO_SUCH_TARGET, f"this node has no target {wanted} that works")
            return
        reply = pb.ScrubReply()
        for target in [wanted] if wanted else sorted(self._by_target):
            shell, repairer, scrubber = self._by_target[TargetId(target)]
            if call.request.begin:
                scrubber.begin()
            bad = shell.store.bad_chunks
            first = [chunk for chunk, _ in zip(bad, range(bad_chunks_shown_max), strict=False)]
            reply.targets.append(
                pb.ScrubStatus(
                    target_id=target,
                    running=scrubber.is_running,
                    done_chunks=scrubber.done_chunks,
                    total_chunks=scrubber.total_chunks,
                    bytes=scrubber.bytes,
                    passes=self._disks.read_note(shell.target).scrub_passes,
                    bad_chunks=len(bad),
                    bad=b"".join(first),
                    repaired_chunks=repairer.repaired_chunks,
                )
            )
        call.reply(reply)

    def report_bad(self, call: Call) -> None:
        """The handler of ReportBad."""
        request: pb.ReportBadRequest = call.request
        count = len(request.chains)
        if count > ios_per_read_max or len(request.chunks) != CHUNK_ID_BYTES * count:
            call.fail(Code.INVALID, f"chunks: {len(request.chunks)} bytes beside {count} chains, at most {ios_per_read_max}")
            return
        for index, chain in enumerate(request.chains):
            shell = self._by_chain.get(chain)
            duties = self._by_target.get(shell.target) if shell is not None else None
            if duties is not None:
                duties[1].suspect(ChunkId(request.chunks[CHUNK_ID_BYTES * index : CHUNK_ID_BYTES * (index + 1)]))
        call.reply(pb.ReportBadReply())

    def resync(self, call: Call) -> None:
        """The handler of Resync."""
        target = TargetId(call.request.target_id)
        duties = self._by_target.get(target)
        if duties is None:
            call.fail(Code.NO_SUCH_TARGET, f"this node has no target {target} that works")
        elif not duties[0].leave_chain("a resync was asked for"):
            call.fail(Code.BUSY, f"target {target} cannot leave its chain: it does not serve, or nobody else does")
        else:
            call.reply(pb.ResyncReply())
