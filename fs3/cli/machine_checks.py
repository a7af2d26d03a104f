"""What is looked at on a machine before it serves: ports, names, clock, disks, network, versions, the engine.

Each check answers with one outcome for each thing it looks at. *Bad* is what keeps the machine from serving, or would lose data;
*warn* what makes it slow or surprising. A check changes nothing but two small files on each disk, which it removes.
"""

from __future__ import annotations

import os
import platform
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from fs3.base.errors import FS3Error
from fs3.base.units import format_size
from fs3.base.version import __version__
from fs3.cli.node_config import MachineConfig
from fs3.cli.options import ServiceRole
from fs3.core.health.problems import disk_warn_free_bytes_min, is_nearly_full
from fs3.wire.endpoints import is_loopback_address

connect_seconds = 2.0
"""A port of another machine that does not answer for so long is not reached."""
fsyncs = 12
"""Small writes, each made durable, of which the median is looked at."""
fsync_seconds_min = 30e-6
"""No disk makes a write durable sooner: one that says so has a cache, and loses what is in it when the power fails."""
fsync_seconds_slow = 20e-3
"""A write that waits for a disk longer than this makes every small file slow."""
clock_seconds_bad = 60.0
clock_seconds_warn = 2.0
"""What the clocks of two machines may be apart. No decision depends on it: times of files do, and when tokens expire."""
mtu_min = 1280
"""Of IPv6; less breaks connections, mostly on tunnels."""
mtu_jumbo = 9000
_GOOD_FILE_SYSTEMS = frozenset({"xfs", "ext4"})
_BAD_FILE_SYSTEMS = {
    "tmpfs": "everything is gone with the power",
    "ramfs": "everything is gone with the power",
    "nfs": "the disk is on another machine, which replicas are there to do without",
    "nfs4": "the disk is on another machine, which replicas are there to do without",
    "cifs": "the disk is on another machine, which replicas are there to do without",
    "fuse.fs3": "this is fs3 itself",
    "overlay": "it is the writable layer of a container, gone with it",
}
_NET = Path("/sys/class/net")
_RDMA = Path("/sys/class/infiniband")


class CheckOutcome(StrEnum):
    """Of one thing that was looked at."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class MachineCheck:
    """What was found."""

    name: str
    subject: str
    """What was looked at: a port, a disk, a name."""
    outcome: CheckOutcome
    told: str
    remedy: str = ""
    """What a person can do."""


def run_checks(config: MachineConfig, *, running: bool) -> list[MachineCheck]:
    """All of them, in the order in which one would look. `running`: its own ports are in use by its own processes."""
    checks: tuple[Callable[[], Iterator[MachineCheck]], ...] = (
        check_versions,
        lambda: check_names(config),
        lambda: check_ports(config, running=running),
        lambda: check_disks(config),
        lambda: check_network(config),
        check_rdma,
        lambda: check_engine(config),
        lambda: check_managers(config),
    )
    return [found for check in checks for found in check()]


# --- this machine ------------------------------------------------------------------------------------------------------


def check_versions() -> Iterator[MachineCheck]:
    """Python, the kernel, and what the services need installed."""
    found = f"fs3 {__version__}, Python {platform.python_version()}, Linux {platform.release()}"
    yield MachineCheck("versions", "this machine", CheckOutcome.OK, found)
    for module, package in (("grpc", "grpcio"), ("lmdb", "lmdb")):
        try:
            __import__(module)
        except ImportError as why:
            yield MachineCheck("versions", package, CheckOutcome.BAD, f"cannot be imported: {why}", "pip install 'fs3[server]'")
    if sys.platform != "linux":
        yield MachineCheck("versions", sys.platform, CheckOutcome.BAD, "services run on Linux")


def check_names(config: MachineConfig) -> Iterator[MachineCheck]:
    """Its own name and those of the managers lead somewhere."""
    for host in dict.fromkeys([config.address, *(manager.rpartition(":")[0].strip("[]") for manager in config.managers)]):
        try:
            found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
        except OSError as why:
            told = f"cannot be resolved: {why.strerror or why}"
            yield MachineCheck("names", host, CheckOutcome.BAD, told, "name it in DNS or /etc/hosts, or use its address")
            continue
        addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
        loops = (
            host == config.address
            and host not in ("localhost", *addresses)
            and all(is_loopback_address(each) for each in addresses)
        )
        outcome = CheckOutcome.WARN if loops else CheckOutcome.OK
        remedy = "the others may resolve it otherwise; look at /etc/hosts" if loops else ""
        yield MachineCheck("names", host, outcome, ", ".join(addresses), remedy)


def check_ports(config: MachineConfig, *, running: bool) -> Iterator[MachineCheck]:
    """Its ports are free."""
    try:
        listen = config.listen_address()
    except FS3Error as why:
        yield MachineCheck("ports", config.address, CheckOutcome.BAD, str(why))
        return
    for process in config.processes:
        for port in (process.port, process.port + 1):
            taken = why_not_free(listen, port)
            if taken and not running:
                told = f"{process.name} cannot listen on {listen}: {taken}"
                yield MachineCheck("ports", str(port), CheckOutcome.BAD, told, "stop what uses it, or set another `port`")
            elif running and not taken:
                yield MachineCheck("ports", str(port), CheckOutcome.WARN, f"free: {process.name} does not listen there")
            else:
                yield MachineCheck("ports", str(port), CheckOutcome.OK, f"{'in use' if running else 'free'}, {process.name}")


def why_not_free(host: str, port: int) -> str:
    """Why nothing can listen there; "" when a process can."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with closing(socket.socket(family, kind, protocol)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as why:
        return why.strerror or str(why)
    return ""


