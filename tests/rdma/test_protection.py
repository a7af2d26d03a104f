"""What a peer can read, and what becomes of one that tries more: over a network without a device, and over this host's, if it has
any."""

from __future__ import annotations

import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fs3.base.units import MIB
from fs3.model.rdma import RemoteRegion
from fs3.sim.conformance.transport_harness import PLAIN, PULL, PUSH, echo, into, pattern, replying, summing, sums
from fs3.wire.paths import pack_offer, unpack_offer
from fs3.wire.pb import storage_pb2
from tests.rdma.lab import LABS, DeviceLab, FabricLab, connected, device_problem, path_of, wait_for_path

DATA = pattern(1 * MIB + 5)
BOTH = {PULL: replying(DATA), PUSH: summing, PLAIN: echo}
OTHER = 1 << 20
"""Number of a call that is not under way."""


@pytest.fixture(params=LABS)
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return FabricLab(tmp_path) if request.param == "fabric" else DeviceLab()


def _another_key(region: RemoteRegion, path: Any, other: Any) -> RemoteRegion:
    return replace(region, key=region.key ^ 0x5A5A)


def _beyond_its_end(region: RemoteRegion, path: Any, other: Any) -> RemoteRegion:
    return replace(region, length=region.length + 1)


def _before_its_beginning(region: RemoteRegion, path: Any, other: Any) -> RemoteRegion:
    return replace(region, address=region.address - 1)


def _of_another_connection(region: RemoteRegion, path: Any, other: Any) -> RemoteRegion:
    offer = other.lend(OTHER, (DATA,), len(DATA))
    return unpack_offer(offer)[0][0]


def _revoked(region: RemoteRegion, path: Any, other: Any) -> RemoteRegion:
    path._lending.revoke_all()
    return region


@pytest.mark.parametrize("change", [_another_key, _beyond_its_end, _before_its_beginning, _of_another_connection, _revoked])
async def test_what_is_not_offered_cannot_be_read(
    lab: Any, monkeypatch: pytest.MonkeyPatch, change: Callable[..., RemoteRegion]
) -> None:
    """The device of the lender refuses it, which ends the path, and the call goes on by TCP."""
    async with connected(lab.host(), lab.host(), BOTH) as channel, connected(lab.host(), lab.host(), BOTH) as beside:
        await wait_for_path(channel)
        await wait_for_path(beside)
        path, other = path_of(channel), path_of(beside)
        lend = path.lend

        def lend_and_say_else(number: int, parts: Any, length: int) -> bytes:
            (region,), _ = unpack_offer(lend(number, parts, length))
            return pack_offer([change(region, path, other)])

        with monkeypatch.context() as patched:
            patched.setattr(path, "lend", lend_and_say_else)
            reply = await channel.call(PUSH, storage_pb2.UpdateRequest(), (DATA,))
        assert sums(reply.message) == (len(DATA), zlib.crc32(DATA))
        using, why = path.describe()
        assert not using
        assert "a read has failed" in why
        if change is _of_another_connection:
            other.on_taken(OTHER)
        buffer = bytearray(len(DATA))
        await channel.call(PULL, storage_pb2.ReadRequest(), into=into(buffer))
        assert buffer == DATA
        assert other.describe()[0], "connections beside it go on"


_LOCKS_TOO_LITTLE = """
import ctypes, resource
resource.setrlimit(resource.RLIMIT_MEMLOCK, (64 << 10, 64 << 10))
words = (ctypes.c_uint32 * 6)()
head = (ctypes.c_uint32 * 2)(0x20080522, 0)
libc = ctypes.CDLL(None, use_errno=True)
assert not libc.capget(head, words), ctypes.get_errno()
words[0] &= ~(1 << 14)  # CAP_IPC_LOCK, which has no limit
assert not libc.capset(head, words), ctypes.get_errno()
from fs3.drivers.rdma.devices import list_addresses
from fs3.drivers.rdma.pyverbs_binding import load
from fs3.drivers.rdma.verbs import VerbsError
pair = load().queue_pair(list_addresses(("any",)).usable[0], 16)
memory = memoryview(bytearray(1 << 20))
try:
    pair.register(memory, is_remote=True)
    print("it was locked")
except VerbsError as problem:
    print(problem)
pair.close()
"""


@pytest.mark.skipif(bool(device_problem()), reason=f"no RDMA device: {device_problem()}")
def test_a_device_that_may_lock_too_little_memory_says_the_limit() -> None:
    ran = subprocess.run([sys.executable, "-c", _LOCKS_TOO_LITTLE], capture_output=True, text=True, timeout=240, check=True)
    assert (
        "refuses 1048576 bytes of memory: it can lock no more memory. The limit for this process (ulimit -l) is 64 KiB"
        in ran.stdout
    )
