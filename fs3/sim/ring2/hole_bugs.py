"""What the planted bugs of holes exchange: see `fs3.sim.ring2.bugs`."""

from __future__ import annotations

from msgspec.structs import replace

from fs3.api.file import File
from fs3.api.space import FileSpace
from fs3.base.ids import InodeId
from fs3.client.storage.stored_chunks import StoredChunk, stored_chunks
from fs3.core.files.layout import chunks
from fs3.core.files.write_plan import WriteIO
from fs3.core.meta.context import OpContext
from fs3.core.meta.length import with_truncated_length
from fs3.core.meta.ops import truncate as truncate_op
from fs3.model.chunk import UpdateKind
from fs3.model.inode import Inode, Layout
from fs3.model.requests import Close, Sync
from fs3.services.meta.change_executor import ChangeExecutor
from fs3.sim.ring2.service_bug import ServiceBug


async def punch_outward(self: FileSpace, inode: Inode, begin: int, end: int) -> None:
    """A chunk that lies in the range in part is removed."""
    content, layout = inode.content_id, inode.layout
    first, last = begin // layout.chunk_size, -(-end // layout.chunk_size)
    async for page in stored_chunks(self._storage, content, layout, first, last):
        await self._remove(content, layout, page)


async def remove_untagged(self: FileSpace, content: InodeId, layout: Layout, page: list[StoredChunk]) -> None:
    """A removal that is sent again removes again."""
    for there in page:
        ((chunk, chain),) = chunks(layout, content, there.index, there.index + 1)
        await self._update([WriteIO(chunk, chain, UpdateKind.REMOVE, 0, tagged=False)])


def begin_anywhere(self: File, start: int = 0, end: int = 0) -> None:
    """Where a write begins counts for nothing."""
    _real_begin_write(self)


_real_begin_write = File.begin_write


async def punch_in_silence(self: FileSpace, file: File, begin: int, end: int) -> None:
    """A hole that was made is not told."""
    before = file.leaves_holes
    await _real_punch(self, file, begin, end)
    file.leaves_holes = before


_real_punch = FileSpace.punch


def lengthen_in_silence(ctx: OpContext, inode: Inode, length: int) -> Inode:
    """A longer length is one without holes."""
    return replace(with_truncated_length(ctx, inode, length), has_holes=inode.has_holes)


async def ask_length_only(self: ChangeExecutor, request: Close | Sync) -> Close | Sync:
    """What a truncation has taken away from under the writes of another client counts as stored."""
    return replace(await _real_with_length(self, request), leaves_holes=request.leaves_holes)


_real_with_length = ChangeExecutor._with_length

_TOLD = "holes_of_every_kind_are_told"

HOLE_BUGS: dict[str, ServiceBug] = {
    "punches_outward": ServiceBug(
        "a hole takes the chunks that it covers in part",
        [(FileSpace, "_punch", punch_outward)],
        scene="punch_beside_writers",
    ),
    "punches_again": ServiceBug(
        "the removal of a chunk that is sent again takes what was written meanwhile",
        [(FileSpace, "_remove", remove_untagged)],
        scene="write_before_a_punch_is_told",
    ),
    "writes_behind_in_silence": ServiceBug(
        "a writer does not tell that it left a hole before what it wrote",
        [(File, "begin_write", begin_anywhere)],
        scene=_TOLD,
    ),
    "punches_in_silence": ServiceBug(
        "a writer does not tell that it made a hole",
        [(FileSpace, "punch", punch_in_silence)],
        scene=_TOLD,
    ),
    "lengthens_in_silence": ServiceBug(
        "a file that is made longer is said to have no holes",
        [(truncate_op, "with_truncated_length", lengthen_in_silence)],
        scene=_TOLD,
    ),
    "cuts_in_silence": ServiceBug(
        "what a truncation took away before a write that its writer tells of later counts as stored",
        [(ChangeExecutor, "_with_length", ask_length_only)],
        scene=_TOLD,
    ),
}