# --- disks ---------------------------------------------------------------------------------------------------------------


def check_disks(config: MachineConfig) -> Iterator[MachineCheck]:
    """Each directory in which the machine keeps something: there, writable, of a kind that keeps it, with room, and honest."""
    devices: dict[int, Path] = {}
    directories = [(config.data_dir, False)]
    if config.kv is not None:
        directories += [(directory, False) for directory in config.kv.directories]
    directories += [
        (directory, True)
        for process in config.processes
        if process.role is ServiceRole.storage
        for directory in process.directories
    ]
    for directory, holds_chunks in directories:
        place = _existing(directory)
        try:
            device = place.stat().st_dev
        except OSError as why:
            yield MachineCheck("disk", str(directory), CheckOutcome.BAD, why.strerror or str(why))
            continue
        yield from _check_file_system(directory, place)
        yield _check_space(directory, place)
        yield _check_durability(directory, place)
        if holds_chunks and device in devices:
            told = f"on the same file system as {devices[device]}"
            yield MachineCheck("disk", str(directory), CheckOutcome.WARN, told, "one directory for each disk")
        elif holds_chunks:
            devices[device] = directory


def _existing(directory: Path) -> Path:
    """The directory, or the nearest one above it that is there: what is missing is made when the machine serves."""
    while not directory.exists() and directory != directory.parent:
        directory = directory.parent
    return directory


def file_system_of(directory: Path, mounts: str) -> str:
    """The kind of file system a directory is on, by the lines of /proc/self/mounts; "" when they do not say."""
    best, kind = "", ""
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        point = fields[1].replace("\\040", " ")
        below = directory == Path(point) or Path(point) in directory.parents
        if below and len(point) >= len(best):
            best, kind = point, fields[2]
    return kind


def _check_file_system(directory: Path, place: Path) -> Iterator[MachineCheck]:
    with suppress(OSError):
        kind = file_system_of(place.resolve(), Path("/proc/self/mounts").read_text())
        if kind in _BAD_FILE_SYSTEMS:
            told = f"{kind}: {_BAD_FILE_SYSTEMS[kind]}"
            yield MachineCheck("file system", str(directory), CheckOutcome.BAD, told, "use a local disk with XFS or ext4")
        elif kind not in _GOOD_FILE_SYSTEMS:
            told = f"{kind or 'unknown'}: fs3 is measured on XFS and ext4"
            yield MachineCheck("file system", str(directory), CheckOutcome.WARN, told)
        else:
            yield MachineCheck("file system", str(directory), CheckOutcome.OK, kind)


