from __future__ import annotations

from fs3.base.ids import TargetId
from fs3.base.status import Code
from fs3.model.chunk import ChannelRow, UpdateKind, UpdateResult
from fs3.sim.checkers import convergence, durability, once
from fs3.sim.ring1.chunks import SimChunks, newest_lost
from fs3.sim.ring1.one_replica import chain, chunk, remove, tag, write

OK = UpdateResult(Code.OK, 1)


# --- the store -------------------------------------------------------------------------------------------------------


def stored(*seqs: int) -> SimChunks:
    """A store with these writes of one chunk staged and committed, none of them covered by a barrier."""
    chunks = SimChunks()
    for version, seq in enumerate(seqs, 1):
        chunks.stage(write(seq, data=b"%d" % seq, version=version))
        chunks.commit(chunk(0), version, tag(seq), UpdateResult(Code.OK, version))
    return chunks


def test_a_crash_shows_lost_commits_as_pending_with_everything_they_had() -> None:
    chunks = stored(1, 2)
    assert chunks.unsynced_chunks == (chunk(0),)
    chunks.crash(newest_lost(chunks, 1))
    meta = chunks.get(chunk(0))
    assert meta is not None
    assert (meta.committed, meta.pending, meta.pending_tag) == (1, 2, tag(2))
    assert chunks.get_channel(tag(1).client, 0).seq == 1  # type: ignore[union-attr]
    assert chunks.get_content(chunk(0)) == b"1"
    assert chunks.get_pending_content(chunk(0), 2) == b"2"
    assert chunks.has_update(tag(2))
    chunks.commit(chunk(0), 2, tag(2), OK)
    assert chunks.get_content(chunk(0)) == b"2"
    assert chunks.applications[tag(2)] == 1


def test_a_barrier_covers_what_was_committed_before_it_began() -> None:
    chunks = stored(1)
    mark = chunks.begin_barrier()
    chunks.stage(write(2, 1, version=1))
    chunks.commit(chunk(1), 1, tag(2), OK)
    chunks.end_barrier(mark)
    assert chunks.unsynced_chunks == (chunk(1),)


def test_a_lost_removal_brings_the_chunk_back() -> None:
    chunks = stored(1)
    chunks.stage(remove(2, version=2))
    chunks.commit(chunk(0), 2, tag(2), OK)
    assert chunks.get(chunk(0)) is None
    chunks.crash(newest_lost(chunks, 1))
    meta = chunks.get(chunk(0))
    assert meta is not None
    assert (meta.committed, meta.pending, meta.pending_kind) == (1, 2, UpdateKind.REMOVE)


def test_a_merged_row_survives_a_lost_commit() -> None:
    chunks = stored(5)
    chunks.merge_channels([((tag(1).client, 0), ChannelRow(4, chunk(0), OK)), ((tag(1).client, 1), ChannelRow(9, chunk(0), OK))])
    assert chunks.get_channel(tag(1).client, 0).seq == 5  # type: ignore[union-attr]
    chunks.crash(newest_lost(chunks, 1))
    assert chunks.get_channel(tag(1).client, 0).seq == 4  # type: ignore[union-attr]
    assert chunks.get_channel(tag(1).client, 1).seq == 9  # type: ignore[union-attr]


def test_a_full_disk_refuses_what_takes_room() -> None:
    chunks = stored(1)
    chunks.is_full = True
    assert chunks.stage(write(2, version=2))[0] is Code.NO_SPACE
    assert chunks.get(chunk(0)).pending == 0  # type: ignore[union-attr]
    assert chunks.stage(remove(2, version=2))[0] is Code.OK


def test_a_changed_byte_is_noticed_and_repaired_with_the_very_version_only() -> None:
    chunks = stored(1)
    assert chunks.verify(chunk(0))
    chunks.rot(chunk(0))
    assert not chunks.verify(chunk(0))
    assert chunk(0) in chunks.bad_chunks
    assert chunks.stage(write(2, version=2, offset=1))[0] is Code.CHECKSUM
    assert not chunks.repair(chunk(0), 2, b"1")
    assert not chunks.repair(chunk(0), 1, b"2")
    assert chunks.repair(chunk(0), 1, b"1")
    assert not chunks.bad_chunks


def test_dropping_what_is_pending() -> None:
    chunks = stored(1)
    chunks.stage(write(2, version=2))
    chunks.drop_pending(chunk(0))
    assert chunks.get(chunk(0)).pending == 0  # type: ignore[union-attr]
    chunks.stage(write(3, 1, version=1))
    chunks.drop_pending(chunk(1))
    assert chunks.get(chunk(1)) is None


def test_a_corrupt_stage_has_another_checksum() -> None:
    right, wrong = SimChunks(), SimChunks()
    wrong.corrupt_next = True
    assert right.stage(write(1, version=1)) != wrong.stage(write(1, version=1))


# --- checkers --------------------------------------------------------------------------------------------------------


def test_once_counts_what_survives() -> None:
    chunks = stored(1, 2)
    chunks.crash(newest_lost(chunks, 2))
    chunks.commit(chunk(0), 2, tag(2), OK)
    assert once.explain([(1, chunks)]) == ""
    assert "update 1 of client 0001/0 2 times" in once.explain([(1, stored(1, 1))])


def test_durability_wants_every_serving_target() -> None:
    stores = {TargetId(1): stored(1), TargetId(2): SimChunks()}
    assert durability.explain(tag(1), chain(1, 1), stores) == ""
    assert "without target 2" in durability.explain(tag(1), chain(1, 1, 2), stores)
    assert durability.explain(tag(1), chain(1, 1, syncing=(2,)), stores) == ""
    assert durability.explain(tag(1), chain(1, 1, 2), {TargetId(1): stored(1)}) == ""
    stores[TargetId(2)].stage(write(1, version=1))
    assert durability.explain(tag(1), chain(1, 1, 2), stores) == ""
    assert "target 2 lost update 1" in durability.explain_end([tag(1)], chain(1, 1, 2), stores)


def test_convergence_wants_the_same_bytes_versions_and_rows() -> None:
    one, two = TargetId(1), TargetId(2)
    both = chain(1, 1, 2)
    assert convergence.explain(both, {one: stored(1), two: stored(1)}) == ""
    wrong = convergence.explain(both, {one: stored(1), two: stored(2)})
    assert "target 1 has version 1, 1 bytes b'1', target 2 has version 1, 1 bytes b'2'" in wrong
    assert "target 2 serves and has no store" in convergence.explain(both, {one: stored(1)})
    assert "has nothing" in convergence.explain(both, {one: stored(1), two: SimChunks()})
    other_row = stored(1)
    other_row.rows.clear()
    assert "different channel rows" in convergence.explain(both, {one: stored(1), two: other_row})
    pending = stored(1)
    pending.stage(write(2, version=2))
    assert "still has" in convergence.explain(both, {one: stored(1), two: pending})
