"""Small files over the service: one request each way, many in one, and moved to storage when somebody writes chunks."""

import pytest

from fs3.base.errors import FS3Error
from fs3.base.ids import file_chunk
from fs3.base.limits import inline_bytes_default
from fs3.base.status import Code
from fs3.model.namespace import PathRef
from fs3.model.requests import Append, AppendStep, Open, Put, Truncate

LARGEST = bytes(range(256)) * (inline_bytes_default // 256)


def put(path, data, **options):
    return Put(PathRef.of(path), data, **options)


def fetch(path):
    return Open(PathRef.of(path), want_data=True)


def methods(cluster):
    return [name for _, name in cluster.wire.calls]


async def test_one_request_each_way(cluster, meta):
    made = await meta.ask(put("f", LARGEST))
    found = await meta.ask(fetch("f"))
    assert (found.inode, found.data) == (made, LARGEST)
    assert methods(cluster) == ["Put", "Open"]


async def test_a_put_whose_answer_is_lost_happens_once(cluster, meta):
    cluster.wire.mishaps = ["lost"]
    made = await meta.ask(put("f", b"1", exclusive=True))
    assert made.change == (await meta.stat("f")).change
    assert methods(cluster) == ["Put", "Put", "Stat"]


async def test_many_go_together_and_come_together(cluster, meta):
    answers = await meta.batch([put(f"d/{index}", LARGEST, parents_mode=0o755) for index in range(100)])
    assert all(answer.inline for answer in answers)
    put_calls = len(cluster.wire.calls)
    assert put_calls <= 4, "768 KiB go into each request"
    found = await meta.batch([fetch(f"d/{index}") for index in range(100)])
    assert {answer.data for answer in found} == {LARGEST}
    assert len(cluster.wire.calls) - put_calls <= 3, "960 KiB come with each answer"


async def test_who_writes_chunks_finds_the_bytes_there(cluster, meta):
    made = await meta.ask(put("f", b"0123456789"))
    opened = await meta.open("f", write=True)
    assert (opened.inode.inline, opened.inode.length) == (False, 10)
    (write,) = cluster.chunks.written
    assert (write.chunk, write.chain) == (file_chunk(made.content_id, 0), made.layout.chains[0])
    assert bytes(write.data) == b"0123456789"
    assert (await meta.ask(fetch("f"))).data is None


async def test_a_full_storage_leaves_the_file_as_it_was(cluster, meta):
    await meta.ask(put("f", b"0123456789"))
    cluster.chunks.failures = [Code.NO_SPACE]
    with pytest.raises(FS3Error) as caught:
        await meta.open("f", write=True)
    assert caught.value.code is Code.NO_SPACE
    assert (await meta.ask(fetch("f"))).data == b"0123456789"
    assert (await meta.open("f", write=True)).session


async def test_an_append_takes_a_turn_once_the_file_is_too_large(cluster, meta):
    await meta.ask(put("f", LARGEST[:-4]))
    opened = await meta.open("f", write=True, append=True)
    where = opened.inode.content_id, opened.session
    assert (await meta.ask(Append(*where, AppendStep.INLINE, data=b"four"))).length == len(LARGEST)
    with pytest.raises(FS3Error) as caught:
        await meta.ask(Append(*where, AppendStep.INLINE, data=b"x"))
    assert caught.value.code is Code.NOT_INLINE
    taken = await meta.ask(Append(*where, AppendStep.TAKE))
    assert (taken.length, taken.append.serial, taken.inline) == (len(LARGEST), 1, False)
    assert bytes(cluster.chunks.written[0].data) == LARGEST[:-4] + b"four"


async def test_a_truncation_beyond_the_limit_has_the_bytes_moved(cluster, meta):
    made = await meta.ask(put("f", b"0123456789"))
    after = await meta.ask(Truncate(made.content_id, 1 << 20))
    assert (after.length, after.inline, after.trim) == (1 << 20, False, None)
    assert len(cluster.chunks.written) == 1


async def test_what_is_removed_while_it_moves_is_reclaimed_and_nothing_else_is(cluster, meta):
    await meta.ask(put("f", b"0123456789"))
    await meta.ask(put("g", b"1"))
    cluster.chunks.failures = [Code.NO_SPACE]
    with pytest.raises(FS3Error):
        await meta.open("f", write=True)
    await meta.remove("g")
    assert (await meta.statfs()).garbage == 0
    await meta.remove("f")
    assert (await meta.statfs()).garbage == 1
    while await cluster.service.garbage.step():
        pass
    space = await meta.statfs()
    assert (space.garbage, space.inodes) == (0, 1)
