"""Several metadata services on one engine draw ids from, and count in, rows of their own."""

from __future__ import annotations

import pytest

from fs3.base.ids import NodeId
from fs3.core.meta import keys, restore, rows
from fs3.core.meta.allocation import allocate_ids, ids_per_block
from fs3.core.meta.context import NO_TALLY
from fs3.core.meta.ops.close import close_file
from fs3.core.meta.ops.remove import remove
from fs3.core.meta.ops.statfs import statfs
from fs3.model.namespace import RemoveKind

FIRST, SECOND = NodeId(3), NodeId(4)


def written(space, act):
    """Keys whose rows are others afterwards."""
    before = dict(space.rows())
    act()
    after = dict(space.rows())
    return {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}


def test_two_services_that_create_in_two_directories_write_no_row_in_common(space):
    for service, name in ((FIRST, "a"), (SECOND, "b")):
        space.tally = service
        space.dir(name)  # the first one takes a block of ids
    space.tally = FIRST
    of_first = written(space, lambda: space.open("a/x", create=True))
    space.tally = SECOND
    of_second = written(space, lambda: space.open("b/x", create=True))
    assert of_first & of_second == set()
    assert keys.tally_key(FIRST) in of_first
    assert keys.COUNTERS not in of_first | of_second


def test_ids_are_never_the_same(space):
    drawn = []
    for turn in range(200):
        space.tally = (NO_TALLY, FIRST, SECOND)[turn % 3]
        count = 1 + turn % 5
        first = space.raw(lambda txn, count=count: allocate_ids(txn, space.context(), inodes=0, others=count))
        drawn += range(first, first + count)
    assert len(drawn) == len(set(drawn))


def test_a_block_that_is_used_up_is_followed_by_another_one(space):
    space.tally = FIRST
    first = space.raw(lambda txn: allocate_ids(txn, space.context(), inodes=0, others=ids_per_block - 1))
    other = space.raw(lambda txn: allocate_ids(txn, space.context(), inodes=0, others=2))
    assert other >= first + ids_per_block, "two that fit no more are not cut in two"
    large = space.raw(lambda txn: allocate_ids(txn, space.context(), inodes=0, others=3 * ids_per_block))
    assert space.raw(restore.next_id) >= large + 3 * ids_per_block


def test_an_operation_that_fails_takes_no_block(space):
    space.tally = FIRST

    async def op(txn):
        await allocate_ids(txn, space.context(), inodes=1)
        raise ZeroDivisionError

    before = space.rows()
    with pytest.raises(ZeroDivisionError):
        space.raw(op)
    assert space.rows() == before


def test_what_one_service_creates_and_another_one_removes_is_counted(space):
    space.tally = FIRST
    opened = space.open("f", create=True)
    space.dir("d")
    assert space.raw(statfs).inodes == 3
    space.tally = SECOND
    space.do(close_file, opened.inode.id, opened.session, length=10)
    space.do(remove, "f")
    space.do(remove, "d", RemoveKind.DIRECTORY)
    counted = space.raw(statfs)
    assert (counted.inodes, counted.garbage) == (2, 1)
    assert space.raw(lambda txn: rows.get_tally(txn, SECOND)).inodes == -1


def test_a_restored_namespace_has_no_block_that_was_taken_before(space):
    space.tally = FIRST
    space.file("f")
    before = space.raw(statfs)
    first = space.raw(lambda txn: restore.raise_next_id(txn, space.wall, 0))
    assert space.raw(statfs) == before
    assert space.raw(rows.find_tallies) == []
    assert space.file("g").id >= first


def test_the_row_of_a_tally_says_whose_it_is():
    assert keys.describe(keys.tally_key(NodeId(12))) == "the row of the tally of metadata service 12"
