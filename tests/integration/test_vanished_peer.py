"""A host that vanishes: in a network namespace of its own, whose loopback drops every packet from some moment on."""

import shutil
import struct
import subprocess
import sys

import pytest

from fs3.base.limits import peer_unresponsive_ns
from fs3.base.units import MILLISECOND
from fs3.drivers.framed.tcp import has_vanished

PORT = 7000
SCRIPT = f"""
import asyncio, subprocess
from fs3.base.errors import FS3Error
from fs3.drivers.os.clock import OsClock
from fs3.drivers.framed.tcp import TcpTransport
from fs3.wire.methods import STORAGE
from fs3.wire.pb import storage_pb2 as pb

async def main():
    transport = TcpTransport(OsClock())
    unanswered = []
    bindings = {{STORAGE.Find: lambda call: call.reply(pb.FindReply()), STORAGE.GetSpace: unanswered.append}}
    listener = await transport.serve("tcp://127.0.0.1:{PORT}", bindings)
    waiting, idle = (transport.connect("tcp://127.0.0.1:{PORT}") for _ in range(2))
    for channel in (waiting, idle):
        await channel.call(STORAGE.Find, pb.FindRequest())
    call = waiting.start(STORAGE.GetSpace, pb.GetSpaceRequest())
    while not unanswered:
        await asyncio.sleep(0)
    for side in ("--dport", "--sport"):
        subprocess.run(["iptables", "-A", "INPUT", "-p", "tcp", side, "{PORT}", "-j", "DROP"], check=True)
    try:
        await call
    except FS3Error as failure:
        print(failure.code.name, failure)
    while idle._connection is not None or listener._connections:
        await asyncio.sleep(0.01)
    print("both sides have noticed")

asyncio.run(main())
"""


def in_a_namespace(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a network namespace of its own, with a loopback."""
    shell = 'ip link set lo up && exec "$@"'
    return subprocess.run(
        ["unshare", "--net", "sh", "-c", shell, "sh", *command], capture_output=True, text=True, timeout=60, check=False
    )


def namespaces_work() -> bool:
    """This user may make network namespaces and drop packets in them."""
    if not all(map(shutil.which, ("unshare", "ip", "iptables"))):
        return False
    return in_a_namespace("iptables", "-A", "INPUT", "-p", "tcp", "--dport", "1", "-j", "DROP").returncode == 0


@pytest.mark.skipif(not namespaces_work(), reason="needs network namespaces and iptables")
@pytest.mark.timeout(90)
def test_connections_to_a_vanished_host_are_closed():
    """One with a call under way, an idle one, and their other ends: no data is unacknowledged, only probes ask."""
    done = in_a_namespace(sys.executable, "-c", SCRIPT)
    assert "DISCONNECTED" in done.stdout, done.stdout + done.stderr
    assert "acknowledged nothing" in done.stdout
    assert "both sides have noticed" in done.stdout


def tcp_info(repetitions: int, probes: int, since_ms: int) -> bytes:
    """What the kernel says of a connection."""
    return struct.pack("=8B13I", 1, 0, repetitions, probes, 0, 0, 0, 0, *range(100, 112), since_ms)


@pytest.mark.parametrize(
    ("repetitions", "probes", "since_ms", "vanished"),
    [
        (0, 0, 60_000, False),  # nothing was asked
        (1, 0, peer_unresponsive_ns // MILLISECOND - 1, False),  # not for long enough
        (1, 0, peer_unresponsive_ns // MILLISECOND, True),
        (0, 2, peer_unresponsive_ns // MILLISECOND, True),
        (3, 0, 200, False),  # lossy, but there
    ],
)
def test_what_the_kernel_says(repetitions, probes, since_ms, vanished):
    assert has_vanished(tcp_info(repetitions, probes, since_ms)) is vanished


def test_a_kernel_that_says_less_is_not_believed():
    assert not has_vanished(tcp_info(9, 9, 99_999)[:40])
