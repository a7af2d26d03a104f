"""The faulty network between processes: what is cut carries nothing, on old connections and new, and everything after healing."""

import contextlib
import os
import socket
import threading

import pytest

from fs3.cli.ports import free_ports
from fs3.drill import proxy
from fs3.drill.proxy import ADVERTISED, OUTSIDE, FaultyNetwork, owner_of

pytestmark = pytest.mark.skipif(not proxy.is_supported(), reason="needs 127.0.0.2 and /proc/net/tcp")


@pytest.fixture
def echo():
    """(port, network) of a server called "server" that sends back what it gets; this process is called "here"."""
    port = free_ports(1)
    listener = socket.create_server((proxy.REAL, port))

    def serve():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection):
        with contextlib.suppress(OSError), connection:
            while data := connection.recv(65_536):
                connection.sendall(data)

    threading.Thread(target=serve, daemon=True).start()
    with FaultyNetwork({"server": (port,)}, lambda: {"here": os.getpid()}) as network:
        yield port, network
    listener.close()


def connected(port: int) -> socket.socket:
    made = socket.create_connection((ADVERTISED, port))
    made.settimeout(20)
    return made


def is_silent(connection: socket.socket) -> bool:
    """Nothing arrives for a moment. (Too short a moment would not make the test fail, only weaker.)"""
    connection.settimeout(0.1)
    try:
        connection.recv(1)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(20)
    return False


def test_bytes_pass(echo):
    port, network = echo
    with connected(port) as one:
        data = os.urandom(300_000)
        one.sendall(data)
        got = b""
        while len(got) < len(data):
            got += one.recv(65_536)
        assert got == data
        assert network.count_connections("here", "server") == 1


@pytest.mark.parametrize("cut", [("here", "server"), ("server", "here")])
def test_a_one_way_cut(echo, cut):
    port, network = echo
    with connected(port) as old:
        old.sendall(b"a")
        assert old.recv(1) == b"a"
        network.cut(*cut, both_ways=False)
        old.sendall(b"b")
        assert is_silent(old)
        network.heal()
        assert old.recv(1) == b"b"


def test_new_connections_across_a_cut_wait(echo):
    port, network = echo
    network.cut("here", "server")
    with connected(port) as new:
        new.sendall(b"c")
        assert is_silent(new)
        network.heal()
        assert new.recv(1) == b"c"


def test_others_are_not_cut(echo):
    port, network = echo
    network.cut("somebody", "server")
    with connected(port) as one:
        one.sendall(b"d")
        assert one.recv(1) == b"d"


def test_a_connection_is_broken_off(echo):
    port, network = echo
    with connected(port) as one:
        one.sendall(b"e")
        assert one.recv(1) == b"e"
        assert network.drop_connections("here", "server") == 1
        with contextlib.suppress(ConnectionResetError):
            assert one.recv(1) == b""
    with connected(port) as again:
        again.sendall(b"f")
        assert again.recv(1) == b"f"


def test_an_isolated_process(echo):
    port, network = echo
    network.isolate("server")
    assert owner_of(1, {}) == OUTSIDE
    with connected(port) as one:
        one.sendall(b"g")
        network.heal()
        assert one.recv(1) == b"g"
