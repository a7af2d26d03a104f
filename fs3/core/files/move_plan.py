"""The bytes of an inline file as chunk 0, which several services may write, and which happens once.

What a slow service has sent may arrive when the file has long been written anew. So the update has one name, made of the content
id: a content is moved once, and while it is, its bytes do not change.
"""

from __future__ import annotations

from msgspec.structs import replace

from fs3.core.files.file_clients import FileClientKind, make_file_client
from fs3.core.files.write_plan import WriteIO, plan_write
from fs3.model.chunk import Tag
from fs3.model.inode import Inode


def plan_move(inode: Inode, data: bytes) -> list[WriteIO]:
    """The updates that store the bytes of an inline file: one, as no file larger than a chunk is inline."""
    client = make_file_client(FileClientKind.MOVE, inode.content_id)
    writes = plan_write(inode.layout, inode.content_id, 0, memoryview(data), len(data))
    assert len(writes) <= 1, "an inline file is larger than a chunk"
    return [replace(write, tag=Tag(client, 1, 1)) for write in writes]
