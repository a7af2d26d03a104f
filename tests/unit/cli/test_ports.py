"""Ports that clusters of tests are given: no two processes are given the same."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

from fs3.cli.ports import free_ports

PROGRAM = """
import sys
from fs3.cli.ports import free_ports
print(*(free_ports(12) for _ in range(5)), flush=True)
sys.stdin.read()
"""


def test_processes_are_given_different_ones() -> None:
    given = [list(range(first, first + 12)) for first in (free_ports(12) for _ in range(5))]
    others = [
        subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for other in others:
        assert other.stdout is not None
        given += [list(range(int(first), int(first) + 12)) for first in other.stdout.readline().split()]
    for other in others:
        other.communicate()
    assert len(given) == 5 * 5
    assert len({port for ports in given for port in ports}) == 5 * 5 * 12


def test_what_is_listened_on_is_left_out_when_it_goes_round() -> None:
    first = free_ports(1)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", first))
        listening.listen()
        again = [free_ports(7) for _ in range(100)]
    assert len(set(again)) < 100, "it has gone round"
    assert all(first not in range(found, found + 7) for found in again)


def test_more_than_a_process_has_are_found_somewhere() -> None:
    first = free_ports(300)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", first + 299))


def test_a_forked_process_has_its_own() -> None:
    before = free_ports(3)
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(writer, str(free_ports(3)).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    of_child = int(os.read(reader, 20))
    os.close(reader)
    os.close(writer)
    assert abs(of_child - before) >= 3
    assert free_ports(3) != of_child
