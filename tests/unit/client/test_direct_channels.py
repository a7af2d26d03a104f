"""Connections of threads that ask nodes themselves: one thread each, few at once, none that outlives its client."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fs3.base.ids import NodeId
from fs3.base.units import SECOND
from fs3.client.connector import Connector
from fs3.client.direct_channels import DirectChannels, direct_pause_ns, direct_threads_max
from fs3.model.routing import Node, Role

NODES = [Node(NodeId(n), "s", Role.STORAGE, (f"test://{n}",), "", 1, True) for n in (1, 2)]


class Clock:
    def __init__(self):
        self.time = 100 * SECOND

    def now(self):
        return self.time


class Channel:
    def __init__(self):
        self.is_closed = self.is_aborted = False

    def abort(self):
        self.is_aborted = True

    def close(self):
        self.is_closed = True


class Transport:
    scheme = "test"

    def __init__(self):
        self.channels = []

    def connect_blocking(self, endpoint, timeout_ns):
        self.channels.append(Channel())
        return self.channels[-1]


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def transport():
    return Transport()


@pytest.fixture
def direct(clock, transport):
    return DirectChannels(Connector([transport], ""), clock, SECOND)


def take(direct, clock):
    return direct.take(clock.now())


def test_one_thread_after_the_other_uses_the_same_connections(direct, clock, transport):
    for _ in range(3):
        mine = take(direct, clock)
        for node in NODES:
            assert mine.channel(node) is mine.channel(node)
        direct.give(mine)
    assert len(transport.channels) == len(NODES)


def test_threads_at_the_same_time_have_connections_of_their_own_but_only_so_many(direct, clock, transport):
    taken = [take(direct, clock) for _ in range(direct_threads_max)]
    assert len({id(one.channel(NODES[0])) for one in taken}) == direct_threads_max
    assert take(direct, clock) is None
    direct.give(taken[3])
    assert take(direct, clock) is taken[3]
    assert len(transport.channels) == direct_threads_max


def test_no_two_threads_have_the_same(direct, clock):
    held = {}
    clashes = []

    def work(_):
        for _ in range(2000):
            mine = take(direct, clock)
            if mine is None:
                continue
            if held.setdefault(id(mine), threading.get_ident()) != threading.get_ident():
                clashes.append(mine)
            else:
                del held[id(mine)]
            direct.give(mine)

    with ThreadPoolExecutor(2 * direct_threads_max) as pool:
        list(pool.map(work, range(2 * direct_threads_max)))
    assert clashes == []


def test_after_a_failure_it_pauses_and_idle_connections_are_not_tried(direct, clock, transport):
    failing, idle, working = (take(direct, clock) for _ in range(3))
    for one in (failing, idle, working):
        one.channel(NODES[0])
    direct.give(idle)
    direct.pause()
    assert take(direct, clock) is None
    assert [channel.is_closed for channel in transport.channels] == [False, True, False], "who has one goes on"
    direct.give(failing)
    direct.give(working)
    clock.time += direct_pause_ns
    again = [take(direct, clock) for _ in range(3)]
    assert {id(one) for one in again} == {id(one) for one in (failing, idle, working)}
    assert not idle.channel(NODES[0]).is_closed
    assert len(transport.channels) == 4


def test_closing_breaks_off_what_is_under_way_and_leaves_no_connection(direct, clock, transport):
    idle, working = take(direct, clock), take(direct, clock)
    for one in (idle, working):
        one.channel(NODES[0])
    direct.give(idle)
    direct.close()
    assert [(channel.is_aborted, channel.is_closed) for channel in transport.channels] == [(True, True), (True, False)]
    assert take(direct, clock) is None
    direct.give(working)
    assert transport.channels[1].is_closed
