"""The certificates of a cluster on this machine: DIR/tls.

    ca.crt, ca.key        its private authority; ca.crt is what clients are given
    <name>.crt, .key      of each process

Those of a process are made when it is started and there are none, or when they end soon. Where ca.key is not, they are made by
other means, and only used here.
"""

from __future__ import annotations

import datetime
from pathlib import Path

from fs3.base.errors import error
from fs3.base.status import Code
from fs3.cli.directory import ClusterDirectory, Shape
from fs3.drivers.tls import private_authority
from fs3.drivers.tls.credentials import TlsFiles

_RENEWED_DAYS = 30
"""A certificate that ends within so many days is made anew."""


def tls_home(directory: ClusterDirectory) -> Path:
    """Where they are."""
    return directory.path / "tls"


def client_files(directory: ClusterDirectory) -> TlsFiles:
    """What clients believe; they show no certificate."""
    return TlsFiles(str(tls_home(directory) / private_authority.CA_CERT))


def command_files(directory: ClusterDirectory) -> TlsFiles:
    """Of commands of the cluster's owner, who may act as its manager."""
    files = process_files(directory, "mgmtd")
    return files if Path(files.cert).exists() else client_files(directory)


def process_files(directory: ClusterDirectory, name: str) -> TlsFiles:
    """Of a process."""
    home = tls_home(directory)
    return TlsFiles(str(home / private_authority.CA_CERT), str(home / f"{name}.crt"), str(home / f"{name}.key"))


def ensure_certificates(directory: ClusterDirectory, shape: Shape, names: list[str]) -> None:
    """See to it that these processes have certificates. FS3Error NOT_FOUND for one that is missing and cannot be made here."""
    home = tls_home(directory)
    if not (home / private_authority.CA_CERT).exists():
        private_authority.make_authority(home, "fs3")
    makes = (home / private_authority.CA_KEY).exists()
    for name in names:
        if makes and not _is_good(home / f"{name}.crt", shape):
            private_authority.issue(home, home, name, addresses_of(shape), organization=private_authority.SERVICES)
        for each in (home / f"{name}.crt", home / f"{name}.key"):
            if not each.exists():
                raise error(Code.NOT_FOUND, f"a certificate of {name} is missing, and there is no ca.key to make one", str(each))


def addresses_of(shape: Shape) -> list[str]:
    """Names and addresses under which clients reach the processes."""
    wildcards = ("0.0.0.0", "::", "")
    found = ["localhost", "127.0.0.1", "::1", *(each for each in (shape.host, shape.advertise) if each not in wildcards)]
    return list(dict.fromkeys(found))


def _is_good(certificate: Path, shape: Shape) -> bool:
    """It is there, does not end soon, and is for the addresses there are now."""
    if not certificate.exists():
        return False
    (said, *_) = private_authority.describe(certificate)
    left = datetime.datetime.fromisoformat(said["not_after"]) - datetime.datetime.now(datetime.UTC)
    is_complete = set(addresses_of(shape)) <= set(said["addresses"].split(", "))
    return is_complete and left > datetime.timedelta(days=_RENEWED_DAYS)
