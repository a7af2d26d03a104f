"""The other end of a resync: what a syncing target answers its predecessor. The chunks themselves arrive as updates."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from fs3.base.errors import FS3Error
from fs3.base.ids import TargetId
from fs3.base.status import Code
from fs3.core.craq.replica import Replica
from fs3.core.craq.resync.rows import RangeState, RemoteRow, compare_ranges, list_rows
from fs3.model.chunk import ChannelKey, ChannelRow
from fs3.ports.chunk_store import ChunkStore
from fs3.ports.disks import Disks
from fs3.ports.rpc import Call
from fs3.runtime.tasks import TaskSet
from fs3.services.storage.node_context import NodeContext
from fs3.wire.resync import (
    ResyncFence,
    compare_reply_to_pb,
    compare_request_from_pb,
    fence_from_pb,
    finish_reply_to_pb,
    list_reply_to_pb,
    list_request_from_pb,
    merge_reply_to_pb,
    merge_request_from_pb,
)

log = logging.getLogger("fs3.storage")


class SyncingTarget(Protocol):
    """A target that its predecessor may bring up to date. `TargetShell` is the one of production."""

    target: TargetId
    store: ChunkStore
    failure: str
    """Why it cannot work; "" while it can."""

    @property
    def replica(self) -> Replica:
        """The machine, which knows whether a fence holds."""
        ...

    def fail(self, failure: Exception) -> None:
        """Its store, or what is noted beside it, cannot be relied on."""
        ...


class ResyncSink:
    """Handlers of CompareRanges, ListChunks with a fence, MergeChannels and FinishResync.

    Each is answered only when its fence holds: the sender is the predecessor of this node's target of that chain, which syncs,
    under exactly that chain version. The answer names the replica that gives it, also when it refuses.
    """

    def __init__(self, by_chain: Mapping[int, SyncingTarget], disks: Disks, context: NodeContext) -> None:
        """`by_chain` has the open targets of the node by the id of their chain, and changes with them."""
        self._by_chain = by_chain
        self._disks = disks
        self._context = context
        self._tasks = TaskSet()

    def compare(self, call: Call) -> None:
        """The handler of CompareRanges."""
        try:
            fence = fence_from_pb(call.request.fence)
            ranges = compare_request_from_pb(call.request)
        except FS3Error as wrong:
            call.fail(wrong.code, wrong.strerror or "")
            return
        shell, code = self._admit(fence)
        states: Sequence[RangeState] = ()
        if shell is not None and not code:
            try:
                states = compare_ranges(shell.store, shell.store.bad_chunks, ranges)
            except FS3Error as damaged:
                shell.fail(damaged)
                code = damaged.code
        call.reply(compare_reply_to_pb(states, code, _incarnation_of(shell)))

    def list_rows(self, call: Call) -> None:
        """The handler of ListChunks, from a predecessor."""
        try:
            fence = fence_from_pb(call.request.fence)
            wanted = list_request_from_pb(call.request)
        except FS3Error as wrong:
            call.fail(wrong.code, wrong.strerror or "")
            return
        shell, code = self._admit(fence)
        rows: Sequence[RemoteRow] = ()
        more = False
        if shell is not None and not code:
            try:
                rows, more = list_rows(shell.store, shell.store.bad_chunks, *wanted)
            except FS3Error as damaged:
                shell.fail(damaged)
                code = damaged.code
        call.reply(list_reply_to_pb(rows, more, code, _incarnation_of(shell)))

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
            call.reply(merge_reply_to_pb(code, _incarnation_of(shell)))
            return
        self._tasks.start(self._merge(call, shell, fence, rows))

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
        call.reply(finish_reply_to_pb(code, _incarnation_of(shell)))
        if not code:
            self._context.on_target_changed()

    async def stop(self) -> None:
        """Wait for what is being merged."""
        await self._tasks.join()

    def _admit(self, fence: ResyncFence) -> tuple[SyncingTarget | None, Code]:
        shell = self._by_chain.get(fence.chain)
        if shell is None:
            return None, Code.NO_SUCH_TARGET
        if shell.failure:
            return shell, Code.NOT_SERVING
        return shell, shell.replica.check_resync_fence(*fence)

    async def _merge(
        self, call: Call, shell: SyncingTarget, fence: ResyncFence, rows: list[tuple[ChannelKey, ChannelRow]]
    ) -> None:
        try:
            await shell.store.merge_channels(rows)
            code = shell.replica.check_resync_fence(*fence)
        except FS3Error as failure:
            log.warning("target %d: channel rows of its predecessor cannot be stored: %s", shell.target, failure)
            code = failure.code
        call.reply(merge_reply_to_pb(code, _incarnation_of(shell)))

    def _note_whole(self, shell: SyncingTarget) -> Code:
        """Written down before the predecessor or the manager is told: the target counts as one that has everything, from now on
        and after a restart."""
        try:
            note = self._disks.read_note(shell.target)
            if not note.whole:
                self._disks.write_note(shell.target, msgspec.structs.replace(note, whole=True))
        except FS3Error as failure:
            shell.fail(failure)
            return failure.code
        return Code.OK


def _incarnation_of(shell: SyncingTarget | None) -> int:
    return shell.replica.incarnation if shell is not None else 0
