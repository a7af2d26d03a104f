"""What a mount has open, with another client that changes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import fs3
from fs3.api.file import File
from fs3.api.fuse.open_inode import OpenInode
from fs3.api.fuse.told_changes import ToldChanges
from fs3.model.namespace import PathRef
from fs3.model.requests import Put, Request, SetAttributes
from tests.space import SpaceGuard


async def test_bytes_of_another_client_between_ours_and_the_attributes_that_are_stored_with_them(space_guard: SpaceGuard) -> None:
    path = PathRef.of("f")
    with space_guard.lend("open-inode") as home:
        async with await fs3.connect_embedded(home) as one, await fs3.connect_embedded(home) as two:
            inode = await two.meta.ask(Put(path, b"before"))

            async def interrupted(requests: Sequence[Request[Any]]) -> list[Any]:
                first, second = requests
                answers = [await one.meta.ask(first)]
                await two.meta.ask(Put(path, b"theirs, longer"))
                return [*answers, await one.meta.ask(second)]

            one.meta.batch = interrupted  # type: ignore[method-assign]
            opened = OpenInode(one, ToldChanges(), File(inode, "f", data=b"before"))
            assert opened.write_now(memoryview(b"ours"), 0)
            assert opened.defer(SetAttributes(opened.here, follow=False, mode=0o600)) is not None
            await opened.publish()
            assert bytes(await opened.read(0, 100)) == b"theirs, longer"
            assert (opened.length, opened.inode.mode, opened.is_dirty) == (14, 0o600, False)
