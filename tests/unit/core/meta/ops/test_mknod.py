"""Mknod: special files and empty regular ones."""

import pytest
from msgspec.structs import replace

from fs3.base.ids import InodeId
from fs3.base.status import Code
from fs3.core.meta import keys, rows
from fs3.core.meta.context import LayoutDefaults
from fs3.core.meta.ops.close import close_file
from fs3.core.meta.ops.link import link
from fs3.core.meta.ops.mknod import mknod, rdev_max
from fs3.core.meta.ops.open import open_file
from fs3.core.meta.ops.put import put_file
from fs3.core.meta.ops.remove import remove
from fs3.core.meta.ops.rename import rename
from fs3.core.meta.ops.setattr import set_attributes
from fs3.core.meta.ops.truncate import truncate
from fs3.model.inode import DEVICES, SPECIAL_FILES, InodeType
from fs3.model.namespace import PathRef, RemoveKind, RenameMode

KINDS = sorted(SPECIAL_FILES)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def special(space, request):
    space.dir("d")
    kind = request.param
    made = space.do(mknod, "d/s", kind, mode=0o640, rdev=0x801 if kind in DEVICES else 0)
    return space, made


def test_what_is_made_has_type_attributes_and_number(special):
    space, made = special
    assert space.stat("d/s") == made
    assert made.rdev == (0x801 if made.type in DEVICES else 0)
    assert (made.mode, made.uid, made.nlink, made.length, made.inline) == (0o640, 0, 1, 0, False)
    assert space.stat("d").length == 1


def test_all_but_its_bytes_is_as_with_files(special):
    space, made = special
    assert space.do(set_attributes, "d/s", mode=0o600, uid=1000, gid=50).mode == 0o600
    assert space.do(link, "d/s", "other").nlink == 2
    assert space.do(rename, "d/s", "moved").id == made.id
    space.file("f")
    space.do(rename, "f", "moved", RenameMode.EXCHANGE)
    assert space.stat("f").type is made.type
    space.do(rename, "moved", "other")
    assert space.stat("other").type is InodeType.FILE, "a file takes its place"
    assert space.do(remove, "f") == made.id
    assert not space.keys_of(keys.GARBAGE), "there is nothing to reclaim"
    space.refused(Code.STALE, set_attributes, PathRef(made.id), mode=0)


def test_a_tree_with_one_in_it_is_dismantled(special):
    space, _ = special
    space.do(remove, "d", RemoveKind.TREE)


@pytest.mark.parametrize("options", [{}, {"write": True}, {"write": True, "truncate": True, "create": True}, {"want_data": True}])
def test_opening_one_is_refused_in_words(special, options):
    space, made = special
    why = space.refused(Code.UNSUPPORTED, open_file, "d/s", **options)
    assert made.type.name.lower().replace("_", " ") in why.message
    assert why.path == "d/s"


def test_nothing_takes_its_place_by_being_written(special):
    space, made = special
    space.refused(Code.UNSUPPORTED, put_file, "d/s", b"x")
    space.refused(Code.UNSUPPORTED, put_file, PathRef(made.id), b"x")
    space.refused(Code.INVALID, truncate, made.id, 0)
    unnamed = space.open("d", unnamed=True)
    space.refused(Code.UNSUPPORTED, close_file, unnamed.inode.id, unnamed.session, publish="d/s")
    space.do(close_file, unnamed.inode.id, unnamed.session)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("d", Code.EXISTS),
        ("to-f", Code.EXISTS),
        ("dangling", Code.EXISTS),
        ("", Code.EXISTS),
        ("new/", Code.NOT_FOUND),
        ("new/x", Code.NOT_FOUND),
        ("to-f/x", Code.NOT_A_DIRECTORY),
        ("n" * 256, Code.NAME_TOO_LONG),
    ],
)
def test_where_one_can_be(space, path, code):
    space.dir("d")
    space.file("f")
    space.link("to-f", "f")
    space.link("dangling", "nowhere")
    for kind in (*KINDS, InodeType.FILE):
        space.refused(code, mknod, path, kind)


def test_who_may_make_one(space):
    space.dir("hers", 0o755, user=space.alice)
    for kind in KINDS:
        space.refused(Code.ACCESS, mknod, "hers/s", kind, user=space.bob)
        if kind in DEVICES:
            space.refused(Code.PERMISSION, mknod, "hers/s", kind, user=space.alice)
        else:
            assert space.do(mknod, f"hers/{kind}", kind, user=space.alice).uid == 1000


@pytest.mark.parametrize(
    ("kind", "rdev", "code"),
    [
        (InodeType.DIRECTORY, 0, Code.PERMISSION),
        (InodeType.SYMLINK, 0, Code.INVALID),
        (InodeType.OTHER, 0, Code.INVALID),
        (InodeType.FIFO, 1, Code.INVALID),
        (InodeType.FILE, 1, Code.INVALID),
        (InodeType.BLOCK_DEVICE, rdev_max + 1, Code.INVALID),
        (InodeType.BLOCK_DEVICE, -1, Code.INVALID),
    ],
)
def test_what_cannot_be_made(space, kind, rdev, code):
    space.refused(code, mknod, "s", kind, rdev=rdev)


@pytest.mark.parametrize("inline_bytes", [0, 16 << 10])
def test_a_regular_file_is_empty_and_closed(space, inline_bytes):
    space.defaults = LayoutDefaults(space.defaults.table, inline_bytes=inline_bytes)
    made = space.do(mknod, "f", InodeType.FILE, mode=0o604)
    assert (made.type, made.mode, made.length, made.inline) == (InodeType.FILE, 0o604, 0, inline_bytes > 0)
    assert made.layout.chains
    assert not space.keys_of(keys.SESSION)
    assert space.content("f") == (b"" if inline_bytes else None)


def test_a_repetition_has_the_first_answer(space):
    first = space.do(mknod, "s", InodeType.FIFO, seq=7)
    space.do(remove, "s")
    assert space.do(mknod, "s", InodeType.FIFO, seq=7) == first
    assert space.names() == []


def test_a_row_of_an_inode_from_before_there_were_devices_is_read(space):
    made = space.file("f")
    key = keys.inode_key(made.id)
    old = rows.encode(list(_fields(made))[:-1])
    assert rows.decode_inode(key, old) == made
    assert replace(made, id=InodeId(made.id)) == made


def _fields(inode):
    return [getattr(inode, name) for name in inode.__struct_fields__]
