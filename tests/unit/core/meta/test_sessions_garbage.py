"""Sessions of dead clients, the queue of garbage, and the dismantling of trees."""

import pytest

from fs3.base.ids import InodeId
from fs3.base.status import Code
from fs3.core.meta import keys
from fs3.core.meta.garbage import delete_file, dismantle, next_garbage
from fs3.core.meta.ops.close import close_file
from fs3.core.meta.ops.link import link
from fs3.core.meta.ops.mkdir import mkdir
from fs3.core.meta.ops.remove import remove
from fs3.core.meta.ops.rename import rename
from fs3.core.meta.ops.stat import stat
from fs3.core.meta.ops.statfs import statfs
from fs3.core.meta.rows import Garbage, GarbageKind
from fs3.core.meta.sessions import list_sessions, prune
from fs3.model.namespace import PathRef, RemoveKind


def queued(space, limit=1000, **options):
    return space.raw(lambda txn: next_garbage(txn, limit, **options))


def sessions(space, after=None, limit=1000):
    return space.raw(lambda txn: list_sessions(txn, after, limit))


def dismantled(space, limit):
    steps = 0
    while done := space.do(dismantle, limit):
        assert done <= limit + 1
        assert space.problems() == []
        steps += 1
    return steps


# --- sessions ---------------------------------------------------------------------------------------------------------


def test_sessions_are_listed_page_by_page(space):
    space.dir("d")
    opened = [space.open(f"f{number}", create=True) for number in range(5)] + [space.open("f1", client=space.other)]
    opened.append(space.open("d", unnamed=True))
    found, after = [], None
    while page := sessions(space, after, 2):
        found += page
        after = page[-1]
    assert sorted((row.content, row.id) for row in found) == sorted((one.inode.id, one.session) for one in opened)
    assert [row.unnamed for row in found] == [False] * 6 + [True]
    assert found[-1].parent == space.stat("d").id
    assert {row.client for row in found} == {space.client, space.other}
    assert all(space.wall >= row.opened_ns > 0 for row in found)


def test_pruning_the_session_of_a_dead_client(space):
    opened = space.open("f", create=True)
    row = sessions(space)[0]
    after = space.do(prune, row, 500)
    assert (after.length, after.nlink) == (500, 1)
    assert space.stat("f") == after
    assert sessions(space) == []
    assert space.do(prune, row, 900) is None
    assert space.stat("f").length == 500
    assert opened.inode.id == after.id


def test_pruning_never_shortens(space):
    space.file("f", length=50)
    space.open("f")
    before = space.stat("f")
    assert space.do(prune, sessions(space)[0], 10) == before
    space.open("f")
    assert space.do(prune, sessions(space)[0], None) == before


def test_pruning_gives_up_files_without_a_name(space):
    removed = space.open("f", create=True)
    space.do(remove, "f", RemoveKind.FILE)
    unnamed = space.open("", unnamed=True)
    assert queued(space) == []
    for row in sessions(space):
        space.do(prune, row, None)
    assert {inode.id for _, inode in queued(space)} == {removed.inode.id, unnamed.inode.id}


# --- files ------------------------------------------------------------------------------------------------------------


def test_the_oldest_comes_first_and_is_finished_once(space):
    made = [space.file(f"f{number}", length=number) for number in range(5)]
    for number in (3, 1, 4, 0, 2):
        space.do(remove, f"f{number}", RemoveKind.FILE)
    assert space.raw(statfs).garbage == 5
    assert [inode.length for _, inode in queued(space)] == [3, 1, 4, 0, 2]
    first, inode = queued(space, 1)[0]
    assert (first.inode, first.kind, inode.layout) == (made[3].id, GarbageKind.FILE, made[3].layout)
    assert space.raw(lambda txn: delete_file(txn, first)) is True
    assert space.raw(lambda txn: delete_file(txn, first)) is False
    space.refused(Code.STALE, stat, PathRef(first.inode), False)
    assert (space.raw(statfs).garbage, space.raw(statfs).inodes) == (4, 5)
    assert [inode.length for _, inode in queued(space)] == [1, 4, 0, 2]


def test_what_cannot_be_reclaimed_now_is_passed_over(space):
    for number in range(5):
        space.file(f"f{number}", length=number)
        space.do(remove, f"f{number}", RemoveKind.FILE)
    found = queued(space, 2)
    rest = queued(space, 2, after=found[-1][0])
    assert [inode.length for _, inode in found + rest] == [0, 1, 2, 3]


