"""`fs3 group`: names for gids, so that users are given groups by name."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.cli.manager_client import ask_manager
from fs3.cli.output import print_json, print_table
from fs3.cli.where import HELP as where_help
from fs3.cli.where import manager_addresses_of
from fs3.core.membership.account_names import user_id_max
from fs3.model.group import Group, PutGroup
from fs3.model.security import Account

if TYPE_CHECKING:
    from fs3.client.mgmtd.client import MgmtdClient
    from fs3.client.mgmtd.security_admin import SecurityAdmin

_NUMBER = re.compile(r"[+-]?[0-9]+")

app = typer.Typer(name="group", help="Groups of a cluster: names for gids.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="of the group")]
Where = Annotated[str | None, typer.Option("--cluster", help=where_help, metavar="CLUSTER")]
AsJson = Annotated[bool, typer.Option("--json", help="one JSON document")]


@app.command()
def add(
    name: Name,
    gid: Annotated[int | None, typer.Option(help="POSIX group id, which files belong to")] = None,
    cluster: Where = None,
    as_json: AsJson = False,
) -> None:
    """Add a group. Without --gid, the one that this machine has for the name."""
    if gid is None:
        gid = _gid_here(name)
    made = _put(PutGroup(name, must_be_new=True, gid=gid), cluster)
    if as_json:
        print_json(group_document(made))
    else:
        sys.stdout.write(f"group {made.name!r} has gid {made.gid}\n")


@app.command("set")
def set_group(
    name: Name,
    gid: Annotated[int, typer.Option(help="POSIX group id, which files belong to")],
    cluster: Where = None,
    as_json: AsJson = False,
) -> None:
    """Give a group another gid. Refused while users have it: files belong to the number, not to the name."""
    changed = _put(PutGroup(name, must_be_new=False, gid=gid), cluster)
    if as_json:
        print_json(group_document(changed))


def _put(request: PutGroup, cluster: str | None) -> Group:
    from fs3.client.mgmtd.security_admin import SecurityAdmin

    check_id("--gid", request.gid)
    return ask_manager(manager_addresses_of(cluster), lambda client: SecurityAdmin(client).put_group(request))


def _gid_here(name: str) -> int:
    """Of a group of this machine. FS3Error INVALID when there is none of that name."""
    import grp

    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise error(Code.INVALID, f"--gid is needed: this machine has no group {name!r}") from None


@app.command("list")
def list_groups(cluster: Where = None, as_json: AsJson = False) -> None:
    """Show the groups and the users that have them."""
    from fs3.client.mgmtd.security_admin import SecurityAdmin

    async def ask(client: MgmtdClient) -> tuple[list[Group], list[Account]]:
        admin = SecurityAdmin(client)
        return await admin.list_groups(), await admin.list_users()

    groups, accounts = ask_manager(manager_addresses_of(cluster), ask)
    users = users_by_gid(accounts)
    if as_json:
        print_json({"groups": [{**group_document(group), "users": users.get(group.gid, [])} for group in groups]})
        return
    rows = [(group.name, str(group.gid), ", ".join(users.get(group.gid, []))) for group in groups]
    print_table(("group", "gid", "users"), rows)


@app.command()
def rm(
    name: Name,
    force: Annotated[bool, typer.Option("--force", help="also when users have it: they keep its gid, without a name")] = False,
    cluster: Where = None,
) -> None:
    """Forget a group. Its files stay, and belong to its gid."""
    from fs3.client.mgmtd.security_admin import SecurityAdmin

    ask_manager(manager_addresses_of(cluster), lambda client: SecurityAdmin(client).remove_group(name, also_used=force))
    sys.stdout.write(f"group {name!r} is removed\n")


def group_document(group: Group) -> dict[str, Any]:
    """A group as JSON."""
    return {"name": group.name, "gid": group.gid}


def users_by_gid(accounts: Iterable[Account]) -> dict[int, list[str]]:
    """Names of the users that have each gid, in the order of the accounts."""
    found: dict[int, list[str]] = {}
    for account in accounts:
        for gid in dict.fromkeys((account.gid, *account.groups)):
            found.setdefault(gid, []).append(account.name)
    return found


# --- groups of users -------------------------------------------------------------------------------------------------


def check_id(option: str, given: int) -> None:
    """FS3Error INVALID naming the option and what it may be."""
    if not 0 <= given <= user_id_max:
        raise error(Code.INVALID, f"{option} {given}: 0 to {user_id_max}")


def parse_groups(option: str, given: Iterable[str]) -> tuple[int | str, ...]:
    """Groups as an option gives them: gids and names, which are no numbers, several with commas. FS3Error INVALID."""
    found: list[int | str] = []
    for text in (each.strip() for texts in given for each in texts.split(",")):
        if not text:
            raise error(Code.INVALID, f"{option}: a group is a gid or a name, and not empty")
        if _NUMBER.fullmatch(text):
            check_id(option, int(text))
            found.append(int(text))
        else:
            found.append(text)
    return tuple(found)


async def names_of_groups(admin: SecurityAdmin) -> dict[int, str] | None:
    """By gid; None where the managers are of a release that knows no names."""
    try:
        return {group.gid: group.name for group in await admin.list_groups()}
    except FS3Error as refusal:
        if refusal.code is Code.UNSUPPORTED:
            return None
        raise


def gids_of(groups: Iterable[int | str], names: Mapping[int, str] | None) -> tuple[int, ...]:
    """What groups stand for, each once. `names`: see `names_of_groups`. FS3Error naming a group that there is not: NOT_FOUND, or
    UNSUPPORTED."""
    by_name = {name: gid for gid, name in (names or {}).items()}
    found: dict[int, None] = {}
    for group in groups:
        if isinstance(group, str) and group not in by_name:
            if names is None:
                raise error(Code.UNSUPPORTED, f"group {group!r}: these managers are of a release that knows groups by gid alone")
            raise error(Code.NOT_FOUND, f"there is no group {group!r}; `fs3 group list` shows them, `fs3 group add` adds one")
        found[by_name[group] if isinstance(group, str) else group] = None
    return tuple(found)
