"""Endpoints as people and servers write them."""

import pytest

from fs3.base.errors import InvalidArgument
from fs3.wire.endpoints import SOCKET_PATH_BYTES_MAX, format_host_port, parse_host_port, parse_socket_path, split_endpoint


@pytest.mark.parametrize(
    ("endpoint", "host", "port"),
    [("tcp://127.0.0.1:8000", "127.0.0.1", 8000), ("tcp://[::1]:0", "::1", 0), ("tcp://node-1.lan:65535", "node-1.lan", 65535)],
)
def test_hosts_and_ports(endpoint: str, host: str, port: int) -> None:
    assert parse_host_port(endpoint, "tcp") == (host, port)
    assert format_host_port("tcp", host, port) == endpoint


@pytest.mark.parametrize(
    "endpoint",
    ["tcp://", "tcp://host", "tcp://:80", "tcp://host:", "tcp://host:x", "tcp://host:65536", "tcp://host:-1", "tcp://::1:80",
     "tcp://host:٣", "grpc://host:80", "host:80", ""],
)  # fmt: skip
def test_what_is_no_host_and_port_is_refused_by_name(endpoint: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_host_port(endpoint, "tcp")
    assert repr(endpoint) in str(caught.value)


def test_socket_paths() -> None:
    assert parse_socket_path("local:///run/fs3/s.sock") == "/run/fs3/s.sock"
    assert parse_socket_path("local:///" + "é" * 53) == "/" + "é" * 53
    for bad in ("local://relative", "local:///" + "x" * SOCKET_PATH_BYTES_MAX, "local:///" + "é" * 54, "local:///a\0b"):
        with pytest.raises(InvalidArgument, match="local:///"):
            parse_socket_path(bad)


def test_the_scheme_comes_first() -> None:
    assert split_endpoint("memory://a://b") == ("memory", "a://b")
    for bad in ("", "x", "://x", "x://"):
        with pytest.raises(InvalidArgument):
            split_endpoint(bad)
