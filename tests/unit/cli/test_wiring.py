"""Where services look for the manager."""

from __future__ import annotations

import pytest

from fs3.base.errors import FS3Error
from fs3.cli.wiring import manager_endpoint


@pytest.mark.parametrize(
    ("address", "endpoint"),
    [
        ("mgmtd:8000", "tcp://mgmtd:8000"),
        ("[::1]:8000", "tcp://[::1]:8000"),
        ("tcp://mgmtd:8000", "tcp://mgmtd:8000"),
        ("grpc://mgmtd:8001", "grpc://mgmtd:8001"),
    ],
)
def test_a_manager_is_reached_on_the_framed_wire_unless_its_address_says_grpc(address: str, endpoint: str) -> None:
    assert manager_endpoint(address) == endpoint


@pytest.mark.parametrize("address", ["mgmtd", "mgmtd:port", "http://mgmtd:8000", "grpc://mgmtd", ""])
def test_what_is_no_address_is_named(address: str) -> None:
    with pytest.raises(FS3Error, match="--mgmtd"):
        manager_endpoint(address)
