"""What goes on in the background for each target that is open: repairing bad chunks, the scrub, and the channel epochs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from fs3.base.ids import CHUNK_ID_BYTES, ChunkId, NodeId, TargetId
from fs3.base.limits import bad_chunks_shown_max, channel_forget_ns, ios_per_read_max
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.ports.clock import Clock
from fs3.ports.rpc import Call, Channel
from fs3.services.storage.config import StorageConfig
from fs3.services.storage.disk_port import Disks
from fs3.services.storage.foreground import Foreground
from fs3.services.storage.repair import Repairer
from fs3.services.storage.scrub import Scrubber
from fs3.services.storage.target import TargetShell
from fs3.wire.pb import mgmtd_pb2
from fs3.wire.pb import storage_pb2 as pb


class Duties:
    """The duties of all targets of a node, and the handlers of Scrub, ReportBad and Resync."""

    def __init__(
        self,
        by_chain: Mapping[int, TargetShell],
        disks: Disks,
        clock: Clock,
        channel: Callable[[NodeId], Channel],
        foreground: Foreground,
        config: Callable[[], StorageConfig],
    ) -> None:
        self._by_chain = by_chain
        self._disks = disks
        self._clock = clock
        self._channel = channel
        self._foreground = foreground
        self._config = config
        self._of: dict[TargetId, tuple[TargetShell, Repairer, Scrubber]] = {}
        self._forgetting: asyncio.Task[None] | None = None

    # --- life --------------------------------------------------------------------------------------------------------

    def begin(self, shell: TargetShell) -> None:
        """A target has been opened."""
        repairer = Repairer(shell, self._clock, self._channel)
        scrubber = Scrubber(shell, self._disks, self._clock, self._foreground, self._config)
        self._of[shell.target] = (shell, repairer, scrubber)
        shell.under_repair = repairer.is_hopeful
        if self._forgetting is None:
            self._forgetting = asyncio.get_running_loop().create_task(self._forget_channels())

    async def end(self, target: TargetId) -> None:
        """Its store is about to be closed."""
        duties = self._of.pop(target, None)
        if duties is not None:
            await asyncio.gather(duties[1].stop(), duties[2].stop())

    async def stop(self) -> None:
        """The node stops."""
        if self._forgetting is not None:
            self._forgetting.cancel()
            await asyncio.gather(self._forgetting, return_exceptions=True)
        await asyncio.gather(*(self.end(target) for target in list(self._of)))

    def chains_changed(self) -> None:
        """Newer routing."""
        for _, repairer, _ in self._of.values():
            repairer.chain_changed()

    def configured(self) -> None:
        """Newer configuration."""
        for _, _, scrubber in self._of.values():
            scrubber.configured()

    def add_figures(self, shell: TargetShell, report: mgmtd_pb2.TargetReport) -> None:
        """What the manager is told."""
        report.bad_blocks = len(shell.store.bad)
        duties = self._of.get(shell.target)
        if duties is None:
            return
        _, repairer, scrubber = duties
        report.repaired_blocks = repairer.repaired
        report.scrub_passes = scrubber.passes
        report.reason = report.reason or repairer.reason
        if scrubber.running:
            report.scrub_done_chunks = scrubber.done_chunks
            report.scrub_total_chunks = scrubber.total_chunks

    async def _forget_channels(self) -> None:
        while True:
            await asyncio.sleep(channel_forget_ns / SECOND)
            for shell, _, _ in self._of.values():
                if not shell.damage:
                    shell.store.advance_channel_epoch()

    # --- methods -----------------------------------------------------------------------------------------------------

    def scrub(self, call: Call) -> None:
        """The handler of Scrub."""
        wanted = call.request.target_id
        if wanted and wanted not in self._of:
            call.fail(Code.NO_SUCH_TARGET, f"this node has no target {wanted} that works")
            return
        reply = pb.ScrubReply()
        for target in [wanted] if wanted else sorted(self._of):
            shell, repairer, scrubber = self._of[TargetId(target)]
            if call.request.begin:
                scrubber.begin()
            bad = shell.store.bad
            first = [chunk for chunk, _ in zip(bad, range(bad_chunks_shown_max), strict=False)]
            reply.targets.append(
                pb.ScrubStatus(
                    target_id=target,
                    running=scrubber.running,
                    done_chunks=scrubber.done_chunks,
                    total_chunks=scrubber.total_chunks,
                    bytes=scrubber.bytes,
                    passes=self._disks.note(shell.target).scrub_passes,
                    bad_chunks=len(bad),
                    bad=b"".join(first),
                    repaired_chunks=repairer.repaired,
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
            duties = self._of.get(shell.target) if shell is not None else None
            if duties is not None:
                duties[1].suspect(ChunkId(request.chunks[CHUNK_ID_BYTES * index : CHUNK_ID_BYTES * (index + 1)]))
        call.reply(pb.ReportBadReply())

    def resync(self, call: Call) -> None:
        """The handler of Resync."""
        target = TargetId(call.request.target_id)
        duties = self._of.get(target)
        if duties is None:
            call.fail(Code.NO_SUCH_TARGET, f"this node has no target {target} that works")
        elif not duties[0].step_down("a resync was asked for"):
            call.fail(Code.BUSY, f"target {target} cannot leave its chain: it does not serve, or nobody else does")
        else:
            call.reply(pb.ResyncReply())
