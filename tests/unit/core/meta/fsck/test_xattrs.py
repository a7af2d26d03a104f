"""Damage to extended attributes is found and repaired."""

import struct

import pytest
from msgspec.structs import replace

from fs3.base.ids import InodeId
from fs3.core.meta import keys, rows
from fs3.core.meta.fsck.namespace_check import NamespaceCheck, TxnSource
from fs3.core.meta.fsck.problems import describe, name_of
from fs3.core.meta.fsck.repair import repair
from fs3.core.meta.ops.list_xattr import list_xattr
from fs3.core.meta.ops.set_xattr import set_xattr
from fs3.model.inode import Grants

NOBODY = 0xFFFFFFFF
ENTRIES = [(1, 6, NOBODY), (2, 4, 1000), (4, 0, NOBODY), (16, 4, NOBODY), (32, 0, NOBODY)]
ACL = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in ENTRIES)


@pytest.fixture
def healthy(space):
    for path in ("f", "plain"):
        space.file(path)
    space.do(set_xattr, "f", b"user.a", b"12345")
    space.do(set_xattr, "f", b"user.b", b"")
    space.do(set_xattr, "f", b"system.posix_acl_access", ACL)
    assert space.problems() == []
    return space


def survey(space, per_page):
    async def op(txn):
        found = NamespaceCheck(TxnSource(txn, per_page))
        await found.run()
        return found.problems

    return space.kv.read_now(op)


def changed(path, **fields):
    return lambda txn, space: rows.put_inode(txn, replace(space.stat(path), **fields))


def stored(path, name, value):
    return lambda txn, space: txn.put(keys.xattr_key(space.stat(path).id, name), value)


def lost(path, name):
    return lambda txn, space: txn.delete(keys.xattr_key(space.stat(path).id, name))


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (changed("f", xattr_bytes=1), "xattrs-miscounted"),
        (changed("f", xattr_bytes=0, grants=None), "xattrs-miscounted"),
        (changed("plain", xattr_bytes=7), "xattrs-miscounted"),
        (stored("plain", b"user.a", rows.encode(b"x")), "xattrs-miscounted"),
        (stored("f", b"user.a", rows.encode(b"x")), "xattrs-miscounted"),
        (stored("f", b"user.a", b"\xc1"), "unreadable"),
        (lost("f", b"user.b"), "xattrs-miscounted"),
        (lambda txn, space: txn.put(keys.xattr_key(InodeId(9999), b"user.a"), rows.encode(b"x")), "xattr-of-nothing"),
        (changed("f", mode=0o600), "mode-differs-from-acl"),
        (changed("f", grants=Grants(access_acl=b"x" * len(ACL))), "mode-differs-from-acl"),
        (changed("plain", grants=Grants(access_acl=ACL)), "xattrs-miscounted mode-differs-from-acl"),
    ],
)
@pytest.mark.parametrize("per_page", [2, 1000])
def test_damage_is_found_exactly_and_repaired(healthy, damage, expected, per_page):
    async def op(txn):
        damage(txn, healthy)

    healthy.raw(op)
    problems = survey(healthy, per_page)
    assert sorted(name_of(problem) for problem in problems) == sorted(expected.split())
    assert all(describe(problem) for problem in problems)
    for _ in range(3):
        for problem in problems:
            healthy.do(repair, problem)
        problems = survey(healthy, per_page)
    assert problems == []


def test_an_acl_that_cannot_be_read_gives_no_group_anything(healthy):
    async def op(txn):
        rows.put_inode(txn, replace(healthy.stat("f"), grants=Grants(access_acl=b"x" * len(ACL))))

    healthy.raw(op)
    (problem,) = survey(healthy, 10)
    assert healthy.do(repair, problem).done
    assert healthy.stat("f").mode == 0o600
    assert healthy.do(list_xattr, "f") == [b"user.a", b"user.b"]


def test_a_repair_whose_premise_is_gone_does_nothing(healthy):
    async def op(txn):
        rows.put_inode(txn, replace(healthy.stat("f"), xattr_bytes=1, mode=0o600))

    healthy.raw(op)
    problems = survey(healthy, 10)
    assert len(problems) == 2
    first, second = problems
    assert healthy.do(repair, first).done
    before = healthy.rows()
    assert not healthy.do(repair, first).done
    assert not healthy.do(repair, second).done, "the inode has changed since"
    assert healthy.rows() == before
    (left,) = survey(healthy, 10)
    assert healthy.do(repair, left).done
