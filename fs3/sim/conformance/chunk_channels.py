"""What every `ChunkStore` must do with the rows of update channels; a part of `fs3.sim.conformance.chunk_store`."""

from __future__ import annotations

from pathlib import Path

from fs3.base.errors import FS3Error
from fs3.base.ids import ClientId
from fs3.base.limits import channel_rows_per_merge_max
from fs3.base.status import Code
from fs3.model.chunk import ChannelKey, ChannelRow, Tag, UpdateResult
from fs3.ports.chunk_store import ChunkStore
from fs3.sim.conformance.chunk_tools import CLIENT, WRITE, A, D, stage, update_of
from fs3.sim.conformance.chunk_updates import ChunkStoreSuite


def channel_rows(count: int, seq: int = 1) -> list[tuple[ChannelKey, ChannelRow]]:
    """Rows of channels of several clients, in the order of their keys."""
    return [
        ((ClientId(bytes((client,)) * 16), channel), ChannelRow(seq, A, UpdateResult(Code.OK, seq, channel)))
        for client in range(1, -(-count // 7) + 1)
        for channel in (0, 1, 2, 255, 256, 65_536, 0xFFFF_FFFF)
    ][:count]


async def use(store: ChunkStore, client: ClientId, channel: int, seq: int) -> None:
    """A committed update of a channel."""
    update = update_of(D, WRITE, 0, b"x")
    await stage(store, update)
    meta = store.get(D)
    assert meta is not None
    store.commit(D, meta.pending, Tag(client, channel, seq), UpdateResult(Code.OK, seq))


class ChunkChannelTests(ChunkStoreSuite):
    """Paging, merging, forgetting, and the bound."""

    async def test_channel_rows_are_paged_in_order(self, tmp_path: Path) -> None:
        rows = channel_rows(30)
        async with self.opened(tmp_path) as store:
            assert store.list_channels(None, 10) == []
            await store.merge_channels(rows[:10] + rows[20:])
            await store.merge_channels(rows[5:25])
            key = (CLIENT, 3)
            await use(store, *key, 9)
            last = (key, ChannelRow(9, D, UpdateResult(Code.OK, 9)))
            everything = sorted([*rows, last])
            assert store.list_channels(None, 100) == everything
            for size in (1, 7, 31):
                paged: list[tuple[ChannelKey, ChannelRow]] = []
                while page := store.list_channels(paged[-1][0] if paged else None, size):
                    assert len(page) <= size
                    paged += page
                assert paged == everything
            assert store.channel_count == 31
            assert all(store.get_channel(*name) == row for name, row in rows)

    async def test_of_two_rows_the_later_one_stays(self, tmp_path: Path) -> None:
        (key, early), (_, late) = channel_rows(1, 5)[0], channel_rows(1, 6)[0]
        async with self.opened(tmp_path) as store:
            for rows in ([early], [late], [early], [late]):
                await store.merge_channels([(key, row) for row in rows])
            assert store.get_channel(*key) == late
            await use(store, *key, 4)
            assert store.get_channel(*key) == late
            await use(store, *key, 7)
            assert store.get_channel(*key) == ChannelRow(7, D, UpdateResult(Code.OK, 7))
            assert store.channel_count == 1

    async def test_a_merge_is_durable(self, tmp_path: Path) -> None:
        rows = channel_rows(20)
        async with self.opened(tmp_path) as store:
            await use(store, CLIENT, 3, 9)
            await store.merge_channels(rows)
            await store.merge_channels([])
            after = await self.crash(store, tmp_path)
            try:
                assert after.list_channels(None, 100)[:20] == rows
                assert after.channel_count == 21
                assert after.get_channel(CLIENT, 3) is not None
            finally:
                await after.close()

    async def test_rows_are_forgotten_two_epochs_after_their_last_use(self, tmp_path: Path) -> None:
        rows = channel_rows(10)
        used, merged = rows[0][0], rows[1]
        async with self.opened(tmp_path) as store:
            await store.merge_channels(rows)
            assert store.channel_epoch == 1
            store.advance_channel_epoch()
            await store.flush()
            assert store.channel_count == 10
            await use(store, *used, 8)
            await store.merge_channels([merged])
            store.advance_channel_epoch()
            await store.flush()
            assert store.channel_epoch == 3
            assert [key for key, _ in store.list_channels(None, 100)] == [used, merged[0]]
            assert store.get_channel(*rows[5][0]) is None
            assert store.channel_count == 2
            await use(store, *rows[5][0], 1)
            store.advance_channel_epoch()
            await store.flush()
            assert [key for key, _ in store.list_channels(None, 100)] == [rows[5][0]]
            after = await self.crash(store, tmp_path)
            try:
                assert after.channel_epoch == 4
                assert [key for key, _ in after.list_channels(None, 100)] == [rows[5][0]]
                assert after.channel_count == 1
            finally:
                await after.close()

    async def test_the_number_of_channel_rows_is_bounded(self, tmp_path: Path) -> None:
        rows = channel_rows(40)
        async with self.opened(tmp_path, channels_max=10) as store:
            assert store.channel_room == 10
            for key, _ in rows[:9]:
                await use(store, *key, 1)
            assert store.channel_room == 1
            await use(store, *rows[0][0], 2)
            assert store.channel_room == 1
            await use(store, *rows[9][0], 1)
            assert store.channel_room == 0
            await store.merge_channels(rows[5:20])
            assert (store.channel_count, store.channel_room) == (20, 0)
            try:
                await store.merge_channels(rows[19:21])
            except FS3Error as why:
                assert why.code is Code.NO_SPACE  # noqa: PT017 - the suite does not import the test runner
            else:
                raise AssertionError("there is no bound")
            assert store.channel_count == 20
            await store.merge_channels(rows[:20])
            store.advance_channel_epoch()
            await use(store, *rows[3][0], 3)
            store.advance_channel_epoch()
            await store.flush()
            assert (store.channel_count, store.channel_room) == (1, 9)

    async def test_a_merge_takes_a_limited_number(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            try:
                await store.merge_channels([channel_rows(1)[0]] * (channel_rows_per_merge_max + 1))
            except FS3Error as why:
                assert why.code is Code.INVALID  # noqa: PT017 - the suite does not import the test runner
            else:
                raise AssertionError("there is no limit")
