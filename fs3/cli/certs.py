"""`fs3 certs`: a private authority for those who have none, and what it issues."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from fs3.base.errors import error
from fs3.base.status import Code
from fs3.cli.manager_client import ask_manager
from fs3.cli.node_config import DEFAULT_PATH
from fs3.cli.output import print_json
from fs3.drivers.tls import private_authority
from fs3.model.machine import CertificateAuthority

app = typer.Typer(name="certs", help="Certificates for TLS, for those who have no authority of their own.", no_args_is_help=True)

Home = Annotated[Path, typer.Argument(metavar="DIR", help="where the authority is: ca.crt and ca.key")]


@app.command()
def init(
    directory: Home,
    name: Annotated[str, typer.Option(help="of the authority, for people")] = "fs3",
    days: Annotated[int, typer.Option(help="how long it is believed")] = private_authority.AUTHORITY_DAYS,
) -> None:
    """Make an authority. Its key (ca.key) makes certificates that the whole cluster believes: keep it off the machines."""
    _check_days(days)
    made = private_authority.make_authority(directory, name, days)
    sys.stdout.write(f"{made} is what every machine and client is given; {private_authority.CA_KEY} stays where it is\n")


@app.command()
def issue(
    directory: Home,
    name: Annotated[str, typer.Argument(metavar="NAME", help="of the machine (as in node.toml), or of the user")],
    address: Annotated[
        list[str] | None, typer.Option(help="name or address by which others reach the machine; may be repeated")
    ] = None,
    user: Annotated[bool, typer.Option("--user", help="of a user: it logs a client in, and serves nothing")] = False,
    organization: Annotated[str, typer.Option(help="of a user, as its subject names it")] = "",
    out: Annotated[Path | None, typer.Option(help="directory to write NAME.crt and NAME.key to; DIR when left out")] = None,
    days: Annotated[int, typer.Option(help="how long it is believed")] = private_authority.CERTIFICATE_DAYS,
) -> None:
    """Make a certificate and its key; what was issued for the same name before is replaced, and goes on being believed."""
    if f"{name}.key" == private_authority.CA_KEY:
        raise error(Code.INVALID, f"{name!r} is what the files of an authority are called: they would be replaced")
    _check_days(days)
    if user == bool(address):
        raise error(Code.INVALID, "--address says by what a machine is reached, --user that it is of none: one of the two")
    if organization and not user:
        raise error(Code.INVALID, "--organization is of users; that of machines is fixed")
    named = organization if user else private_authority.SERVICES
    made = private_authority.issue(directory, out or directory, name, address or [], organization=named, days=days)
    sys.stdout.write(f"{made} and {made.with_suffix('.key').name} are made\n")


@app.command()
def use(
    directory: Home,
    config: Annotated[Path, typer.Option("--config", help="TOML file of this machine")] = DEFAULT_PATH,
) -> None:
    """Have the managers issue certificates of machines with an authority, in place of the one they had. They get its key. On the
    machine that made the cluster, or as an administrator."""
    from fs3.cli.machines import joined_machine

    found, identity = joined_machine(config)
    authority = CertificateAuthority(*private_authority.read_authority(directory))
    ask_manager(found.managers, lambda client: client.set_authority(identity.proof, authority))
    (said,) = private_authority.describe(directory / private_authority.CA_CERT)
    sys.stdout.write(
        f"certificates of machines are issued with {said['subject']}, which is good until {said['not_after'][:10]}\n"
    )


@app.command()
def renew(
    config: Annotated[Path, typer.Option("--config", help="TOML file of this machine")] = DEFAULT_PATH,
    address: Annotated[list[str] | None, typer.Option(help="one more name or address of the machine; may be repeated")] = None,
    now: Annotated[bool, typer.Option("--now", help="also when it does not end soon")] = False,
) -> None:
    """Have the managers issue this machine's certificate anew when it ends within 30 days, with another key. No restart."""
    from fs3.cli.machine_certificates import RENEWED_DAYS, addresses_of, certificate_addresses, draft_certificate, require_tls
    from fs3.cli.machines import joined_machine

    found, identity = joined_machine(config)
    files = require_tls(found)
    left, is_for = private_authority.days_left(Path(files.cert)), certificate_addresses(files)
    if not private_authority.is_pair(Path(files.cert), Path(files.key)):
        told = f"it is not of the key in {files.key}: `fs3 cluster join` with a token brings another key and certificate"
        raise error(Code.CONFIG, told, files.cert)
    wanted = addresses_of(found, (*(address or ()), *is_for))
    if left > RENEWED_DAYS and set(wanted) <= set(is_for) and not now:
        sys.stdout.write(f"{files.cert} is good for {left:.0f} days more\n")
        return
    if left < 0:
        told = f"it ended {-left:.0f} days ago, and no process believes it: `fs3 cluster join` with a token brings another one"
        raise error(Code.CONFIG, told, files.cert)
    draft = draft_certificate(found, wanted, anew=True)
    assert draft is not None, "it speaks TLS"
    issued = ask_manager(found.managers, lambda client: client.renew_certificate(identity.proof, draft.wish))
    draft.store(issued)
    sys.stdout.write(
        f"{files.cert} is good for {private_authority.days_left(Path(files.cert)):.0f} days; it is read within a second\n"
    )


@app.command()
def show(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="PEM files of certificates")],
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable")] = False,
) -> None:
    """Say what certificates are of, for which addresses, and how long."""
    found = [{"file": str(file)} | said for file in files for said in private_authority.describe(file)]
    if as_json:
        print_json(found)
        return
    for said in found:
        sys.stdout.write("".join(f"{key:<11} {value}\n" for key, value in said.items() if value) + "\n")


def _check_days(days: int) -> None:
    if not 1 <= days <= 36500:
        raise error(Code.INVALID, f"--days {days}: 1 to 36500")
