"""`fs3 user`: who may use a cluster, and the tokens they prove themselves with."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from fs3.base.errors import error
from fs3.base.status import Code
from fs3.base.units import DAY, MILLISECOND, parse_duration
from fs3.cli.groups import check_id, gids_of, names_of_groups, parse_groups
from fs3.cli.manager_client import ask_manager
from fs3.cli.output import print_json, print_table
from fs3.cli.where import HELP as where_help
from fs3.cli.where import manager_addresses_of
from fs3.core.membership.security import why_token_over
from fs3.model.security import Account, PutUser, UserToken

if TYPE_CHECKING:
    from fs3.client.mgmtd.client import MgmtdClient

_LIFETIME_NS_MAX = 36_500 * DAY

app = typer.Typer(name="user", help="Users of a cluster, and their tokens.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="of the user")]
Where = Annotated[str | None, typer.Option("--cluster", help=where_help, metavar="CLUSTER")]
AsJson = Annotated[bool, typer.Option("--json", help="one JSON document")]
Uid = Annotated[int | None, typer.Option(help="POSIX user id, which files belong to")]
Gid = Annotated[str | None, typer.Option(metavar="GROUP", help="group of new files: its name or POSIX id")]
Groups = Annotated[
    list[str] | None,
    typer.Option("--group", metavar="GROUP", help="supplementary groups: names or ids, with commas; may be repeated"),
]
Tenant = Annotated[str | None, typer.Option(help="whose KV namespaces it may use")]
Admin = Annotated[bool | None, typer.Option("--admin/--no-admin", help="it may change the cluster")]
Service = Annotated[bool | None, typer.Option("--service/--no-service", help="it is a program, and no person")]
ActsFor = Annotated[
    bool | None, typer.Option("--acts-for-others/--no-acts-for-others", help="its mounts ask in the name of their callers")
]
ReadsMetrics = Annotated[
    bool | None,
    typer.Option("--reads-metrics/--no-reads-metrics", help="it may read metrics, as Prometheus does"),
]
Certificates = Annotated[
    list[str] | None, typer.Option("--certificate", help="subject of a TLS client certificate that is this user; may be repeated")
]
TokenFile = Annotated[Path | None, typer.Option("--file", help="write the token there, for its owner alone, and print it not")]


@app.command()
def add(
    name: Name,
    uid: Uid = None,
    gid: Gid = None,
    group: Groups = None,
    tenant: Tenant = None,
    admin: Admin = None,
    service: Service = None,
    acts_for_others: ActsFor = None,
    reads_metrics: ReadsMetrics = None,
    certificate: Certificates = None,
    cluster: Where = None,
    as_json: AsJson = False,
) -> None:
    """Add a user. Without --uid and --gid, those that this machine has for the name."""
    own_uid, own_gid = _ids_here(name) if uid is None else (uid, uid)
    request = PutUser(
        name, True, own_uid, own_gid, (), tenant or "", bool(admin), bool(service),
        bool(acts_for_others), False, tuple(certificate or ()), bool(reads_metrics),
    )  # fmt: skip
    made, names = _put(request, gid, group, cluster)
    if as_json:
        print_json(account_document(made, names))
    else:
        sys.stdout.write(f"user {made.name!r} (uid {made.uid}, gid {made.gid}) may log in: fs3 user token {made.name}\n")


def _ids_here(name: str) -> tuple[int, int]:
    """uid and gid of a user of this machine. FS3Error INVALID when there is none of that name."""
    import pwd

    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise error(Code.INVALID, f"--uid is needed: this machine has no user {name!r}") from None
    return found.pw_uid, found.pw_gid


@app.command("set")
def set_user(
    name: Name,
    uid: Uid = None,
    gid: Gid = None,
    group: Groups = None,
    no_groups: Annotated[bool, typer.Option("--no-groups", help="it has no supplementary groups")] = False,
    tenant: Tenant = None,
    admin: Admin = None,
    service: Service = None,
    acts_for_others: ActsFor = None,
    reads_metrics: ReadsMetrics = None,
    certificate: Certificates = None,
    no_certificates: Annotated[bool, typer.Option("--no-certificates", help="no certificate is this user")] = False,
    disabled: Annotated[bool | None, typer.Option("--disable/--enable", help="whether it may log in")] = None,
    cluster: Where = None,
    as_json: AsJson = False,
) -> None:
    """Change what is given of a user; the rest stays. It counts within two seconds, also for those who are logged in."""
    groups = () if no_groups else None
    subjects = () if no_certificates else tuple(certificate) if certificate else None
    request = PutUser(name, False, uid, None, groups, tenant, admin, service, acts_for_others, disabled, subjects, reads_metrics)
    changed, names = _put(request, gid, None if no_groups else group, cluster)
    if as_json:
        print_json(account_document(changed, names))


def _put(request: PutUser, gid: str | None, groups: list[str] | None, cluster: str | None) -> tuple[Account, Mapping[int, str]]:
    """Put a user with these groups, where they are given, in the place of those in the request. The user, and names by gid."""
    from fs3.client.mgmtd.security_admin import SecurityAdmin

    if request.uid is not None:
        check_id("--uid", request.uid)
    own = parse_groups("--gid", [gid]) if gid is not None else ()
    if len(own) > 1:
        raise error(Code.INVALID, f"--gid {gid}: new files are of one group; --group adds others")
    others = parse_groups("--group", groups or ())

    async def ask(client: MgmtdClient) -> tuple[Account, Mapping[int, str]]:
        admin = SecurityAdmin(client)
        names = await names_of_groups(admin)
        wanted = request
        if own:
            wanted = msgspec.structs.replace(wanted, gid=gids_of(own, names)[0])
        if others:
            wanted = msgspec.structs.replace(wanted, groups=gids_of(others, names))
        return await admin.put_user(wanted), names or {}

    return ask_manager(manager_addresses_of(cluster), ask)


@app.command()
def token(
    name: Name,
    called: Annotated[str, typer.Option("--name", help="what it is for")] = "",
    lifetime: Annotated[str, typer.Option(help="how long it is good: 12h, 90d; 0: for ever")] = "90d",
    revoke: Annotated[str, typer.Option(metavar="ID", help="revoke this token of the user, instead of making one")] = "",
    file: TokenFile = None,
    cluster: Where = None,
) -> None:
    """Make a token for a user and print it, once: the cluster keeps what it can be checked by, and no copy. Or revoke one."""
    from fs3.client.mgmtd.security_admin import SecurityAdmin

    addresses = manager_addresses_of(cluster)
    if revoke:
        ask_manager(addresses, lambda client: SecurityAdmin(client).revoke(name, revoke))
        sys.stdout.write(f"token {revoke} of user {name!r} is revoked\n")
        return
    lifetime_ms = parse_lifetime(lifetime)
    with token_place(file) as hand_out:
        hand_out(ask_manager(addresses, lambda client: SecurityAdmin(client).add_token(name, called, lifetime_ms)))


def parse_lifetime(text: str) -> int:
    """Milliseconds that a token is good; 0: for ever, which only "0" says. FS3Error INVALID."""
    if text == "0":
        return 0
    found = parse_duration(text)
    if not MILLISECOND <= found <= _LIFETIME_NS_MAX:
        raise error(Code.INVALID, f"--lifetime {text}: 1ms to {_LIFETIME_NS_MAX // DAY}d, or 0: for ever")
    return found // MILLISECOND


@contextmanager
def token_place(file: Path | None) -> Iterator[Callable[[str], None]]:
    """What to call with a token that is made in the block. It is shown once, so its place is there before it is: a new file,
    which only this user can read, and which vanishes when there is no token for it; or standard output. FS3Error when there is
    such a file already."""
    if file is None:
        yield lambda made: _print_token(made)
        return
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise error(Code.EXISTS, "there is such a file already", str(file)) from None
    is_needed = False

    def write(made: str) -> None:
        nonlocal is_needed
        try:
            os.write(descriptor, f"{made}\n".encode())
            os.fsync(descriptor)
        except OSError:
            _print_token(made)  # it is all there is of it
            raise
        is_needed = True
        sys.stdout.write(f"the token is in {file}, which only its owner can read\n")

    try:
        yield write
    finally:
        os.close(descriptor)
        if not is_needed:
            file.unlink(missing_ok=True)


def _print_token(made: str) -> None:
    sys.stdout.write(f"{made}\n")


@app.command("list")
def list_users(cluster: Where = None, as_json: AsJson = False) -> None:
    """Show the users, their groups and their tokens, without the secrets."""
    from fs3.client.mgmtd.security_admin import SecurityAdmin

    async def ask(client: MgmtdClient) -> tuple[list[Account], Mapping[int, str]]:
        admin = SecurityAdmin(client)
        return await admin.list_users(), await names_of_groups(admin) or {}

    found, names = ask_manager(manager_addresses_of(cluster), ask)
    if as_json:
        print_json({"users": [account_document(account, names) for account in found]})
        return
    rows = [
        (
            account.name,
            str(account.uid),
            ",".join(names.get(gid, str(gid)) for gid in (account.gid, *account.groups)),
            account.tenant,
            ", ".join(_roles(account)),
            ", ".join(f"{each.id}{f' ({each.name})' if each.name else ''} {_state(each)}" for each in account.tokens),
        )
        for account in found
    ]
    print_table(("user", "uid", "groups", "tenant", "", "tokens"), rows)


@app.command()
def rm(name: Name, cluster: Where = None) -> None:
    """Forget a user and its tokens; who is logged in as it has no rights any more within two seconds. Its files stay."""
    from fs3.client.mgmtd.security_admin import SecurityAdmin

    ask_manager(manager_addresses_of(cluster), lambda client: SecurityAdmin(client).remove_user(name))
    sys.stdout.write(f"user {name!r} is removed\n")


def account_document(account: Account, names: Mapping[int, str]) -> dict[str, Any]:
    """A user as JSON. `names`: of groups, by gid."""
    return {
        "name": account.name,
        "uid": account.uid,
        "gid": account.gid,
        "groups": list(account.groups),
        "group_names": {str(gid): names[gid] for gid in (account.gid, *account.groups) if gid in names},
        "tenant": account.tenant,
        "admin": account.is_admin,
        "service": account.is_service,
        "acts_for_others": account.acts_for_others,
        "reads_metrics": account.reads_metrics,
        "disabled": account.is_disabled,
        "certificates": list(account.certificates),
        "tokens": [
            {
                "id": each.id,
                "name": each.name,
                "made_ms": each.made_ms,
                "expires_ms": each.expires_ms,
                "over": why_token_over(each, _now_ms()),
            }
            for each in account.tokens
        ],
    }


def _roles(account: Account) -> list[str]:
    said = {
        "admin": account.is_admin,
        "service": account.is_service,
        "acts for others": account.acts_for_others,
        "reads metrics": account.reads_metrics,
        "disabled": account.is_disabled,
        "certificate": bool(account.certificates),
    }
    return [name for name, is_so in said.items() if is_so]


def _state(each: UserToken) -> str:
    if over := why_token_over(each, _now_ms()):
        return over
    return time.strftime("until %Y-%m-%d", time.localtime(each.expires_ms / 1000)) if each.expires_ms else "for ever"


def _now_ms() -> int:
    return time.time_ns() // MILLISECOND
