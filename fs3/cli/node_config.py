"""What a machine of a cluster runs, as its TOML file says (`/etc/fs3/node.toml`), and the command line of each of its processes.

machine = "h1"                      # unique in the cluster; the host name when left out
data_dir = "/var/lib/fs3"           # its identity, and what its manager and metadata process keep
address = "10.9.0.1"                # name or address the others reach it by; IPv6 as well
managers = ["10.9.0.1", "10.9.0.2"] # where the managers are; port 8000 when left out
kv = "etcd://10.9.0.1:2379/fs3"     # or "lmdb:DIRECTORY": the rows of managers and metadata
metrics = "10.9.0.1:9400"           # metrics of its processes over HTTP, and a manager's page of the cluster; none when left out

insecure = true                     # listen there although the cluster has no security: whatever reaches it may do everything

[tls]                               # TLS is spoken, and nothing else
ca = "/etc/fs3/ca.crt"              # what every machine and client is given; these three in DATA_DIR/tls when left out
cert = "/etc/fs3/h1.crt"
key = "/etc/fs3/h1.key"

[mgmtd]                             # a section makes it run that role
[meta]
[[storage]]                         # one process for each group of disks
disks = ["/data/1", "/data/2"]
"""

from __future__ import annotations

import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fs3.api.tls import remember_tls
from fs3.api.url import is_ip_address, parse_addresses
from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.cli.directory import ClusterDirectory, host_port
from fs3.cli.options import ServiceRole, parse_metrics_port
from fs3.cli.stores import StoreLocation, parse_store
from fs3.core.membership.machines import MACHINE_NAME, is_machine_name, node_name
from fs3.drivers.tls.credentials import TlsFiles
from fs3.model.domain import Domain
from fs3.model.routing import Role
from fs3.runtime.config import load_config

DEFAULT_PATH = Path("/etc/fs3/node.toml")
MGMTD_PORT, META_PORT, STORAGE_PORT = 8000, 8002, 8010
"""Of the framed wire; gRPC is on the next one. Further storage processes take the next even ports."""


class ServiceSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[mgmtd]` and `[meta]`."""

    port: int = 0
    """Of the framed wire; 0: the default of the role."""


class StorageSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[[storage]]`: one process and its disks."""

    disks: list[str]
    """Directories, one on each disk."""
    port: int = 0


class TlsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[tls]`: PEM files. "": ca.crt, MACHINE.crt and MACHINE.key in DATA_DIR/tls."""

    ca: str = ""
    cert: str = ""
    key: str = ""


class NodeConfig(msgspec.Struct, frozen=True):
    """All of the file. `load_node_config` checks it as a whole."""

    data_dir: str
    address: str
    machine: str = ""
    listen: str = ""
    """Address to listen on; "": `address` where that is one, and all addresses where it is a name."""
    managers: list[str] = []
    kv: str = ""
    cluster: str = "fs3"
    """Name of the cluster, for people; `fs3 cluster init` makes it of this name."""
    zone: str = ""
    """The room or power supply that the machine stands in."""
    rack: str = ""
    """Its rack, within the zone."""
    insecure: bool = False
    """It may listen where others reach it although the cluster has no security."""
    tls: TlsSection | None = None
    metrics: str = ""
    """PORT (on 127.0.0.1) or HOST:PORT where its first process serves metrics over HTTP, each further one on the next port; a
    manager serves the page of the cluster there too. "": nothing is served."""
    mgmtd: ServiceSection | None = None
    meta: ServiceSection | None = None
    storage: list[StorageSection] = []


@dataclass(frozen=True)
class NodeProcess:
    """One process of the machine."""

    name: str
    """Of the node."""
    role: ServiceRole
    directories: tuple[Path, ...]
    """Where it keeps its data: the first one has its lock."""
    port: int
    store: StoreLocation | None


