"""`fs3 cluster`: make a cluster of machines, have machines join it, and say which may."""

from __future__ import annotations

import getpass
import logging
import socket
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from fs3.api.tls import remember_tls
from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.base.units import MILLISECOND
from fs3.cli.machine_directory import MachineIdentity, ensure_identity, load_identity
from fs3.cli.manager_client import ask_manager
from fs3.cli.node_config import DEFAULT_PATH, MachineConfig, load_node_config
from fs3.cli.operator_keys import use_machine
from fs3.cli.output import print_json, print_table
from fs3.cli.settings_text import parse_changes
from fs3.cli.users import parse_lifetime
from fs3.cli.where import HELP as where_help
from fs3.cli.where import manager_addresses_of
from fs3.core.membership.machines import why_over
from fs3.drivers.tls.credentials import TlsFiles
from fs3.model.machine import Joined, JoinToken, MachineList

app = typer.Typer(name="cluster", help="A cluster of several machines: make it, join it, see who has.", no_args_is_help=True)
tokens = typer.Typer(name="token", help="Tokens with which machines join.", no_args_is_help=True)
app.add_typer(tokens)

ConfigFile = Annotated[Path, typer.Option("--config", help="TOML file of this machine")]
AsJson = Annotated[bool, typer.Option("--json", help="machine-readable")]
Uses = Annotated[int, typer.Option(help="machines that may join with the token")]
Addresses = Annotated[
    list[str] | None,
    typer.Option("--address", help="one more name or address of the machine, for its certificate; may be repeated"),
]
Lifetime = Annotated[str, typer.Option(help="how long the token is good for, e.g. 30m, 24h; 0: for ever")]


def author() -> str:
    """Who asks, as the history of settings shows it: "root@h1"."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


@app.command("init")
def initialise_cluster(
    config: ConfigFile = DEFAULT_PATH,
    storage_nodes: Annotated[int, typer.Option(help="storage processes to wait for before chains are made")] = 3,
    replicas: Annotated[int, typer.Option(help="copies of every chunk")] = 3,
    targets: Annotated[int, typer.Option(help="targets of each storage process")] = 2,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="a setting of docs/settings.md; may be repeated")
    ] = None,
    uses: Uses = 64,
    lifetime: Lifetime = "24h",
    tls: Annotated[
        bool, typer.Option("--tls", help="make an authority, with which managers issue certificates of machines")
    ] = False,
    address: Addresses = None,
    as_json: AsJson = False,
) -> None:
    """Make a cluster, on its first machine and once: its identity, its settings, and a token for the other machines."""
    from fs3.cli.cluster_init import make_cluster

    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    found = load_node_config(config)
    given = {key: value for key, value in parse_changes(settings or []).items() if value is not None}
    values = {"cluster.storage_nodes": storage_nodes, "cluster.replicas": replicas, "cluster.targets_per_node": targets} | given
    if address and not tls:
        raise error(Code.INVALID, "--address is of the certificate that --tls makes")
    first = None
    if tls:
        from fs3.cli.machine_certificates import FirstCertificate

        first = FirstCertificate(found, address or [])
    try:
        cluster, token = make_cluster(found, values, author(), uses, parse_lifetime(lifetime), first)
    except FS3Error:
        if first is not None:
            first.withdraw()
        raise
    if as_json:
        print_json({"cluster": cluster.hex(), "name": found.cluster, "token": token})
        return
    sys.stdout.write(
        f"cluster {found.cluster!r} ({cluster.hex()}) is made, machine {found.machine!r} has joined it\n"
        f"on each other machine: fs3 cluster join --config {config} --token {token}\n"
    )


@app.command()
def join(
    token: Annotated[str, typer.Option(help="as `fs3 cluster init` or `token create` printed it", envvar="FS3_TOKEN")],
    config: ConfigFile = DEFAULT_PATH,
    address: Addresses = None,
    as_json: AsJson = False,
) -> None:
    """Have this machine join a cluster, and bring its certificate where it speaks TLS. Once; running it again does nothing."""
    found = load_node_config(config)
    identity = ensure_identity(found.data_dir, found.machine)
    if token.startswith("fs3u-"):
        told = "this is a token of a user (perhaps the one in FS3_TOKEN): machines join with one of `fs3 cluster token create`"
        raise error(Code.INVALID, told)
    if identity.cluster and not token.startswith(f"fs3-{identity.cluster.hex()[:8]}-"):
        told = (
            f"this machine belongs to cluster {identity.cluster_name!r} ({identity.cluster.hex()}), the token is of another one: "
            "a machine of two clusters has a data_dir for each"
        )
        raise error(Code.WRONG_CLUSTER, told, str(found.data_dir))
    joined = _ask_to_join(found, identity, token, address or [])
    identity.join(joined.cluster, joined.name)
    if as_json:
        print_json({"cluster": joined.cluster.hex(), "name": joined.name, "machine": found.machine})
    else:
        sys.stdout.write(f"machine {found.machine!r} has joined cluster {joined.name!r} ({joined.cluster.hex()})\n")


def _ask_to_join(found: MachineConfig, identity: MachineIdentity, token: str, address: list[str]) -> Joined:
    """Join, and put the certificate into place that comes with it."""
    from fs3.cli.machine_certificates import draft_certificate

    draft = draft_certificate(found, address)
    if draft is None and address:
        raise error(Code.INVALID, "--address is of a certificate: there is no [tls] section, or the machine has one already")
    if draft is not None and draft.knows_authority:
        remember_tls(found.managers, TlsFiles(draft.files.ca))
    joined = ask_manager(
        found.managers,
        lambda client: client.join(token, found.machine, identity.proof.key, draft.wish if draft is not None else None),
        logs_in=False,
        # Whatever answers: what does not know the token can neither read what is asked nor give an answer.
        believes_all=draft is not None and not draft.knows_authority,
    )
    if draft is not None:
        draft.store(joined.certificate)
    return joined


@app.command("machines")
def list_machines(
    where: Annotated[str | None, typer.Argument(help=where_help, metavar="CLUSTER")] = None, as_json: AsJson = False
) -> None:
    """Show the machines that have joined."""
    found = _ask_list(where)
    if as_json:
        machines = [{"machine": each.name, "joined_ms": each.joined_ms, "token": each.token_id} for each in found.machines]
        print_json({"closed": found.is_closed, "machines": machines})
        return
    if not found.is_closed:
        sys.stdout.write("this cluster was made without `fs3 cluster init`: every node may join it\n")
        return
    rows = [(each.name, _moment(each.joined_ms), each.token_id or "made the cluster") for each in found.machines]
    print_table(("machine", "joined", "token"), rows)


@app.command()
def remove(
    machine: Annotated[str, typer.Argument(metavar="MACHINE", help="as `fs3 cluster machines` shows it")],
    comes_back: Annotated[
        bool, typer.Option("--comes-back", help="it is to join again with the disks it has: its nodes keep their targets")
    ] = False,
    config: ConfigFile = DEFAULT_PATH,
) -> None:
    """Have a machine belong to the cluster no more: its nodes are refused from now on. It must have stopped, and hold nothing."""
    found, identity = joined_machine(config)
    ask_manager(found.managers, lambda client: client.remove_machine(identity.proof, machine, comes_back=comes_back))
    sys.stdout.write(f"machine {machine!r} belongs to cluster {identity.cluster_name!r} no more\n")


@tokens.command()
def create(
    config: ConfigFile = DEFAULT_PATH,
    uses: Uses = 1,
    lifetime: Lifetime = "24h",
    address: Annotated[
        list[str] | None,
        typer.Option(
            help="a certificate may be for this name or address, wherever its machine is seen; may be repeated; on the machine "
            "that made the cluster, or as an administrator"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a token, on a machine that has joined."""
    from fs3.cli.cluster_init import draw_token

    found, identity = joined_machine(config)
    drawn = draw_token(uses, addresses=tuple(address or ()))
    made = ask_manager(found.managers, lambda client: client.make_token(identity.proof, drawn.stored, parse_lifetime(lifetime)))
    text = drawn.text(identity.cluster)
    if as_json:
        print_json({"token": text, **_token_document(made)})
    else:
        sys.stdout.write(f"{text}\n")


