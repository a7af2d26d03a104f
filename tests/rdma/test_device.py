"""The suite of transports with every payload by RDMA over the devices of this host, where it has any."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance import test_rdma
from tests.rdma.lab import DeviceLab, device_problem


@pytest.mark.skipif(bool(device_problem()), reason=f"no RDMA device: {device_problem()}")
class TestOverDevice(test_rdma.TestOverFabric):
    @pytest.fixture(autouse=True)
    def _lab(self) -> None:
        self.lab: Any = DeviceLab()
