"""What a user may do with contents that it names by their ids."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from fs3.base.ids import INODE_IDS_END, InodeId
from fs3.base.status import Code
from fs3.core.meta.ops.get_capabilities import find_rights, rights_of_opened
from fs3.core.meta.ops.rename import rename
from fs3.core.meta.ops.setattr import set_attributes
from fs3.core.security.capability import READ, WRITE
from fs3.model.capabilities import GetCapabilities, WantedCapability
from fs3.model.inode import User
from tests.unit.core.meta.conftest import ALICE, CLIENT, EVE, OTHER, ROOT

BOTH = READ | WRITE


def find(space: Any, user: User, *wanted: tuple[int, int], client: Any = OTHER) -> list[int | Code]:
    request = GetCapabilities(tuple(WantedCapability(InodeId(content), rights) for content, rights in wanted))
    ctx = space.context(user, client)
    return space.kv.read_now(lambda txn: find_rights(txn, ctx, request))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("mode", "user", "wanted", "granted"),
    [
        (0o600, ALICE, READ, READ),
        (0o600, ALICE, WRITE, BOTH),
        (0o600, EVE, READ, Code.ACCESS),
        (0o600, EVE, WRITE, Code.ACCESS),
        (0o644, EVE, READ, READ),
        (0o644, EVE, WRITE, Code.ACCESS),
        (0o644, EVE, BOTH, Code.ACCESS),
        (0o666, EVE, WRITE, BOTH),
        (0o622, EVE, WRITE, WRITE),
        (0o622, EVE, BOTH, Code.ACCESS),
        (0o000, ROOT, BOTH, BOTH),
        (0o000, ALICE, READ, READ),
        (0o000, ALICE, WRITE, Code.ACCESS),
    ],
)
def test_permissions_are_those_of_the_file(space: Any, mode: int, user: User, wanted: int, granted: int | Code) -> None:
    file = space.file("f", mode=mode, user=ALICE, length=10)
    assert find(space, user, (file.id, wanted)) == [granted]


def test_each_has_its_own_answer(space: Any) -> None:
    mine, secret = space.file("mine", mode=0o600, user=EVE), space.file("secret", mode=0o600, user=ALICE)
    wanted = [(mine.id, WRITE), (secret.id, READ), (999, READ), (0, READ), (INODE_IDS_END, READ)]
    assert find(space, EVE, *wanted) == [BOTH, Code.ACCESS, Code.NOT_FOUND, Code.NOT_FOUND, Code.NOT_FOUND]


def test_a_writer_writes_on_whatever_the_mode_is_by_now(space: Any) -> None:
    opened = space.open("f", create=True, mode=0o400, user=ALICE)
    assert find(space, ALICE, (opened.inode.id, WRITE), client=CLIENT) == [BOTH]
    assert find(space, ALICE, (opened.inode.id, WRITE), client=OTHER) == [Code.ACCESS]
    space.do(set_attributes, "f", uid=EVE.uid, user=ROOT)
    assert find(space, ALICE, (opened.inode.id, WRITE), client=CLIENT) == [WRITE]


def test_contents_are_named_not_inodes(space: Any) -> None:
    """A file whose content was exchanged is found by the content it has now, and by none it does not have."""
    file = space.file("f", mode=0o600, user=ALICE, length=10)
    fresh = space.open("f", truncate=True, user=ALICE)
    content = fresh.inode.content_id
    assert content != file.id
    assert find(space, ALICE, (content, READ)) == [READ]
    assert find(space, EVE, (content, READ)) == [Code.ACCESS]
    space.do(rename, "f", "g", user=ALICE)
    assert find(space, ALICE, (content, READ)) == [READ]


def test_what_opens_says_is_what_an_open_gives(space: Any) -> None:
    file = replace(space.file("f", mode=0o622, user=ALICE), id=InodeId(7))
    assert rights_of_opened(EVE, file, write=False) == READ  # the open has looked at that
    assert rights_of_opened(EVE, file, write=True) == WRITE
    assert rights_of_opened(ALICE, file, write=True) == BOTH
