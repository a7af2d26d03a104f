"""How every verb is told which cluster it is about: one rule for all of them.

| it says | which is |
|---|---|
| nothing | what FS3_CLUSTER names |
| `fs3://host:port[,host:port…]`, or the same without `fs3://` | managers; a missing port is 8000 |
| a directory | that of a cluster on this machine, or of embedded services |
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fs3.base.errors import error
from fs3.base.status import Code

if TYPE_CHECKING:
    from fs3.cli.directory import ClusterDirectory

HELP = "fs3://host:port or host:port of managers, or the data directory of a cluster on this machine; FS3_CLUSTER when left out"


def manager_addresses_of(where: str | None) -> list[str]:
    """ "host:port" of managers. Raises FS3Error INVALID when none are named, or the directory is of embedded services."""
    from fs3.api.url import cluster_addresses
    from fs3.cli.directory import ClusterDirectory
    from fs3.cli.operator_keys import use_directory

    if where is None:
        return cluster_addresses("fs3:///")
    if is_directory(where):
        if is_embedded(where):
            raise error(Code.INVALID, "embedded services have no managers", where)
        if not (Path(where) / "cluster.json").exists():
            raise error(Code.INVALID, "neither fs3://host:port nor the data directory of a cluster", where)
        use_directory(Path(where))
        return addresses_in(ClusterDirectory(Path(where)))
    return cluster_addresses(where)


def process_addresses_of(where: str | None) -> list[str]:
    """As `manager_addresses_of`; of embedded services, which a process has running, the manager's endpoint. Raises FS3Error
    NOT_FOUND when none has."""
    if where is None or not is_embedded(where):
        return manager_addresses_of(where)
    found = embedded_endpoint(Path(where))
    if not found:
        raise error(Code.NOT_FOUND, "no process has this directory open: its services run in the program that uses them", where)
    return [found]


def embedded_endpoint(directory: Path) -> str:
    """Of the manager of the embedded services that a process has running on a directory; "" when none has."""
    from fs3.cli.directory import ClusterDirectory

    if ClusterDirectory(directory).embedded_pid() is None:
        return ""
    # Of a long path the socket is elsewhere, by the path that the process was given.
    sockets = [ClusterDirectory(path).socket_path("mgmtd") for path in (directory.absolute(), directory.resolve())]
    return f"embedded://{next((path for path in sockets if path.exists()), sockets[0])}"


def addresses_in(directory: ClusterDirectory) -> list[str]:
    """The same, of a cluster on this machine; how they are spoken to is remembered."""
    from fs3.api.tls import remember_tls
    from fs3.cli.local_tls import command_files

    shape, _ = directory.require()
    addresses = shape.manager_addresses()
    if shape.tls:
        remember_tls(addresses, command_files(directory))
    return addresses


def is_directory(where: str) -> bool:
    """It is meant as a directory: there is one, or it cannot be an address."""
    return "://" not in where and ("/" in where or Path(where).is_dir())


def is_embedded(where: str) -> bool:
    """It is the directory of embedded services."""
    home = Path(where)
    return (
        is_directory(where) and not (home / "cluster.json").exists() and (home / "meta").is_dir() and (home / "storage").is_dir()
    )
