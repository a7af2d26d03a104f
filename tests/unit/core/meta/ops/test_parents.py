"""Missing directories above a name are made by the operation that needs them, or not at all."""

import pytest

from fs3.base.status import Code
from fs3.core.meta.ops.close import close_file
from fs3.core.meta.ops.open import open_file
from fs3.core.meta.ops.rename import rename
from fs3.model.namespace import RenameMode


@pytest.fixture
def some(space):
    space.file("f")
    space.dir("d")
    space.link("dangling", "nowhere/x")
    space.link("to-d", "d")
    return space


@pytest.mark.parametrize("options", [{}, {"append": True}, {"truncate": True}, {"exclusive": True}])
def test_creating_a_file(some, options):
    how = {"write": True, "create": True, **options}
    some.refused(Code.NOT_FOUND, open_file, "to-d/a/b", **how)
    made = some.do(open_file, "to-d/a/b/x", parents_mode=0o711, **how)
    some.do(close_file, made.inode.id, made.session)
    assert {"d/a/", "d/a/b/", "d/a/b/x"} <= some.tree()
    assert some.stat("d/a").mode & 0o711 == some.stat("d/a/b").mode == 0o711
    for path, code in (("f/x/y", Code.NOT_A_DIRECTORY), ("new/x/", Code.IS_A_DIRECTORY), ("dangling/x", Code.NOT_FOUND)):
        some.refused(code, open_file, path, parents_mode=0o755, **how)
    assert some.problems() == []


def test_opening_creates_no_directories(some):
    some.refused(Code.NOT_FOUND, open_file, "new/x", write=True, parents_mode=0o755)
    some.refused(Code.NOT_FOUND, open_file, "dangling", write=True, create=True, parents_mode=0o755)


def test_an_unnamed_file_of_a_directory_that_is_missing(some):
    how = {"write": True, "create": True, "unnamed": True}
    some.refused(Code.NOT_FOUND, open_file, "a/b", **how)
    some.refused(Code.NOT_A_DIRECTORY, open_file, "f", parents_mode=0o755, **how)
    made = some.do(open_file, "a/b", parents_mode=0o755, **how)
    assert {"a/", "a/b/"} <= some.tree()
    some.do(close_file, made.inode.id, made.session, publish="c/x", parents_mode=0o755)
    assert some.stat("c/x").id == made.inode.id
    assert some.problems() == []


def test_renaming(some):
    some.refused(Code.NOT_FOUND, rename, "f", "a/b/g")
    moved = some.do(rename, "f", "a/b/g", parents_mode=0o755)
    assert some.stat("a/b/g") == moved
    # The directory of the source is the one that gets the new one.
    some.do(rename, "a/b/g", "a/c/g", parents_mode=0o755)
    some.do(rename, "a/c", "a/d/e/c", parents_mode=0o755)
    assert some.tree() == {"a/", "a/b/", "a/d/", "a/d/e/", "a/d/e/c/", "a/d/e/c/g", "d/", "dangling", "to-d"}
    assert some.problems() == []


def test_a_rename_that_is_refused_leaves_no_directories(some):
    for source, target, mode, code in (
        ("missing", "new/x", RenameMode.REPLACE, Code.NOT_FOUND),
        ("d", "d/new/x", RenameMode.REPLACE, Code.WOULD_LOOP),
        ("f", "f/new/x", RenameMode.REPLACE, Code.NOT_A_DIRECTORY),
        ("f", "new/x/", RenameMode.REPLACE, Code.NOT_A_DIRECTORY),
        ("f", "new/x", RenameMode.EXCHANGE, Code.NOT_FOUND),
    ):
        some.refused(code, rename, source, target, mode=mode, parents_mode=0o755)


def test_permission_is_needed_for_the_first_directory_that_is_made(some):
    some.refused(Code.ACCESS, open_file, "d/a/x", write=True, create=True, parents_mode=0o755, user=some.eve)
    some.refused(Code.ACCESS, rename, "f", "d/a/x", parents_mode=0o755, user=some.eve)
