"""Names that are not UTF-8, in every operation that has to do with names."""

import pytest

from fs3.base.ids import InodeId
from fs3.base.limits import name_bytes_max
from fs3.base.status import Code
from fs3.core.meta.context import OpContext
from fs3.core.meta.errors import MetaError
from fs3.core.meta.idempotency import record_refusal
from fs3.core.meta.ops.close import close_file
from fs3.core.meta.ops.link import link
from fs3.core.meta.ops.list import list_directory
from fs3.core.meta.ops.lookup import lookup
from fs3.core.meta.ops.mkdir import mkdir
from fs3.core.meta.ops.put import put_file
from fs3.core.meta.ops.remove import remove
from fs3.core.meta.ops.rename import rename
from fs3.core.meta.ops.stat import batch_stat
from fs3.core.meta.resolve import path_bytes_max
from fs3.model.inode import InodeType
from fs3.model.namespace import PathRef, RemoveKind

RAW = "caf\udce9"
OTHER = "\udcff\udcfe"


def test_they_are_made_found_moved_and_removed(space):
    space.dir(f"{RAW}/{OTHER}", parents=True)
    made = space.file(f"{RAW}/f")
    assert space.see(lookup, f"{RAW}/{OTHER}/../f").inode == made.id
    assert space.do(rename, f"{RAW}/f", OTHER).id == made.id
    assert space.do(link, OTHER, f"{RAW}/g").nlink == 2
    assert space.tree() == {f"{RAW}/", f"{RAW}/{OTHER}/", f"{RAW}/g", OTHER}
    space.do(remove, OTHER)
    space.do(remove, RAW, RemoveKind.TREE)
    assert space.names() == []


def test_small_and_unnamed_files_have_such_names(space):
    space.do(put_file, f"{RAW}/{OTHER}", b"1", parents_mode=0o755)
    assert space.content(f"{RAW}/{OTHER}") == b"1"
    opened = space.open(RAW, unnamed=True)
    space.do(close_file, opened.inode.id, opened.session, publish=f"{RAW}/f")
    assert space.names(RAW) == ["f", OTHER]


@pytest.mark.parametrize("target", [OTHER, f"/{RAW}/{OTHER}", "d/" + "\udc80" * 100])
def test_symlinks_say_them(space, target):
    space.do(mkdir, target, parents=True)
    made = space.link("s", target)
    assert (made.type, made.link_target, made.target) == (InodeType.SYMLINK, target, "")
    assert made.length == len(target), "each of these characters is a byte"
    assert space.stat("s", follow=True) == space.stat(target)
    space.file("s/in")
    assert space.stat(f"{target}/in")


def test_listings_are_in_the_order_of_bytes_and_cursors_are_bytes(space):
    names = ["a", "z", "\udc80", "é", "\ud7ff", "\ue000", "\uffdc", "\U0001f600", "\udcff", "é\udcff", "\udcc3x"]
    for name in names:
        space.file(name)
    ordered = sorted(names, key=lambda name: name.encode("utf-8", "surrogateescape"))
    assert space.names() == ordered
    paged, after = [], ""
    while page := space.see(list_directory, "", after=after, limit=2).entries:
        paged += [entry.name for entry in page]
        after = page[-1].name
    assert paged == ordered


def test_many_are_asked_for_at_once(space):
    made = space.file(RAW)
    answers = space.see(batch_stat, InodeId(0), [RAW, OTHER, "x"], follow=True)
    assert answers == [made, Code.NOT_FOUND, Code.NOT_FOUND]


def test_lengths_are_counted_in_bytes(space):
    space.dir("\udcff" * name_bytes_max)
    space.refused(Code.NAME_TOO_LONG, mkdir, "\udcff" * (name_bytes_max + 1))
    space.refused(Code.NAME_TOO_LONG, list_directory, "", after="\udcff" * (name_bytes_max + 1))
    half = "\udcff" * 127 + "/"
    space.refused(Code.NOT_FOUND, mkdir, half * (path_bytes_max // len(half)))
    space.refused(Code.NAME_TOO_LONG, mkdir, half * (path_bytes_max // len(half) + 1))


def test_a_client_that_does_not_know_them_is_told_so(space):
    space.file("a")
    assert [entry.name for entry in space.see(list_directory, "", raw_names=False).entries] == ["a"]
    space.file(RAW)
    with pytest.raises(MetaError, match="too old") as caught:
        space.see(list_directory, "", raw_names=False)
    assert caught.value.code is Code.UNSUPPORTED
    page = space.see(list_directory, "", raw_names=False, limit=1)
    assert ([entry.name for entry in page.entries], page.more) == (["a"], True)


def test_a_refusal_about_one_is_remembered(space):
    ctx = space.context(seq=9)
    assert isinstance(ctx, OpContext)
    why = MetaError(Code.NOT_FOUND, "no such file or directory", RAW)
    assert space.raw(lambda txn: record_refusal(txn, ctx, why))
    space.file(RAW)
    assert space.refused(Code.NOT_FOUND, remove, RAW, seq=9).path == r"caf\xe9"


def test_an_answer_with_one_is_repeated(space):
    made = space.do(put_file, PathRef(path=RAW), b"x", seq=3)
    assert space.do(put_file, PathRef(path=RAW), b"x", seq=3) == made
