"""`fs3 group`, and groups of `fs3 user` by name."""

from __future__ import annotations

import grp
from typing import Any, cast

import pytest
from typer.testing import CliRunner

from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.cli.groups import gids_of, names_of_groups, parse_groups, users_by_gid
from fs3.cli.main import app
from fs3.client.mgmtd.security_admin import SecurityAdmin
from fs3.model.group import Group
from fs3.model.security import Account

NAMES = {2001: "physics", 2002: "staff"}


class Manager:
    """Answers what it is asked for groups."""

    def __init__(self, answer: list[Group] | Code) -> None:
        self._answer = answer

    async def list_groups(self) -> list[Group]:
        if isinstance(self._answer, Code):
            raise error(self._answer, "refused")
        return self._answer

    def as_admin(self) -> SecurityAdmin:
        return cast("SecurityAdmin", self)


def refusal_of(*arguments: str) -> str:
    """Of a command that has no cluster to ask."""
    found = CliRunner().invoke(app, [*arguments, "--cluster", "127.0.0.1:1"]).exception
    assert isinstance(found, FS3Error)
    assert found.code is Code.INVALID
    return str(found)


def test_groups_are_told_by_name_and_number() -> None:
    assert parse_groups("--group", ["physics, staff", "7", "0,a.b@c-d"]) == ("physics", "staff", 7, 0, "a.b@c-d")
    assert parse_groups("--group", []) == ()
    assert gids_of(("physics", 7, "staff", 2001), NAMES) == (2001, 7, 2002)
    assert gids_of((7, 7), None) == (7,)


def test_a_group_that_there_is_not_is_named() -> None:
    with pytest.raises(FS3Error, match="there is no group 'staf'") as refused:
        gids_of((1, "staf"), NAMES)
    assert refused.value.code is Code.NOT_FOUND
    with pytest.raises(FS3Error, match="'staff': these managers are of a release that knows groups by gid alone") as refused:
        gids_of(("staff",), None)
    assert refused.value.code is Code.UNSUPPORTED


async def test_managers_of_an_earlier_release_know_no_names() -> None:
    assert await names_of_groups(Manager(Code.UNSUPPORTED).as_admin()) is None
    assert await names_of_groups(Manager([Group("physics", 2001), Group("staff", 2002)]).as_admin()) == NAMES
    with pytest.raises(FS3Error):
        await names_of_groups(Manager(Code.PERMISSION).as_admin())


def test_users_of_each_gid() -> None:
    accounts = [Account("ann", 1, 2001, (2002, 2001)), Account("bob", 2, 2002)]
    assert users_by_gid(accounts) == {2001: ["ann"], 2002: ["ann", "bob"]}


@pytest.mark.parametrize("verb", ["add", "set"])
@pytest.mark.parametrize("number", ["-1", "4294967295"])
def test_gids_that_are_none(verb: str, number: str) -> None:
    assert refusal_of("group", verb, "physics", "--gid", number) == f"--gid {number}: 0 to 4294967294"


@pytest.mark.parametrize("verb", ["add", "set"])
def test_groups_that_no_user_can_have(verb: str) -> None:
    assert refusal_of("user", verb, "x", "--uid", "1", "--group", "a,,b") == "--group: a group is a gid or a name, and not empty"
    assert "new files are of one group" in refusal_of("user", verb, "x", "--uid", "1", "--gid", "physics,staff")
    assert refusal_of("user", verb, "x", "--uid", "1", "--group", "staff,-1") == "--group -1: 0 to 4294967294"


def test_a_group_that_this_machine_does_not_have_needs_a_gid(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> Any:
        raise KeyError(name)

    monkeypatch.setattr(grp, "getgrnam", find)
    assert refusal_of("group", "add", "physics") == "--gid is needed: this machine has no group 'physics'"
