"""Reading the namespace: stat, batches of stats, listings, counts."""

import pytest

from fs3.base.ids import InodeId
from fs3.base.limits import batch_items_max, list_entries_max, name_bytes_max
from fs3.base.status import Code
from fs3.core.meta.errors import MetaError
from fs3.core.meta.ops.list import list_directory
from fs3.core.meta.ops.lookup import lookup
from fs3.core.meta.ops.remove import remove
from fs3.core.meta.ops.stat import batch_stat, stat, stat_paths
from fs3.core.meta.ops.statfs import statfs
from fs3.model.inode import Dirent, InodeType
from fs3.model.namespace import PathRef, RemoveKind


def stats(space, paths, parent=0, follow=True, user=None):
    ctx = space.context(user)
    return space.kv.read_now(lambda txn: stat_paths(txn, ctx, parent, paths, follow))


def outcome(answer):
    return answer.code if isinstance(answer, MetaError) else answer


def test_stat_of_each_type(space):
    space.dir("d", 0o750, user=space.alice)
    space.file("d/f", 0o640, user=space.alice, length=12)
    space.link("d/s", "some/där")
    directory, file, link = space.stat("d"), space.stat("d/f"), space.stat("d/s")
    assert (directory.type, directory.mode, directory.nlink, directory.length) == (InodeType.DIRECTORY, 0o750, 2, 2)
    assert (file.type, file.mode, file.nlink, file.length, file.uid, file.gid) == (InodeType.FILE, 0o640, 1, 12, 1000, 1000)
    assert (link.type, link.mode, link.target, link.length) == (InodeType.SYMLINK, 0o777, "some/där", 9)
    assert (directory.parent, file.parent, link.parent) == (1, 0, 0)


def test_times_and_change_of_what_is_new(space):
    file = space.open("f", create=True).inode
    assert file.atime_ns == file.mtime_ns == file.ctime_ns == file.birth_ns == space.wall
    assert file.change == 1
    root = space.stat("")
    assert (root.mtime_ns, root.ctime_ns, root.length) == (space.wall, space.wall, 1)


def test_lookup(space):
    made = space.dir("d")
    assert space.do(lookup, "d") == Dirent(made.id, InodeType.DIRECTORY)
    assert space.do(lookup, "/") == space.do(lookup, "d/..") == Dirent(InodeId(1), InodeType.DIRECTORY)
    assert space.do(lookup, PathRef(space.file("d/f").id)).type is InodeType.FILE
    space.refused(Code.NOT_FOUND, lookup, "x")


def test_batch_stat_answers_what_stat_answers(space):
    space.dir("a/b", parents=True)
    space.dir("shut", 0o700, user=space.bob)
    space.file("shut/f", user=space.bob)
    space.file("a/f")
    space.file("a/b/g")
    space.link("a/l", "b/g")
    space.link("a/to-b", "b")
    space.link("a/nowhere", "missing")
    paths = [
        "",
        "/",
        "a",
        "a/",
        "a/f",
        "/a/f",
        "a//f",
        "a/./f",
        "a/f/",
        "a/f/x",
        "a/f/x/y",
        "a/b",
        "a/b/",
        "a/b/g",
        "a/b/..",
        "a/b/.",
        "a/l",
        "a/to-b/g",
        "a/to-b/missing",
        "a/to-b",
        "a/nowhere",
        "a/nowhere/x",
        "missing/x",
        "missing/y",
        "missing",
        "..",
        ".",
        "a\0",
        "a/\0",
        "a/" + "n" * (name_bytes_max + 1),
        "\udc80",
        "shut",
        "shut/f",
        "shut/missing",
        "a/f",
    ]
    for user in (space.root, space.alice, space.bob):
        for follow in (False, True):
            for parent in (InodeId(0), space.stat("a").id, space.stat("a/f").id, InodeId(999)):
                one_by_one = []
                for path in paths:
                    try:
                        one_by_one.append(space.do(stat, PathRef(parent, path), follow, user=user))
                    except MetaError as error:
                        one_by_one.append(error.code)
                together = stats(space, paths, parent, follow, user)
                assert [outcome(answer) for answer in together] == one_by_one
                assert space.do(batch_stat, parent, paths, follow, user=user) == one_by_one
                for path, answer in zip(paths, together, strict=True):
                    assert not isinstance(answer, MetaError) or answer.path == path


def test_batch_stat_reads_a_directory_once(space):
    space.dir("a/b/c", parents=True)
    for number in range(50):
        space.file(f"a/b/c/{number}")
    ctx, reads = space.context(), []

    class Counting:
        def __init__(self, txn):
            self.txn = txn

        async def get(self, key):
            reads.append(key)
            return await self.txn.get(key)

    space.kv.read_now(lambda txn: stat_paths(Counting(txn), ctx, InodeId(0), [f"a/b/c/{n}" for n in range(50)], True))
    assert len(reads) <= 2 * 50 + 10


