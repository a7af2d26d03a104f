"""The other end of a resync: what a syncing target answers its predecessor. The chunks themselves arrive as updates."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec

from fs3.base.errors import FS3Error
from fs3.base.ids import CHUNK_ID_BYTES, ChunkId
from fs3.base.limits import list_entries_max
from fs3.base.status import Code
from fs3.core.craq.resync.rows import compare_ranges, key_after, list_rows
from fs3.model.chunk import ChannelRow
from fs3.ports.chunk_store import ChannelKey
from fs3.ports.disks import Disks
from fs3.ports.rpc import Call
from fs3.services.storage.target import TargetShell
from fs3.wire.pb import storage_pb2 as pb
from fs3.wire.resync import ResyncFence, answer_to_pb, compare_request_from_pb, fence_from_pb, merge_request_from_pb
from fs3.wire.storage import malformed

log = logging.getLogger("fs3.storage")


class ResyncSink:
    """Handlers of CompareRanges, ListChunks with a fence, MergeChannels and FinishResync.

    Each is answered only when its fence holds: the sender is the predecessor of this node's target of that chain, which syncs,
    under exactly that chain version. The answer names the replica that gives it, also when it refuses.
    """

    def __init__(self, shell_of: Callable[[int], TargetShell | None], disks: Disks, on_complete: Callable[[], None]) -> None:
        """`changed` is called when the manager should hear at once that a target is complete."""
        self._shell_of = shell_of
        self._disks = disks
        self._on_complete = on_complete
        self._tasks: dict[asyncio.Task[None], None] = {}

    def compare(self, call: Call) -> None:
        """The handler of CompareRanges."""
        try:
            fence = fence_from_pb(call.request.fence)
            ranges = compare_request_from_pb(call.request)
        except FS3Error as wrong:
            call.fail(wrong.code, wrong.strerror or "")
            return
        shell, code = self._admit(fence)
        states: Any = ()
        if shell is not None and not code:
            try:
                states = compare_ranges(shell.store, shell.store.bad_chunks, ranges)
            except FS3Error as damaged:
                shell.fail(damaged)
                code = damaged.code
        call.reply(pb.CompareRangesReply(states=map(int, states), answer=_answer(shell, code)))

    def list_rows(self, call: Call) -> None:
        """The handler of ListChunks, from a predecessor."""
        request: pb.ListChunksRequest = call.request
        try:
            fence = fence_from_pb(request.fence)
            for name, key in (("after", request.after), ("until", request.until)):
                if len(key) not in (0, CHUNK_ID_BYTES):
                    raise malformed(name, f"{len(key)} bytes are not a chunk id of {CHUNK_ID_BYTES} bytes")
        except FS3Error as wrong:
            call.fail(wrong.code, wrong.strerror or "")
            return
        shell, code = self._admit(fence)
        reply = pb.ListChunksReply()
        if shell is not None and not code:
            limit = min(request.limit or list_entries_max, list_entries_max)
            begin = key_after(ChunkId(request.after)) if request.after else b""
            try:
                rows, reply.more = list_rows(shell.store, shell.store.bad_chunks, begin, request.until, limit)
            except FS3Error as damaged:
                shell.fail(damaged)
                rows, code = (), damaged.code
            reply.chunks.extend(
                pb.ChunkInfo(
                    chunk=row.chunk,
                    committed_version=row.committed,
                    pending_version=row.pending,
                    length=row.length,
                    checksum=row.checksum,
                    bad=row.bad,
                )
                for row in rows
            )
        reply.answer.CopyFrom(_answer(shell, code))
        call.reply(reply)

    def merge(self, call: Call) -> None:
        """The handler of MergeChannels."""
        try:
            fence = fence_from_pb(call.request.fence)
            rows = merge_request_from_pb(call.request)
        except FS3Error as wrong:
            call.fail(wrong.code, wrong.strerror or "")
            return
        shell, code = self._admit(fence)
        if shell is None or code:
            call.reply(pb.MergeChannelsReply(answer=_answer(shell, code)))
            return
        task = asyncio.get_running_loop().create_task(self._merge(call, shell, fence, rows))
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)

    def finish(self, call: Call) -> None:
        """The handler of FinishResync."""
        try:
            fence = fence_from_pb(call.request.fence)
        except FS3Error as wrong:
            call.fail(wrong.code, wrong.strerror or "")
            return
        shell, code = self._admit(fence)
        if shell is not None and not code:
            code = shell.replica.finish_resync(*fence)
            if not code:
                code = self._note_whole(shell)
        call.reply(pb.FinishResyncReply(answer=_answer(shell, code)))
        if not code:
            self._on_complete()

    async def stop(self) -> None:
        """Wait for what is being merged."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _admit(self, fence: ResyncFence) -> tuple[TargetShell | None, Code]:
        shell = self._shell_of(fence.chain)
        if shell is None:
            return None, Code.NO_SUCH_TARGET
        if shell.failure:
            return shell, Code.NOT_SERVING
        return shell, shell.replica.check_resync_fence(*fence)

    async def _merge(self, call: Call, shell: TargetShell, fence: ResyncFence, rows: list[tuple[ChannelKey, ChannelRow]]) -> None:
        try:
            await shell.store.merge_channels(rows)
            code = shell.replica.check_resync_fence(*fence)
        except FS3Error as failure:
            log.warning("target %d: channel rows of its predecessor cannot be stored: %s", shell.target, failure)
            code = failure.code
        call.reply(pb.MergeChannelsReply(answer=_answer(shell, code)))

    def _note_whole(self, shell: TargetShell) -> Code:
        """Written down before anybody is told: the target counts as one that has everything, from now on and after a restart."""
        try:
            note = self._disks.read_note(shell.target)
            if not note.whole:
                self._disks.write_note(shell.target, msgspec.structs.replace(note, whole=True))
        except FS3Error as failure:
            shell.fail(failure)
            return failure.code
        return Code.OK


def _answer(shell: TargetShell | None, code: Code) -> pb.ResyncAnswer:
    return answer_to_pb(code, shell.replica.incarnation if shell is not None else 0)