def test_garbage_may_be_left_alone_for_a_while(space):
    space.file("a")
    space.file("b")
    space.do(remove, "a", RemoveKind.FILE)
    first = space.wall
    space.do(remove, "b", RemoveKind.FILE)
    assert [row.queued_ns for row, _ in queued(space)] == [first, space.wall]
    for until, expected in [(first - 1, 0), (first, 1), (space.wall - 1, 1), (space.wall, 2), (1 << 70, 2), (-5, 0)]:
        assert len(queued(space, queued_until_ns=until)) == expected


def test_a_clock_before_the_epoch_still_queues(space):
    space.file("f")
    space.wall = -10_000
    space.do(remove, "f", RemoveKind.FILE)
    assert queued(space)[0][0].queued_ns == 0


def test_trees_are_not_finished_like_files(space):
    space.dir("t/in", parents=True)
    top = space.stat("t").id
    space.do(remove, "t", RemoveKind.TREE)
    with pytest.raises(Exception, match="is a tree"):
        space.raw(lambda txn: delete_file(txn, Garbage(top, GarbageKind.TREE, space.wall)))


# --- trees ------------------------------------------------------------------------------------------------------------


def grow(space):
    """t with files, links, subdirectories of any depth, and names that lead out of it."""
    for path in ("t/a/b/c", "t/empty", "t/wide"):
        space.dir(path, parents=True)
    for number in range(25):
        space.file(f"t/wide/{number}")
    for path in ("t/f", "t/a/f", "t/a/b/c/f", "outside", "t/a/b/g"):
        space.file(path)
    space.link("t/a/s", "/t")
    space.link("t/dangling", "nowhere")
    space.do(link, "outside", "t/a/outside")
    space.do(link, "t/a/b/g", "t/g2")


@pytest.mark.parametrize("limit", [1, 2, 5, 25, 1000])
def test_nothing_is_left_of_a_tree(space, limit):
    bare = {key for key, _ in space.rows()}
    grow(space)
    space.do(remove, "t", RemoveKind.TREE)
    assert space.tree() == {"outside"}
    assert space.problems() == []
    steps = dismantled(space, limit)
    assert steps >= 37 // limit
    assert space.stat("outside").nlink == 1
    for row, _ in queued(space):
        assert space.raw(lambda txn, row=row: delete_file(txn, row))
    left = {key for key, _ in space.rows()} - bare
    outside = space.stat("outside").id
    assert left == {keys.inode_key(outside), keys.dirent_key(InodeId(1), b"outside"), keys.client_key(space.client)}
    assert (space.raw(statfs).inodes, space.raw(statfs).garbage) == (2, 0)


def test_dismantling_nothing(space):
    assert space.do(dismantle, 10) == 0


def test_a_file_being_written_in_a_removed_tree(space):
    space.dir("t")
    opened = space.open("t/f", create=True)
    space.do(remove, "t", RemoveKind.TREE)
    dismantled(space, 10)
    assert queued(space) == []
    space.do(prune, sessions(space)[0], None)
    assert [inode.id for _, inode in queued(space)] == [opened.inode.id]


def test_what_is_created_below_a_detached_directory_goes_with_it(space):
    space.dir("t/in/deep", parents=True)
    inside = space.stat("t/in").id
    space.do(remove, "t", RemoveKind.TREE)
    late = space.open(PathRef(inside, "late"), create=True)
    space.do(close_file, late.inode.id, late.session)
    space.do(mkdir, PathRef(inside, "later/still"), parents=True)
    dismantled(space, 1)
    assert [inode.id for _, inode in queued(space)] == [late.inode.id]
    assert space.tree() == set()


def test_trees_are_dismantled_while_others_come(space):
    for name in "ab":
        space.dir(f"{name}/x/y", parents=True)
        space.file(f"{name}/x/f")
    space.dir("a/moving")
    space.do(remove, "a", RemoveKind.TREE)
    space.do(dismantle, 1)
    space.do(remove, "b", RemoveKind.TREE)
    space.dir("a/x", parents=True)
    space.do(rename, "a", "c")
    assert dismantled(space, 2) > 3
    assert space.tree() == {"c/", "c/x/"}