def _check_space(directory: Path, place: Path) -> MachineCheck:
    usage = os.statvfs(place)
    free, total = usage.f_bavail * usage.f_frsize, usage.f_blocks * usage.f_frsize
    told = f"{format_size(free)} free of {format_size(total)}"
    if free < disk_warn_free_bytes_min:
        return MachineCheck("space", str(directory), CheckOutcome.BAD, told, f"{format_size(disk_warn_free_bytes_min)} at least")
    outcome = CheckOutcome.WARN if is_nearly_full(free, total) else CheckOutcome.OK
    return MachineCheck("space", str(directory), outcome, told)


def measure_fsync(directory: Path) -> float:
    """Seconds that a small write takes until it is durable: the median of some. OSError when the disk does not take it."""
    file = directory / f".fs3-doctor-{os.getpid()}"
    handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.pwrite(handle, bytes(4096), 0)
        os.fsync(handle)
        taken = []
        for number in range(fsyncs):
            began = time.perf_counter()
            os.pwrite(handle, os.urandom(4096), 4096 * number)
            os.fdatasync(handle)
            taken.append(time.perf_counter() - began)
        return statistics.median(taken)
    finally:
        os.close(handle)
        file.unlink()


def assess_fsync(seconds: float) -> tuple[CheckOutcome, str]:
    """What a time says of a disk, and what to do about it."""
    if seconds < fsync_seconds_min:
        return CheckOutcome.BAD, "no disk is so quick: its cache, or that of a virtual machine, says durable before it is"
    if seconds > fsync_seconds_slow:
        return CheckOutcome.WARN, "every change waits so long: take a disk with power loss protection"
    return CheckOutcome.OK, ""


def _check_durability(directory: Path, place: Path) -> MachineCheck:
    try:
        seconds = measure_fsync(place)
    except OSError as why:
        return MachineCheck("fsync", str(directory), CheckOutcome.BAD, f"cannot be written: {why.strerror or why}")
    outcome, remedy = assess_fsync(seconds)
    return MachineCheck("fsync", str(directory), outcome, f"{1e3 * seconds:.2f} ms for 4 KiB", remedy)


# --- the network ---------------------------------------------------------------------------------------------------------


def check_network(config: MachineConfig) -> Iterator[MachineCheck]:
    """The device that has the machine's address: its MTU."""
    device = _device_of(config)
    if not device:
        yield MachineCheck("mtu", config.address, CheckOutcome.SKIPPED, "it is not known which device has the address")
        return
    try:
        mtu = int((_NET / device / "mtu").read_text())
    except (OSError, ValueError) as why:
        yield MachineCheck("mtu", device, CheckOutcome.SKIPPED, f"cannot be read: {why}")
        return
    yield assess_mtu(device, mtu)


def assess_mtu(device: str, mtu: int) -> MachineCheck:
    """What the size of packets of a device says."""
    if mtu < mtu_min:
        return MachineCheck("mtu", device, CheckOutcome.BAD, f"{mtu}, less than IPv6 needs ({mtu_min})")
    if mtu < mtu_jumbo and device != "lo":
        told = f"{mtu}; {mtu_jumbo} costs less processor time for the same bytes, where all switches between the machines take it"
        return MachineCheck("mtu", device, CheckOutcome.OK, told)
    return MachineCheck("mtu", device, CheckOutcome.OK, str(mtu))


def _device_of(config: MachineConfig) -> str:
    """The network device with the machine's address, found by asking which one a connection from there uses."""
    try:
        address = socket.getaddrinfo(config.address, 0, type=socket.SOCK_STREAM)[0][4][0]
        devices = sorted(_NET.iterdir())
    except OSError:
        return ""
    for device in devices:
        if str(address) in _addresses_of(device.name):
            return device.name
    return ""


