"""ACLs, by the cases of acl(5)."""

import struct

import pytest

from fs3.core.meta import acl
from fs3.core.meta.acl import NO_ID, AclEntry, AclTag

OWNER, USER, OWNING_GROUP, GROUP, MASK, OTHERS = AclTag
ALICE, BOB, EVE = 1000, 1001, 1002
STAFF, GUESTS, FILES = 50, 60, 7
"""FILES: the owning group."""


def rules(*entries):
    return tuple(AclEntry(*entry) for entry in entries)


def attribute(*entries, version=2):
    return struct.pack("<I", version) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


MINIMAL = rules((OWNER, 6), (OWNING_GROUP, 4), (OTHERS, 0))
EXTENDED = rules(
    (OWNER, 7), (USER, 6, ALICE), (USER, 0, BOB), (OWNING_GROUP, 5), (GROUP, 2, STAFF), (GROUP, 4, GUESTS), (MASK, 6), (OTHERS, 1)
)


def test_attributes_are_read_and_written():
    for one in (MINIMAL, EXTENDED, ()):
        assert acl.parse(acl.pack(one)) == one
    assert acl.pack(MINIMAL) == bytes.fromhex("02000000 01000600ffffffff 04000400ffffffff 20000000ffffffff")
    assert acl.parse(attribute()) == (), "a header alone is no ACL"
    shuffled = attribute((1, 7, 0), (2, 6, BOB), (2, 4, ALICE), (4, 5, 0), (16, 7, 0), (32, 0, 0))
    assert [entry.id for entry in acl.parse(shuffled)] == [NO_ID, ALICE, BOB, NO_ID, NO_ID, NO_ID], "in the order of ids"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (b"\2\0\0", "3 bytes"),
        (attribute((1, 6, 0)) + b"x", "13 bytes"),
        (attribute((1, 6, 0), (4, 4, 0), (32, 0, 0), version=1), "version 1"),
        (attribute((1, 6, 0), (4, 4, 0)), "0 entries of the others"),
        (attribute((4, 4, 0), (32, 0, 0)), "0 entries of the owner"),
        (attribute((1, 6, 0), (32, 0, 0)), "0 entries of the owning group"),
        (attribute((1, 6, 0), (1, 6, 0), (4, 4, 0), (32, 0, 0)), "2 entries of the owner"),
        (attribute((1, 6, 0), (2, 6, ALICE), (4, 4, 0), (32, 0, 0)), "0 masks"),
        (attribute((1, 6, 0), (4, 4, 0), (8, 4, STAFF), (32, 0, 0)), "0 masks"),
        (attribute((1, 6, 0), (4, 4, 0), (16, 4, 0), (16, 4, 0), (32, 0, 0)), "2 masks"),
        (attribute((1, 6, 0), (4, 4, 0), (32, 8, 0)), "permissions 0o10"),
        (attribute((1, 6, 0), (4, 4, 0), (32, 0, 0), (64, 0, 0)), "tag 0x40"),
        (attribute((4, 4, 0), (1, 6, 0), (32, 0, 0)), "not in the order"),
        (attribute((1, 6, 0), (2, 6, NO_ID), (4, 4, 0), (16, 4, 0), (32, 0, 0)), "user has no id"),
        (attribute((1, 6, 0), (2, 6, 5), (2, 4, 5), (4, 4, 0), (16, 4, 0), (32, 0, 0)), "same user"),
    ],
)
def test_what_is_no_acl_is_refused(value, says):
    with pytest.raises(ValueError, match=says):
        acl.parse(value)


@pytest.mark.parametrize(
    ("uid", "gids", "allowed"),
    [
        (ALICE, (ALICE,), 6),  # an entry of the user
        (ALICE, (FILES,), 6),  # which goes before those of groups
        (BOB, (GUESTS, FILES), 0),  # also when it gives nothing
        (EVE, (FILES,), 4),  # the owning group, less what the mask does not have
        (EVE, (STAFF,), 2),  # a named group
        (EVE, (GUESTS,), 4),
        (EVE, (EVE,), 1),  # others, whom the mask does not limit
    ],
)
def test_who_may_do_what(uid, gids, allowed):
    for want in range(8):
        assert acl.is_permitted(EXTENDED, uid, gids, FILES, want) == (want & ~allowed == 0)


def test_one_group_has_to_give_all_that_is_wanted():
    gids = (STAFF, GUESTS)
    assert acl.is_permitted(EXTENDED, EVE, gids, FILES, 2)
    assert acl.is_permitted(EXTENDED, EVE, gids, FILES, 4)
    assert not acl.is_permitted(EXTENDED, EVE, gids, FILES, 6), "each gives one of them"
    assert not acl.is_permitted(EXTENDED, EVE, (STAFF,), FILES, 1), "who is in a group is not helped by others"


def test_the_mask_limits_all_but_owner_and_others():
    closed = rules((OWNER, 7), (USER, 7, ALICE), (OWNING_GROUP, 7), (GROUP, 7, STAFF), (MASK, 0), (OTHERS, 5))
    for uid, gids in ((ALICE, ()), (EVE, (FILES,)), (EVE, (STAFF,))):
        assert not acl.is_permitted(closed, uid, gids, FILES, 4)
    assert acl.is_permitted(closed, EVE, (EVE,), FILES, 5)


def test_permission_bits_have_the_mask_where_there_is_one():
    assert acl.permission_bits(MINIMAL) == 0o640
    assert acl.permission_bits(EXTENDED) == 0o761
    assert acl.is_minimal(MINIMAL)
    assert not acl.is_minimal(EXTENDED)
    assert not acl.is_minimal(rules((OWNER, 6), (OWNING_GROUP, 4), (MASK, 4), (OTHERS, 0)))


def test_chmod_sets_the_mask_and_without_one_the_owning_group():
    assert acl.with_permission_bits(MINIMAL, 0o751) == rules((OWNER, 7), (OWNING_GROUP, 5), (OTHERS, 1))
    after = acl.with_permission_bits(EXTENDED, 0o640)
    assert acl.permission_bits(after) == 0o640
    changed = {entry.tag for entry, before in zip(after, EXTENDED, strict=True) if entry != before}
    assert changed == {OWNER, MASK, OTHERS}


def test_what_is_inherited_is_no_more_than_was_asked_for():
    assert acl.permission_bits(acl.inherit(EXTENDED, 0o777)) == 0o761
    after = acl.inherit(EXTENDED, 0o644)
    assert after[:1] + after[-2:] == rules((OWNER, 6), (MASK, 4), (OTHERS, 0))
    assert after[1:-2] == EXTENDED[1:-2]
    assert acl.inherit(MINIMAL, 0o707) == rules((OWNER, 6), (OWNING_GROUP, 0), (OTHERS, 0))
