"""What every `ChunkStore` must tell of changes, for those who read beside it; a part of `fs3.sim.conformance.chunk_store`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from fs3.base.ids import ChunkId, InodeId, file_chunk
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.model.chunk import UpdateResult
from fs3.ports.chunk_store import ChunkStore, Staged
from fs3.sim.conformance.chunk_tools import (
    FILL,
    PUT,
    REMOVE,
    TRUNCATE,
    WRITE,
    A,
    B,
    apply,
    commit,
    noise,
    read,
    stage,
    update_of,
    write,
)
from fs3.sim.conformance.chunk_updates import ChunkStoreSuite


class _Watch:
    """Hears what a store tells, and says whether it had to tell it."""

    def __init__(self, store: ChunkStore) -> None:
        self.told: list[ChunkId] = []
        self._store = store
        store.on_change = self.told.append

    def state(self, chunk: ChunkId) -> Any:
        """On what the answer to a read of a chunk depends."""
        return self._store.get(chunk), chunk in self._store.bad_chunks

    def since(self, count: int) -> set[ChunkId]:
        """Of which chunks it was told after so many times."""
        return set(self.told[count:])


class ChunkChangeTests(ChunkStoreSuite):
    """`ChunkStore.on_change`, and where a block is."""

    async def test_every_step_of_an_update_is_told_of_its_chunk(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await write(store, B, 0, noise(5000))
            watch = _Watch(store)
            for kind, offset, data in (
                (WRITE, 0, noise(100_000)),
                (WRITE, 50_000, noise(10)),
                (TRUNCATE, 3000, b""),
                (FILL, 0, noise(600)),
                (WRITE, 600, noise(9000)),
                (TRUNCATE, 0, b""),
                (REMOVE, 0, b""),
                (PUT, 0, noise(70_000)),
            ):
                update = update_of(A, kind, offset, data)
                count = len(watch.told)
                staged = await stage(store, update)
                assert staged.code is Code.OK
                assert watch.since(count) == {A}, f"{kind.name} is pending"
                count = len(watch.told)
                store.drop_pending(A)
                assert watch.since(count) == {A}, f"{kind.name} was dropped"
                staged = await stage(store, update)
                count = len(watch.told)
                commit(store, update, staged)
                assert watch.since(count) == {A}, f"{kind.name} is committed"

    async def test_it_is_told_before_the_answer(self, tmp_path: Path) -> None:
        """An answer lets others go on, and a reader that begins after that must know."""
        async with self.opened(tmp_path) as store:
            watch = _Watch(store)
            at_answers: list[tuple[ChunkId, bool]] = []

            everything = asyncio.Event()

            def on_staged(staged: Sequence[Staged]) -> None:
                at_answers.extend((update.chunk, update.chunk in watch.told) for update, _ in staged)
                if len(at_answers) == len(chunks):
                    everything.set()

            chunks = [file_chunk(InodeId(40), index) for index in range(20)]
            updates = [update_of(chunk, WRITE, 0, noise(100 + 5000 * (index % 3))) for index, chunk in enumerate(chunks)]
            store.submit([replace(update, version=1) for update in updates], on_staged)
            await everything.wait()
            assert sorted(at_answers) == [(chunk, True) for chunk in sorted(chunks)]

    async def test_marks_and_repairs_are_told(self, tmp_path: Path) -> None:
        data = noise(100_000)
        async with self.opened(tmp_path) as store:
            await write(store, A, 0, data)
            watch = _Watch(store)
            store.mark_bad(B)
            assert watch.told == [], "there is nothing to mark"
            store.mark_bad(A)
            assert watch.told == [A]
            store.mark_bad(A)
            count = len(watch.told)
            assert await store.repair(A, 1, memoryview(data))
            assert watch.since(count) == {A}
            self.rot(store, A, 70_000)
            count = len(watch.told)
            assert not await store.verify(A)
            assert watch.since(count) == {A}, "found by itself"

    async def test_what_changes_nothing_need_not_be_told(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await write(store, A, 0, noise(100_000))
            watch = _Watch(store)
            await read(store, A, 5, 70_000)
            assert await store.verify(A)
            await store.flush()
            store.list(None, 10)
            store.locate_block(A)
            assert watch.told == [], "each time clients ask more often"

    async def test_it_is_told_to_the_last_one_that_wants_to_hear_it(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            first, second = _Watch(store), _Watch(store)
            await write(store, A, 0, noise(5000))
            assert first.told == []
            assert set(second.told) == {A}
            store.on_change = None
            count = len(second.told)
            await write(store, A, 0, noise(5000))
            store.mark_bad(A)
            assert len(second.told) == count
            await store.close()
            store = await self.reopen(store, tmp_path)
            assert store.on_change is None
            await store.close()

    async def test_no_change_of_many_goes_untold(self, tmp_path: Path) -> None:
        """Random steps: whenever a read of a chunk may be answered otherwise, that was told by then, and of no other chunk.
        A mark that is taken away need not be told: what was told before it was put there is void since."""
        prng = Prng(7)
        chunks = [file_chunk(InodeId(41), index) for index in range(4)]
        async with self.opened(tmp_path) as store:
            watch = _Watch(store)
            changed = 0
            for _ in range(250):
                chunk = chunks[prng.below(len(chunks))]
                before, count = watch.state(chunk), len(watch.told)
                await self._step(store, chunk, prng)
                if watch.state(chunk) not in (before, (before[0], False)):
                    changed += 1
                    assert chunk in watch.told[count:], (before, watch.state(chunk))
                assert watch.since(count) <= {chunk}
            assert changed > 100

    @staticmethod
    async def _step(store: ChunkStore, chunk: ChunkId, prng: Prng) -> None:
        meta = store.get(chunk)
        if meta is not None and meta.pending:
            if prng.chance(1, 2):
                store.commit(chunk, meta.pending, update_of(chunk, WRITE).tag, UpdateResult(Code.OK, meta.pending))
            else:
                store.drop_pending(chunk)
            return
        draw = prng.below(10)
        if draw == 0:
            store.mark_bad(chunk)
        elif draw == 1:
            await store.verify(chunk)
        else:
            kind = (WRITE, PUT, FILL, TRUNCATE, REMOVE)[prng.below(5)]
            size = (10, 5000, 100_000)[prng.below(3)]
            await stage(store, update_of(chunk, kind, 0, b"" if kind in (TRUNCATE, REMOVE) else noise(size, prng.below(99) + 1)))

    # --- where a block is --------------------------------------------------------------------------------------------

    async def test_a_block_that_is_told_is_the_committed_version(self, tmp_path: Path) -> None:
        """A store tells where a block is, or it tells nothing. Of what is absent, pending alone or bad, it never does."""
        data = noise(100_000)
        async with self.opened(tmp_path) as store:
            assert store.locate_block(A) is None
            update = update_of(A, WRITE, 0, data)
            staged = await stage(store, update)
            assert store.locate_block(A) is None
            commit(store, update, staged)
            self._check_place(store.locate_block(A), 1, data)
            await stage(store, update_of(A, WRITE, 0, b"pending"))
            self._check_place(store.locate_block(A), 1, data)
            store.drop_pending(A)
            store.mark_bad(A)
            assert store.locate_block(A) is None
            assert await store.repair(A, 1, memoryview(data))
            self._check_place(store.locate_block(A), 1, data)
            await apply(store, update_of(A, REMOVE))
            assert store.locate_block(A) is None

    def _check_place(self, place: Any, version: int, data: bytes) -> None:
        if place is None:
            return
        assert (place.version, place.length) == (version, len(data))
        with Path(place.path).open("rb") as file:
            file.seek(place.offset)
            assert file.read(place.length) == data