@tokens.command()
def revoke(
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="the token, or its id")], config: ConfigFile = DEFAULT_PATH
) -> None:
    """Have no machine join with a token any more. Machines that have joined with it stay."""
    found, identity = joined_machine(config)
    parts = token.split("-")
    number = parts[2] if len(parts) == 4 else token
    revoked = ask_manager(found.managers, lambda client: client.revoke_token(identity.proof, number))
    sys.stdout.write(f"token {revoked.id} is revoked\n")


@tokens.command("list")
def list_tokens(
    where: Annotated[str | None, typer.Argument(help=where_help, metavar="CLUSTER")] = None, as_json: AsJson = False
) -> None:
    """Show the tokens, without their secrets."""
    found = _ask_list(where)
    if as_json:
        print_json({"tokens": [_token_document(token) for token in found.tokens]})
        return
    rows = [
        (
            token.id,
            _moment(token.made_ms),
            _moment(token.expires_ms) if token.expires_ms else "never",
            f"{len(token.used_by)} of {token.uses_max}",
            ", ".join(token.used_by),
            why_over(token, _now_ms()) or "good",
        )
        for token in found.tokens
    ]
    print_table(("token", "made", "expires", "used", "by", ""), rows)


def joined_machine(config: Path) -> tuple[MachineConfig, MachineIdentity]:
    """This machine, which has joined a cluster; FS3Error when it has not."""
    found = load_node_config(config)
    identity = load_identity(found.data_dir)
    identity.require_cluster()
    use_machine(identity.proof)
    return found, identity


def _ask_list(where: str | None) -> MachineList:
    return ask_manager(manager_addresses_of(where), lambda client: client.list_machines())


def _token_document(token: JoinToken) -> dict[str, Any]:
    return {
        "id": token.id,
        "made_ms": token.made_ms,
        "expires_ms": token.expires_ms,
        "uses_max": token.uses_max,
        "used_by": list(token.used_by),
        "addresses": list(token.addresses),
        "over": why_over(token, _now_ms()),
    }


def _now_ms() -> int:
    return time.time_ns() // MILLISECOND


def _moment(at_ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_ms / 1000))
