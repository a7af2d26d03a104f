"""The RDMA addresses of this host, as the kernel lists them in /sys/class/infiniband.

No library is needed to look. The network interface of an address is what the kernel says it is (`gid_attrs/ndevs`): VLANs and
bonded interfaces have names of their own, and a device's name tells nothing of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fs3.model.rdma import INFINIBAND, ROCE_V1, ROCE_V2, RdmaAddress
from fs3.wire.paths import is_address, path_addresses_max

SYSFS = Path("/sys/class/infiniband")
_KINDS = {"RoCE v2": ROCE_V2, "IB/RoCE v1": ROCE_V1}


class RdmaAddresses(NamedTuple):
    """What can be used, likely ones first, and why the rest cannot."""

    usable: tuple[RdmaAddress, ...]
    rejected: tuple[str, ...]


def list_addresses(allowed: Sequence[str], sysfs: Path = SYSFS) -> RdmaAddresses:
    """The addresses of all ports that are active. `allowed`: names of devices, or of network interfaces; "any" admits all."""
    try:
        devices = sorted(sysfs.iterdir())
    except OSError:
        devices = []
    if not devices:
        return RdmaAddresses((), ("this host has no RDMA device",))
    usable: list[RdmaAddress] = []
    rejected: list[str] = []
    for device in devices:
        ports = sorted((device / "ports").glob("[0-9]*"))
        if not ports:
            rejected.append(f"{device.name} has no port")
        for port in ports:
            state = _read(port / "state").rpartition(": ")[2]
            found = _addresses(device.name, port)
            if state != "ACTIVE":
                rejected.append(f"{device.name}/{port.name} is {state or 'in no known state'}, not ACTIVE")
                continue
            admitted = [one for one in found if "any" in allowed or one.device in allowed or one.netdev in allowed]
            if not found:
                rejected.append(f"{device.name}/{port.name} has no address")
            elif not admitted:
                rejected.append(f"{device.name}/{port.name} is not among the devices allowed: {', '.join(allowed)}")
            usable += admitted
    known = {one for address in usable for one in (address.device, address.netdev)}
    named = {device.name for device in devices}
    rejected += [f"there is no {name!r}" for name in allowed if name != "any" and name not in known | named]
    usable.sort(key=lambda one: (one.kind != ROCE_V2, one.gid.startswith("fe80:"), one.device, one.port, one.gid_index))
    return RdmaAddresses(tuple(usable[:path_addresses_max]), tuple(rejected))


def _addresses(device: str, port: Path) -> list[RdmaAddress]:
    is_ethernet = _read(port / "link_layer") == "Ethernet"
    lid = 0 if is_ethernet else _number(_read(port / "lid"))
    found = []
    for entry in sorted((port / "gids").glob("[0-9]*"), key=lambda path: int(path.name)):
        gid = _read(entry).lower()
        if not is_address(gid):
            continue
        kind = _KINDS.get(_read(port / "gid_attrs" / "types" / entry.name), "")
        if not is_ethernet:
            kind = INFINIBAND
        if kind:
            netdev = _read(port / "gid_attrs" / "ndevs" / entry.name)
            found.append(RdmaAddress(device, int(port.name), int(entry.name), gid, kind, netdev, lid))
    return found


def _read(path: Path) -> str:
    """What a file of the kernel says; "" when it says nothing: entries of GID tables that are not in use cannot be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _number(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        return 0
