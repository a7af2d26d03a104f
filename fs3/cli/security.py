"""`fs3 security`: turn it on and off, look at it, change its keys, end what was proved."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fs3.base.errors import NoPermission, error
from fs3.base.status import Code
from fs3.cli.manager_client import ask_manager, open_manager_client
from fs3.cli.operator_keys import use_token
from fs3.cli.output import print_json, print_table
from fs3.cli.users import token_place
from fs3.cli.where import HELP as where_help
from fs3.cli.where import manager_addresses_of
from fs3.core.security.login import stored_of
from fs3.model.security import NodeKey, PutUser, SecurityPhase, SecurityStatus

if TYPE_CHECKING:
    from fs3.client.mgmtd.security_admin import SecurityAdmin

app = typer.Typer(name="security", help="Who may do what: on or off, keys, revocations.", no_args_is_help=True)

READY_SECONDS = 15.0
"""How long `on` waits for the nodes to have their keys."""

Where = Annotated[str | None, typer.Argument(help=where_help, metavar="CLUSTER")]
AsJson = Annotated[bool, typer.Option("--json", help="one JSON document")]


@app.command()
def on(
    where: Where = None,
    admin: Annotated[str, typer.Option(help="the first administrator; made when there is no such user")] = "admin",
    token_file: Annotated[
        Path | None, typer.Option(help="write the administrator's token there, for its owner alone, and print it not")
    ] = None,
    unready: Annotated[
        bool, typer.Option("--unready", help="also when nodes cannot prove themselves yet: they are refused")
    ] = False,
) -> None:
    """Turn security on, while the cluster runs: from then on connections may do what they have proved, and no more.

    Prints the token of an administrator, once. Every node is first given its keys; clients that have tokens go on.
    """
    from fs3.client.mgmtd.security_admin import SecurityAdmin

    async def turn_on() -> tuple[str, SecurityStatus]:
        async with open_manager_client(addresses) as client:
            security = SecurityAdmin(client)
            if (await security.set_security(on=False) if not client.is_secured else await security.status()).phase:
                raise error(Code.EXISTS, "security is on already; `fs3 user token` makes another token")
            made = ""
            if all(account.name != admin for account in await security.list_users()):
                await security.put_user(PutUser(admin, must_be_new=True, uid=0, gid=0, is_admin=True))
                made = await security.add_token(admin, "first")
            if not unready:
                await _wait_ready(security)
            return made, await security.set_security(on=True, unready=unready)

    async def follow() -> None:
        # Until then, what a request says of its caller is believed by a node that has not heard of it.
        async with open_manager_client(addresses) as client:
            behind = await SecurityAdmin(client).wait_followed(status.version, READY_SECONDS)
        if behind and not unready:
            sys.stderr.write(f"security is on, but these nodes have not said that they follow: {', '.join(behind)}\n")

    addresses = manager_addresses_of(where)
    with token_place(token_file) as hand_out:
        made, status = asyncio.run(turn_on())
        sys.stdout.write(f"security is on: {len(status.nodes)} nodes, {status.users} users\n")
        if made:
            hand_out(made)  # before anything else can go wrong: it is shown once
            use_token(made)
    with suppress(NoPermission):  # the command may have nothing that makes it an administrator
        asyncio.run(follow())


async def _wait_ready(security: SecurityAdmin) -> None:
    """Until every node that is alive has its keys. FS3Error BUSY naming those that have none."""
    missing = await security.wait_followed(1, READY_SECONDS)
    if missing:
        told = f"these nodes do not take their keys: {', '.join(missing)}; they may be of a release that knows of none"
        raise error(Code.BUSY, told)


@app.command()
def off(
    where: Where = None,
    yes: Annotated[bool, typer.Option("--yes", help="everybody who reaches a port may do everything, and that is meant")] = False,
) -> None:
    """Turn security off: everybody may do everything. Users and keys stay, for when it is turned on again."""
    from fs3.client.mgmtd.security_admin import SecurityAdmin

    if not yes:
        raise error(Code.INVALID, "security off opens the cluster to everybody who reaches it; say --yes if that is meant")
    ask_manager(manager_addresses_of(where), lambda client: SecurityAdmin(client).set_security(on=False))
    sys.stdout.write("security is off: everybody who reaches a port may do everything\n")


@app.command()
def status(where: Where = None, as_json: AsJson = False) -> None:
    """Show whether security is on, who is ready for it, and how old the keys are."""
    from fs3.client.mgmtd.security_admin import SecurityAdmin

    found = ask_manager(manager_addresses_of(where), lambda client: SecurityAdmin(client).status())
    if as_json:
        print_json(security_document(found))
        return
    state = "on" if found.phase is SecurityPhase.ON else "off: everybody who reaches a port may do everything"
    sys.stdout.write(f"security is {state}\n{found.users} users, {found.epoch} revocations\n")
    for key in found.keys:
        role = "seals" if key.id == found.newest else "verifies until it ends" if key.id < found.newest else "seals soon"
        sys.stdout.write(f"key {key.id} is {(found.now_ms - key.made_ms) // 1000} s old and {role}\n")
    rows = [(node.name, "yes" if node.is_alive else "no", "yes" if node.version else "no") for node in found.nodes]
    print_table(("node", "alive", "has keys"), rows)
    if found.other_keys:
        sys.stdout.write(f"keys that no node has: {', '.join(found.other_keys)}; managers log in with theirs\n")


@app.command()
def rotate(
    where: Where = None,
    at_once: Annotated[
        bool, typer.Option("--at-once", help="a key has leaked: what it has sealed is void, and everybody logs in again")
    ] = False,
) -> None:
    """Have another key seal what is proved. Keys change by themselves every hour."""
    from fs3.client.mgmtd.security_admin import SecurityAdmin

    found = ask_manager(manager_addresses_of(where), lambda client: SecurityAdmin(client).rotate(at_once=at_once))
    when = "seals now, and the others are gone" if at_once else "seals as soon as all services have it"
    sys.stdout.write(f"key {found.keys[-1].id} {when}\n")


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="of a user; with --node, of a node")],
    where: Where = None,
    node: Annotated[bool, typer.Option("--node", help="it is a node")] = False,
) -> None:
    """End what a user or a node has proved, within two seconds. It may log in again, unless it is disabled or removed."""
    from fs3.client.mgmtd.security_admin import SecurityAdmin

    ask_manager(manager_addresses_of(where), lambda client: SecurityAdmin(client).revoke(name, is_node=node))
    sys.stdout.write(f"what {name!r} had proved counts no more\n")


@app.command()
def admit(
    node: Annotated[str, typer.Argument(metavar="NODE", help="its name, e.g. storage-4")],
    key_file: Annotated[Path, typer.Option(help="DATA_DIR/node.key of the node; its digest is sent")],
    where: Where = None,
) -> None:
    """Have a node known by its key, that is new while security is on, or whose directory was lost."""
    from fs3.client.mgmtd.security_admin import SecurityAdmin
    from fs3.runtime.node_key import load_node_key

    node_key = NodeKey(node, stored_of(load_node_key(key_file.parent)))
    ask_manager(manager_addresses_of(where), lambda client: SecurityAdmin(client).admit_nodes([node_key]))
    sys.stdout.write(f"node {node!r} is known by the key in {key_file}\n")


def security_document(found: SecurityStatus) -> dict[str, Any]:
    """The security of a cluster as JSON."""
    return {
        "on": found.phase is SecurityPhase.ON,
        "version": found.version,
        "revocations": found.epoch,
        "cluster_ms": found.now_ms,
        "users": found.users,
        "keys": [
            {"id": key.id, "age_ms": found.now_ms - key.made_ms, "seals": key.id == found.newest, "ends_ms": key.ends_ms}
            for key in found.keys
        ],
        "nodes": [{"name": node.name, "alive": node.is_alive, "has_keys": bool(node.version)} for node in found.nodes],
        "other_keys": list(found.other_keys),
    }
