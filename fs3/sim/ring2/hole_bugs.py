"""What the planted bugs of holes exchange: see `fs3.sim.ring2.bugs`."""

from __future__ import annotations

from fs3.api.space import FileSpace
from fs3.base.ids import InodeId
from fs3.client.storage.stored_chunks import StoredChunk, stored_chunks
from fs3.core.files.layout import chunks
from fs3.core.files.write_plan import WriteIO
from fs3.model.chunk import UpdateKind
from fs3.model.inode import Inode, Layout
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
}
