"""The suite of transports with every payload by RDMA over the devices of this host, where it has any."""

from __future__ import annotations

import asyncio
import gc
import os
from typing import Any

import pytest

from fs3.base.units import MIB, MINUTE
from fs3.drivers.framed.server_context import ServerLimits
from fs3.sim.conformance.transport_harness import PULL, pattern, replying
from fs3.wire.pb import storage_pb2
from tests.conformance import test_rdma
from tests.rdma.lab import DeviceLab, connected, device_problem, path_of, wait_for_path


@pytest.mark.skipif(bool(device_problem()), reason=f"no RDMA device: {device_problem()}")
class TestOverDevice(test_rdma.TestOverFabric):
    # A device that an emulated processor plays may need minutes for the largest payload.
    bounds = ServerLimits(send_stall_ns=10 * MINUTE, receive_stall_ns=10 * MINUTE, patience_ns=10 * MINUTE)

    @pytest.fixture(autouse=True)
    def _lab(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("fs3.drivers.rpc.channel.call_timeout_ns", 10 * MINUTE)
        self.lab: Any = DeviceLab()


@pytest.mark.skipif(bool(device_problem()), reason=f"no RDMA device: {device_problem()}")
async def test_a_forked_child_leaves_the_devices_alone() -> None:
    client = DeviceLab().host()
    data = pattern(1 * MIB)
    async with connected(client, DeviceLab().host(), {PULL: replying(data)}) as channel:
        await wait_for_path(channel)
        child = os.fork()
        if not child:
            gc.collect()
            path_of(channel)._reads.pair.close()  # does nothing to the parent's
            os._exit(0 if not client.is_usable else 1)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert status == 0
        before = client.fetched_bytes
        assert (await channel.call(PULL, storage_pb2.ReadRequest())).payload == data
        assert client.fetched_bytes == before + len(data)