def test_batch_stat_is_limited(space):
    assert len(stats(space, ["x"] * batch_items_max)) == batch_items_max
    with pytest.raises(MetaError) as caught:
        stats(space, ["x"] * (batch_items_max + 1))
    assert caught.value.code is Code.TOO_LARGE


# --- listing ----------------------------------------------------------------------------------------------------------


def pages(space, path, limit, with_inodes=False):
    after, found = "", []
    while True:
        page = space.do(list_directory, path, after=after, limit=limit, with_inodes=with_inodes)
        assert len(page.entries) <= limit
        found += page.entries
        if not page.more:
            return found
        assert len(page.entries) == limit
        after = page.entries[-1].name


def test_pages_are_in_the_order_of_bytes_and_complete(space):
    names = ["a", "a b", "a\x01", "aa", "b", "Z", "ä", "文", "😀", "￿", "~", "a" * 255, "-", "0", "a/b"[:1] + "!"]
    space.dir("d")
    for name in names:
        space.file(f"d/{name}")
    space.dir("e")
    space.file("e/not here")
    expected = sorted(names, key=str.encode)
    for limit in (1, 2, 3, len(names) - 1, len(names), len(names) + 1):
        assert [entry.name for entry in pages(space, "d", limit)] == expected
    assert space.names("d") == expected
    assert space.names("d/") == expected


def test_entries_with_and_without_inodes(space):
    space.dir("d")
    made = {"f": space.file("d/f", length=5), "s": space.link("d/s", "f"), "z": space.dir("d/z")}
    for entry in pages(space, "d", 2, with_inodes=True):
        assert entry.inode == made[entry.name]
        assert (entry.inode_id, entry.type) == (entry.inode.id, entry.inode.type)
    for entry in pages(space, "d", 2):
        assert entry.inode is None
        assert (entry.inode_id, entry.type) == (made[entry.name].id, made[entry.name].type)


def test_a_cursor_need_not_exist(space):
    space.dir("d")
    for name in "bdf":
        space.file(f"d/{name}")
    for after, expected in [("", "bdf"), ("a", "bdf"), ("b", "df"), ("c", "df"), ("f", ""), ("zzz", ""), ("b\x01", "df")]:
        page = space.do(list_directory, "d", after=after)
        assert "".join(entry.name for entry in page.entries) == expected
    space.refused(Code.NAME_TOO_LONG, list_directory, "d", after="x" * 256)
    space.refused(Code.INVALID, list_directory, "d", after="x\0")
    space.refused(Code.INVALID, list_directory, "d", after="\ud800")


def test_a_page_has_a_limit_of_its_own(space):
    space.dir("d")
    for number in range(list_entries_max + 2):
        space.file(f"d/{number:05}")
    for limit in (0, list_entries_max, list_entries_max + 1, 1 << 31):
        page = space.do(list_directory, "d", limit=limit)
        assert (len(page.entries), page.more) == (list_entries_max, True)


def test_what_is_listed(space):
    space.dir("d")
    space.file("d/f")
    space.link("to-d", "d")
    assert space.names("to-d") == ["f"]
    assert space.names(PathRef(space.stat("d").id)) == ["f"]
    space.refused(Code.NOT_A_DIRECTORY, list_directory, "d/f")
    space.refused(Code.NOT_A_DIRECTORY, list_directory, PathRef(space.stat("d/f").id))
    space.refused(Code.NOT_FOUND, list_directory, "x")


def test_listing_needs_read_and_with_inodes_search(space):
    for mode, plain, full in [(0o700, False, False), (0o744, True, False), (0o755, True, True), (0o711, False, False)]:
        name = f"d{mode:o}"
        space.dir(name, mode)
        space.file(f"{name}/f")
        for allowed, with_inodes in [(plain, False), (full, True)]:
            if allowed:
                assert space.do(list_directory, name, with_inodes=with_inodes, user=space.eve).entries
            else:
                space.refused(Code.ACCESS, list_directory, name, with_inodes=with_inodes, user=space.eve)


def test_counts(space):
    assert (space.raw(statfs).inodes, space.raw(statfs).garbage) == (1, 0)
    space.dir("d")
    space.file("d/f")
    space.link("d/s", "f")
    assert (space.raw(statfs).inodes, space.raw(statfs).garbage) == (4, 0)
    space.do(remove, "d/s", RemoveKind.FILE)
    space.do(remove, "d/f", RemoveKind.FILE)
    assert (space.raw(statfs).inodes, space.raw(statfs).garbage) == (3, 1)
    space.do(remove, "d", RemoveKind.DIRECTORY)
    assert (space.raw(statfs).inodes, space.raw(statfs).garbage) == (2, 1)
