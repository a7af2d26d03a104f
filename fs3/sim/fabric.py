"""RDMA without a device: hosts with ports, a network between them, and what goes wrong with both.

It takes the place of the verbs library (`fs3.drivers.rdma.verbs`); what the kernel would list in /sys/class/infiniband is written
to a directory. Everything above is the product's own code.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fs3.drivers.rdma.verbs import Registration, VerbsError
from fs3.model.rdma import PathEnd, RdmaAddress


@dataclass(slots=True)
class FakePort:
    """A port of a device, with one address."""

    device: str
    gid: str
    kind: str = "RoCE v2"
    netdev: str = ""
    mtu: int = 1024
    state: str = "4: ACTIVE"
    link_layer: str = "Ethernet"
    is_connected: bool = True
    """Whether its packets reach any other port."""


@dataclass(slots=True)
class FakeFabric:
    """The network, and every queue pair on it. All of them on one event loop."""

    network_mtu: int = 4096
    """Packets that are longer are lost on the way, whatever the ports promise."""
    is_unresponsive: bool = False
    """Reads complete neither well nor badly."""
    is_garbling: bool = False
    """The first byte of what is read arrives changed."""
    locked_bytes_max: int = 1 << 40
    """Registering more fails, as it does beyond RLIMIT_MEMLOCK."""
    reads_held: int = 0
    """So many reads wait, from now on, until `release_held`."""
    tells_events: bool = True
    """Completions are told by a descriptor."""
    ports: list[FakePort] = field(default_factory=list)
    pairs: dict[int, FakeQueuePair] = field(default_factory=dict)
    locked_bytes: int = 0
    reads: int = 0
    """Completed well."""
    held: list[Callable[[], None]] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(17))

    def add(self, port: FakePort) -> FakePort:
        """A port more."""
        self.ports.append(port)
        return port

    def next_number(self) -> int:
        """Of a queue pair, or a key."""
        return next(self._numbers)

    def release_held(self) -> None:
        """The reads that wait go on."""
        held, self.held = self.held, []
        for one in held:
            one()


def write_sysfs(directory: Path, ports: list[FakePort]) -> Path:
    """What the kernel lists of the ports of one host."""
    directory.mkdir(parents=True, exist_ok=True)
    for number, port in enumerate(ports):
        at = directory / port.device / "ports" / "1"
        for name, text in (
            ("state", port.state),
            ("link_layer", port.link_layer),
            ("lid", "0x0"),
            (f"gids/{number}", port.gid),
            (f"gid_attrs/types/{number}", {"RoCE v1": "IB/RoCE v1"}.get(port.kind, port.kind)),
            (f"gid_attrs/ndevs/{number}", port.netdev),
        ):
            file = at / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{text}\n")
    return directory


class FakeVerbs:
    """`fs3.drivers.rdma.verbs.Verbs` of one host."""

    def __init__(self, fabric: FakeFabric) -> None:
        self._fabric = fabric
        self.is_forgotten = False

    def queue_pair(self, address: RdmaAddress, depth: int) -> FakeQueuePair:
        """See `Verbs.queue_pair`."""
        for port in self._fabric.ports:
            if port.device == address.device and port.gid == address.gid:
                return FakeQueuePair(self._fabric, port, depth)
        raise VerbsError(f"{address.device} refuses a queue pair: no such device")

    def forget(self) -> None:
        """See `Verbs.forget`."""
        self.is_forgotten = True


class FakeRegistration:
    """`fs3.drivers.rdma.verbs.Registration`."""

    def __init__(self, pair: FakeQueuePair, memory: memoryview, *, is_remote: bool) -> None:
        self._pair = pair
        self.memory = memory
        self.is_remote = is_remote
        self.key = pair.fabric.next_number()
        self.address = self.key << 32
        self.is_open = True
        pair.fabric.locked_bytes += len(memory)

    def close(self) -> None:
        """See `Registration.close`."""
        if self.is_open:
            self.is_open = False
            self._pair.fabric.locked_bytes -= len(self.memory)
            self._pair.registrations.pop(self.key, None)


class FakeQueuePair:
    """`fs3.drivers.rdma.verbs.QueuePair`."""

    def __init__(self, fabric: FakeFabric, port: FakePort, depth: int) -> None:
        self.fabric = fabric
        self.port = port
        self.number = fabric.next_number()
        self.mtu = port.mtu
        self.reads_max = depth
        self.registrations: dict[int, FakeRegistration] = {}
        self._theirs: PathEnd | None = None
        self._mtu = 0
        self._is_broken = False
        self._is_stuck = False
        self._is_closed = False
        self._posted = 0
        self._completed: list[tuple[int, str]] = []
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) if fabric.tells_events else -1
        self._loop = asyncio.get_running_loop()
        fabric.pairs[self.number] = self

    def register(self, memory: memoryview, *, is_remote: bool) -> Registration:
        """See `QueuePair.register`."""
        fabric = self.fabric
        if fabric.locked_bytes + len(memory) > fabric.locked_bytes_max:
            raise VerbsError(f"{self.port.device} refuses {len(memory)} bytes of memory: it can lock no more memory (ulimit -l)")
        found = FakeRegistration(self, memory, is_remote=is_remote)
        self.registrations[found.key] = found
        return found

    def connect(self, theirs: PathEnd, psn: int, mtu: int, reads_max: int) -> None:
        """See `QueuePair.connect`."""
        self._theirs = theirs
        self._mtu = mtu

    def read(self, number: int, into: Registration, offset: int, length: int, address: int, key: int) -> None:
        """See `QueuePair.read`."""
        assert isinstance(into, FakeRegistration)
        assert not self._is_closed
        assert self._posted < self.reads_max, "more reads than credits"
        self._posted += 1

        def carry_out() -> None:
            self._carry_out(number, into, offset, length, address, key)

        if self.fabric.reads_held:
            self.fabric.reads_held -= 1
            self.fabric.held.append(carry_out)
        else:
            self._loop.call_soon(carry_out)

    def _carry_out(self, number: int, into: FakeRegistration, offset: int, length: int, address: int, key: int) -> None:
        fabric = self.fabric
        # Reads of a queue pair complete in order: behind one that does not, none does.
        self._is_stuck = self._is_stuck or fabric.is_unresponsive
        if self._is_closed or self._is_stuck:
            return
        problem = "work request flushed" if self._is_broken else self._transfer(into, offset, length, address, key)
        if problem:
            self._is_broken = True
        else:
            fabric.reads += 1
        self._posted -= 1
        self._completed.append((number, problem))
        if self._fd >= 0:
            os.eventfd_write(self._fd, 1)

    def _transfer(self, into: FakeRegistration, offset: int, length: int, address: int, key: int) -> str:
        theirs = self._theirs
        assert theirs is not None
        other = self.fabric.pairs.get(theirs.qp_number)
        lost = (
            other is None
            or other.port.gid != theirs.gid
            or other._theirs is None
            or other._theirs.qp_number != self.number
            or not (self.port.is_connected and other.port.is_connected)
            or min(length, self._mtu) > self.fabric.network_mtu
        )
        if lost or other is None:
            return "transport retry counter exceeded"
        region = other.registrations.get(key)
        at = address - region.address if region is not None else 0
        if region is None or not region.is_remote or at < 0 or at + length > len(region.memory):
            other._is_broken = True
            return "remote access error"
        into.memory[offset : offset + length] = region.memory[at : at + length]
        if self.fabric.is_garbling:
            into.memory[offset] ^= 0xFF
        return ""

    def poll(self) -> list[tuple[int, str]]:
        """See `QueuePair.poll`."""
        found, self._completed = self._completed, []
        return found

    def fileno(self) -> int:
        """See `QueuePair.fileno`."""
        return self._fd

    def arm(self) -> None:
        """See `QueuePair.arm`."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._fd)

    def close(self) -> None:
        """See `QueuePair.close`."""
        if self._is_closed:
            return
        self._is_closed = True
        for registration in list(self.registrations.values()):
            registration.close()
        self.fabric.pairs.pop(self.number, None)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
