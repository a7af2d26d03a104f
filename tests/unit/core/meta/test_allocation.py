"""Ids are drawn once and never again; files spread evenly over the chains of their table."""

from collections import Counter

import pytest

from fs3.base.ids import ChainId, InodeId, TableId
from fs3.base.limits import chunk_bytes_max, chunk_bytes_min, stripe_max
from fs3.base.status import Code
from fs3.core.meta.allocation import adjust_counts, allocate_ids, choose_chains
from fs3.core.meta.context import LayoutDefaults
from fs3.core.meta.ops.mkdir import mkdir
from fs3.core.meta.ops.open import open_file
from fs3.core.meta.ops.statfs import statfs
from fs3.model.inode import Layout

CHAINS = tuple(ChainId(number) for number in range(1, 25))


def test_ids_are_fresh_and_counted(space):
    ctx = space.context()
    first = space.raw(lambda txn: allocate_ids(txn, ctx, inodes=2, others=3))
    assert space.raw(lambda txn: allocate_ids(txn, ctx, inodes=0, others=1)) == first + 5
    assert space.raw(statfs).inodes == 3
    space.raw(lambda txn: adjust_counts(txn, inodes=-2))


def test_ids_of_a_create_that_failed_are_drawn_again(space):
    before = space.file("a").id
    space.refused(Code.NO_TABLE, open_file, "b", write=True, create=True, layout=Layout(TableId(3), 0, 0))
    assert space.file("c").id == before + 2


@pytest.mark.parametrize("stripe", [1, 2, 5, 8, 24])
def test_every_chain_is_used_equally_over_a_whole_turn(stripe):
    used = Counter()
    for serial in range(24):
        chosen = choose_chains(CHAINS, InodeId(77), serial, stripe)
        assert len(chosen) == len(set(chosen)) == stripe
        used.update(chosen)
    assert set(used.values()) == {stripe}


def test_directories_differ():
    firsts = {choose_chains(CHAINS, InodeId(directory), 0, 4) for directory in range(1, 101)}
    assert len(firsts) > 80
    used = Counter(chain for directory in range(1, 2001) for chain in choose_chains(CHAINS, InodeId(directory), 0, 1))
    assert len(used) == len(CHAINS)
    assert max(used.values()) < 2 * min(used.values())


def test_the_choice_is_a_function_of_its_arguments_for_ever():
    table = tuple(ChainId(number) for number in range(1, 11))
    assert [choose_chains(table, InodeId(2), serial, 3) for serial in range(4)] == [(9, 5, 2), (8, 4, 10), (6, 1, 3), (7, 9, 5)]
    assert choose_chains((ChainId(9),), InodeId(2), 5, 1) == (9,)


def test_what_a_file_gets(space):
    def layout_of(path, **options):
        return space.open(path, create=True, **options).inode.layout

    space.dir("d")
    plain = layout_of("d/plain")
    assert (plain.table, plain.chunk_size, plain.stripe, len(plain.chains)) == (1, 1 << 20, 4, 4)
    assert set(plain.chains) <= set(space.routing.tables[TableId(1)].chains)
    assert not set(plain.chains) & set(layout_of("d/next").chains)
    asked = layout_of("d/asked", layout=Layout(TableId(2), 1 << 16, 8))
    assert (asked.table, asked.chunk_size, asked.stripe, set(asked.chains)) == (2, 1 << 16, 2, {7, 8})
    space.dir("d/own", layout=Layout(TableId(2), 1 << 17, 0))
    inherited = layout_of("d/own/f")
    assert (inherited.table, inherited.chunk_size, inherited.stripe) == (2, 1 << 17, 2)
    mixed = layout_of("d/own/g", layout=Layout(TableId(0), 0, 1))
    assert (mixed.table, mixed.chunk_size, mixed.stripe) == (2, 1 << 17, 1)


@pytest.mark.parametrize(
    ("layout", "code"),
    [
        (Layout(TableId(9), 0, 0), Code.NO_TABLE),
        (Layout(TableId(0), chunk_bytes_min - 1, 0), Code.INVALID),
        (Layout(TableId(0), chunk_bytes_min // 2, 0), Code.INVALID),
        (Layout(TableId(0), chunk_bytes_max * 2, 0), Code.INVALID),
        (Layout(TableId(0), 3 * chunk_bytes_min, 0), Code.INVALID),
        (Layout(TableId(0), -chunk_bytes_min, 0), Code.INVALID),
        (Layout(TableId(0), 0, -1), Code.INVALID),
        (Layout(TableId(0), 0, stripe_max + 1), Code.INVALID),
        (Layout(TableId(0), 0, 0, (ChainId(101),)), Code.INVALID),
    ],
)
def test_layouts_that_cannot_be_asked_for(space, layout, code):
    space.refused(code, open_file, "f", write=True, create=True, layout=layout)
    space.refused(code, open_file, "", unnamed=True, layout=layout)
    space.refused(code, mkdir, "d", layout=layout)


def test_no_table_at_all(space):
    space.defaults = LayoutDefaults()
    assert "neither" in space.refused(Code.NO_TABLE, open_file, "f", write=True, create=True).message
    space.dir("d", layout=Layout(TableId(1), 0, 0))
    space.file("d/f")


@pytest.mark.parametrize("options", [{"chunk_size": 0}, {"chunk_size": 3 << 16}, {"stripe": 0}, {"stripe": stripe_max + 1}])
def test_defaults_are_checked_where_they_are_made(options):
    with pytest.raises(ValueError, match="default"):
        LayoutDefaults(TableId(1), **options)