class MachineConfig:
    """A `NodeConfig` that makes sense, with what follows from it."""

    def __init__(self, config: NodeConfig, source: str) -> None:
        """FS3Error CONFIG naming the file and the key that is wrong."""
        self.source = source
        self.cluster = config.cluster
        self.machine = config.machine or socket.gethostname().partition(".")[0]
        if not is_machine_name(self.machine):
            raise self._wrong(f"machine {self.machine!r} is no name: {MACHINE_NAME}")
        self.data_dir = self._directory("data_dir", config.data_dir)
        self.address = _without_brackets(config.address)
        if not self.address or any(letter.isspace() or letter in "/,[]" for letter in self.address):
            raise self._wrong(f"address {config.address!r} is neither a name nor an address")
        if self.address in ("0.0.0.0", "::"):
            raise self._wrong(f"address {self.address}: the others cannot reach it by that; `listen` may be so")
        self.listen = _without_brackets(config.listen)
        for key, name in (("zone", config.zone), ("rack", config.rack)):
            if name and not is_machine_name(name):
                raise self._wrong(f"{key} {name!r} is no name: {MACHINE_NAME}")
        self._domain = Domain(config.zone, config.rack)
        self.kv = self._store(config)
        self.is_insecure = config.insecure
        self.tls = self._tls(config)
        self._metrics = config.metrics
        self.processes = tuple(self._list_processes(config))
        self._check_ports()
        self.managers = self._list_managers(config)

    def _wrong(self, what: str) -> Exception:
        return error(Code.CONFIG, f"{self.source}: {what}")

    def _directory(self, key: str, text: str) -> Path:
        path = Path(text)
        if not path.is_absolute():
            raise self._wrong(f"{key} {text!r} is no absolute path")
        return path

    def _tls(self, config: NodeConfig) -> TlsFiles | None:
        """The files of the machine's certificates; None: without TLS."""
        if config.tls is None:
            return None
        said, home = config.tls, self.data_dir / "tls"
        found = (
            self._directory(f"tls.{key}", getattr(said, key) or str(home / name))
            for key, name in (("ca", "ca.crt"), ("cert", f"{self.machine}.crt"), ("key", f"{self.machine}.key"))
        )
        return TlsFiles(*map(str, found))

    def _store(self, config: NodeConfig) -> StoreLocation | None:
        if not config.kv:
            if config.mgmtd is not None or config.meta is not None:
                role = "mgmtd" if config.mgmtd is not None else "meta"
                raise self._wrong(f'[{role}] needs kv: "etcd://host:port,host:port/NAME" or "lmdb:DIRECTORY"')
            return None
        try:
            return parse_store(config.kv, "kv")
        except ValueError as wrong:
            raise self._wrong(str(wrong)) from None

    def _list_processes(self, config: NodeConfig) -> list[NodeProcess]:
        found = []
        for role, section, port in (
            (ServiceRole.mgmtd, config.mgmtd, MGMTD_PORT),
            (ServiceRole.meta, config.meta, META_PORT),
        ):
            if section is not None:
                name = node_name(self.machine, Role[role.name.upper()])
                found.append(NodeProcess(name, role, (self.data_dir / role,), section.port or port, self.store_of(role)))
        for number, storage in enumerate(config.storage, 1):
            if not storage.disks:
                raise self._wrong(f"[[storage]] number {number} has no disks")
            disks = tuple(self._directory("disks", disk) for disk in storage.disks)
            name = node_name(self.machine, Role.STORAGE, number)
            found.append(NodeProcess(name, ServiceRole.storage, disks, storage.port or STORAGE_PORT + 2 * (number - 1), None))
        if not found:
            raise self._wrong("nothing is to run: there is no [mgmtd], [meta] or [[storage]]")
        used: dict[Path, str] = {}
        for process in found:
            for directory in process.directories:
                if directory in used:
                    raise self._wrong(f"{directory} is of {used[directory]} and of {process.name}")
                used[directory] = process.name
        return found

    def store_of(self, role: ServiceRole) -> StoreLocation | None:
        """Where the rows of a role are: on LMDB, each role has a directory of its own."""
        if self.kv is None or self.kv.directory is None:
            return self.kv
        return StoreLocation(self.kv.directory / role)

    def _check_ports(self) -> None:
        used: dict[int, str] = {}
        for process in self.processes:
            for port in (process.port, process.port + 1):
                if not 0 < port < 65536:
                    raise self._wrong(f"port {port} of {process.name}: ports are 1 to 65535")
                if port in used:
                    raise self._wrong(f"port {port} is of {used[port]} and of {process.name}: gRPC is on the one after `port`")
                used[port] = process.name
        for place, process in enumerate(self.processes):
            port = self._metrics_port(place)[1]
            if port > 65535:
                raise self._wrong(f"metrics {self._metrics!r}: each process takes a port, and {process.name} would get {port}")
            if port in used:
                raise self._wrong(f"port {port} is of {used[port]} and of the metrics of {process.name}: one for each process")

    def _metrics_port(self, place: int) -> tuple[str, int]:
        """Where a process serves its metrics; port 0: nowhere."""
        if not self._metrics:
            return "", 0
        try:
            host, port = parse_metrics_port(self._metrics)
        except FS3Error:
            raise self._wrong(f"metrics {self._metrics!r} is not PORT or HOST:PORT") from None
        return host, port + place

    def _list_managers(self, config: NodeConfig) -> tuple[str, ...]:
        own = [process for process in self.processes if process.role is ServiceRole.mgmtd]
        if not config.managers and not own:
            raise self._wrong("managers says nothing: host or host:port of the managers of the cluster")
        try:
            named = [address for text in config.managers for address in parse_addresses(text, self.source)]
        except ValueError as wrong:
            raise self._wrong(f"managers: {wrong}") from None
        return tuple(named) or (host_port(self.address, own[0].port),)

    def listen_address(self) -> str:
        """Where its processes listen. FS3Error CONFIG when the name it has cannot be resolved."""
        if self.listen or is_ip_address(self.address):
            return self.listen or self.address
        try:
            families = {found[0] for found in socket.getaddrinfo(self.address, 0, type=socket.SOCK_STREAM)}
        except OSError as why:
            raise self._wrong(f"address {self.address!r} cannot be resolved: {why.strerror or why}") from why
        return "0.0.0.0" if socket.AF_INET in families else "::"

    def socket_path(self, process: NodeProcess) -> Path:
        """Its local endpoint."""
        return ClusterDirectory(self.data_dir).socket_path(process.name)

    def command(self, process: NodeProcess) -> list[str]:
        """The command line of one of its processes."""
        listen = self.listen_address()
        command = [
            sys.executable, "-P", "-m", "fs3.cli.main", "serve", process.role,
            "--name", process.name, "--data-dir", str(process.directories[0]), "--machine", str(self.data_dir),
            "--listen", host_port(listen, process.port), "--grpc-listen", host_port(listen, process.port + 1),
            "--local-listen", str(self.socket_path(process)), "--advertise", self.address,
        ]  # fmt: skip
        host, port = self._metrics_port(self.processes.index(process))
        if port:
            command += ["--metrics-port", host_port(host, port)]
        if process.role is ServiceRole.storage:
            command += ["--zone", self._domain.zone, "--rack", self._domain.rack]
        for disk in process.directories[1:]:
            command += ["--disk", str(disk)]
        if process.store is not None:
            command += ["--kv", str(process.store)]
        if self.tls is not None:
            command += ["--tls-ca", self.tls.ca, "--tls-cert", self.tls.cert, "--tls-key", self.tls.key]
        if self.is_insecure:
            command.append("--insecure")
        if process.role is not ServiceRole.mgmtd:
            command += ["--mgmtd", ",".join(self.managers)]
        return command


def load_node_config(path: Path) -> MachineConfig:
    """The file of a machine. FS3Error CONFIG naming the file and what is wrong in it: it cannot be read, is no TOML or only half
    of one, a key is unknown or missing, or what it says makes no sense."""
    found = MachineConfig(load_config(NodeConfig, path), str(path))
    if found.tls is not None:
        remember_tls(found.managers, found.tls)
    return found


def _without_brackets(host: str) -> str:
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host