def _addresses_of(device: str) -> set[str]:
    """The addresses of a device, IPv4 and IPv6."""
    import fcntl
    import struct

    found = set()
    with suppress(OSError), closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as asking:
        reply = fcntl.ioctl(asking.fileno(), 0x8915, struct.pack("256s", device.encode()[:15]))  # SIOCGIFADDR
        found.add(socket.inet_ntoa(reply[20:24]))
    with suppress(OSError):
        for line in Path("/proc/net/if_inet6").read_text().splitlines():
            fields = line.split()
            if fields[-1] == device:
                found.add(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(fields[0])))
    return found


def check_rdma() -> Iterator[MachineCheck]:
    """RDMA devices, which are used when both ends have one and FS3_RDMA admits it; TCP is used otherwise."""
    try:
        devices = sorted(device.name for device in _RDMA.iterdir())
    except OSError:
        devices = []
    if not devices:
        yield MachineCheck("rdma", "devices", CheckOutcome.OK, "none: data travel by TCP")
    for device in devices:
        states = [_read(port / "state") for port in sorted((_RDMA / device / "ports").glob("*"))]
        active = any("ACTIVE" in state for state in states)
        told = ", ".join(states) or "no port"
        outcome = CheckOutcome.OK if active else CheckOutcome.WARN
        yield MachineCheck("rdma", device, outcome, told, "" if active else "no port is active: data travel by TCP")


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError as why:
        return why.strerror or str(why)


# --- the others ----------------------------------------------------------------------------------------------------------


def check_engine(config: MachineConfig) -> Iterator[MachineCheck]:
    """The members of etcd answer, where managers and metadata are kept there."""
    for endpoint in config.kv.endpoints if config.kv is not None else ():
        why = why_not_reached(endpoint)
        outcome = CheckOutcome.BAD if why else CheckOutcome.OK
        yield MachineCheck("engine", f"etcd {endpoint}", outcome, why or "reached", "is etcd started there?" if why else "")


def why_not_reached(address: str) -> str:
    """Why no connection to "host:port" comes about; "" when one does."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), connect_seconds).close()
    except OSError as why:
        return why.strerror or str(why)
    return ""


def check_managers(config: MachineConfig) -> Iterator[MachineCheck]:
    """The managers: reached, of a version that goes with this one, and of the same time of day. None need run yet."""
    for address in config.managers:
        why = why_not_reached(address)
        if why:
            told = f"{why}; until one of them runs, only managers serve here"
            yield MachineCheck("manager", address, CheckOutcome.WARN, told)
            continue
        yield MachineCheck("manager", address, CheckOutcome.OK, "reached")
        yield from _check_clock_and_version(address)


def _check_clock_and_version(address: str) -> Iterator[MachineCheck]:
    import asyncio

    from fs3.cli.manager_client import ask_cluster_of

    began = time.time()
    try:
        info = asyncio.run(ask_cluster_of(address))
    except FS3Error as why:
        yield MachineCheck("manager", address, CheckOutcome.WARN, f"does not answer as one: {why}")
        return
    outcome = CheckOutcome.OK if info.software == __version__ else CheckOutcome.WARN
    yield MachineCheck("versions", f"manager {address}", outcome, f"fs3 {info.software}, here {__version__}")
    if info.wall_ms:
        yield assess_clock(address, info.wall_ms / 1000 - (began + time.time()) / 2)


def assess_clock(address: str, apart: float) -> MachineCheck:
    """What the difference of two clocks, in seconds, says. Leases and elections go by no clock that can be set."""
    told = f"{apart:+.2f} s from here"
    if abs(apart) > clock_seconds_bad:
        told += ": times of files and the ends of tokens are wrong"
        return MachineCheck("clock", f"manager {address}", CheckOutcome.BAD, told, "run chrony or systemd-timesyncd")
    outcome = CheckOutcome.WARN if abs(apart) > clock_seconds_warn else CheckOutcome.OK
    return MachineCheck("clock", f"manager {address}", outcome, told)
