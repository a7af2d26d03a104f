"""Links between two storage nodes that carry nothing, while the manager hears both."""

import asyncio

import pytest

from fs3.base.ids import ChainId
from fs3.base.status import Code
from fs3.base.units import MILLISECOND
from fs3.model.chain import LocalState, PublicState
from fs3.services.storage import withdrawal as absence
from fs3.services.storage.forwarding import successor_monitor as watch

SERVING, SYNCING, OFFLINE = PublicState.SERVING, PublicState.SYNCING, PublicState.OFFLINE


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The same in a tenth of the time."""
    monkeypatch.setattr(watch, "successor_unresponsive_ns", 300 * MILLISECOND)
    monkeypatch.setattr(watch, "successor_check_ns", 25 * MILLISECOND)
    monkeypatch.setattr(absence, "rejoin_min_ns", 500 * MILLISECOND)


def sender(request):
    """The target that sends a request to another node; None for what clients may send as well."""
    if request.DESCRIPTOR.name == "UpdateRequest":
        return request.from_target
    return request.fence.from_target if "fence" in request.DESCRIPTOR.fields_by_name else None


def cut(made, source, target, what="lose request"):
    """Nothing gets from a node to another one, or nothing back. No client of these tests asks what storage nodes ask."""

    def fault(endpoint, method, request):
        meant = sender(request) == 100 + source or method.name == "Find"
        return what if endpoint == f"fake://{target}" and meant else None

    made.network.fault = fault


async def following(cluster, **options):
    made = await cluster(start=False, chains=1, **options)
    made.manager.follows = made.manager.asks_to_leave = True
    await made.start()
    await made.until(lambda: all(node in made.manager.beats and made.manager.beats[node].targets for node in made.services))
    return made


def order(made, *states):
    return [slot.node for slot in made.manager.routing.chains[ChainId(1)].slots if slot.state in (states or (SERVING,))]


def report_of(made, node):
    return made.manager.beats[node].targets[0]


@pytest.mark.parametrize("what", ["lose request", "lose reply"])
async def test_the_chain_goes_on_in_another_order(cluster, help, what):
    made = await following(cluster)
    client = made.client()
    await client.update([help.write(1, b"before")])
    cut(made, 1, 2, what)
    (result,) = await client.update([help.write(1, b"behind")])
    assert result.code is Code.OK
    assert order(made) == [1, 3]
    await help.until(lambda: order(made) == [1, 3, 2])
    await client.update([help.write(1, b"all of")])
    await made.idle()
    first, *others = made.replicas(1, help.chunk(1))
    assert others == [first] * 2
    assert not any(beat.targets[0].reason for beat in made.manager.beats.values())


async def test_it_says_why_it_is_away(cluster, help):
    made = await following(cluster)
    client = made.client()
    cut(made, 1, 2)
    made.manager.asks_to_leave = False
    writing = asyncio.ensure_future(client.update([help.write(1, b"one")]))
    await help.until(lambda: report_of(made, 1).unreachable == 102)
    assert report_of(made, 1).reason == "it cannot reach target 102, its successor in the chain"
    assert (report_of(made, 1).state, report_of(made, 2).state) == (LocalState.UPTODATE, LocalState.UPTODATE)
    made.manager.asks_to_leave = True
    await help.until(lambda: report_of(made, 2).state == LocalState.OFFLINE)
    assert report_of(made, 2).reason == "target 101, its predecessor in the chain, cannot reach it"
    assert (await writing)[0].code is Code.OK


async def test_a_link_that_is_mended_in_time_changes_nothing(cluster, help):
    made = await following(cluster)
    client = made.client()
    made.manager.asks_to_leave = False
    cut(made, 1, 2)
    writing = asyncio.ensure_future(client.update([help.write(1, b"one")]))
    await help.until(lambda: report_of(made, 1).unreachable)
    made.network.let_go()
    await help.until(lambda: not report_of(made, 1).unreachable)
    made.manager.asks_to_leave = True
    assert (await writing)[0].code is Code.OK
    assert order(made) == [1, 2, 3]


async def test_with_two_copies_the_first_goes_on_alone_until_the_link_is_mended(cluster, help):
    made = await following(cluster, nodes=2)
    client = made.client()
    cut(made, 1, 2)
    assert (await client.update([help.write(1, b"alone")]))[0].code is Code.OK
    assert order(made) == [1]
    # It comes back, and is still not reached: what brings it up to date finds out, without any client.
    await help.until(lambda: order(made, SYNCING) == [2])
    await help.until(lambda: order(made, OFFLINE) == [2])
    made.network.let_go()
    await help.until(lambda: order(made) == [1, 2])
    await made.idle()
    first, second = made.replicas(1, help.chunk(1))
    assert first == second


async def test_a_successor_whose_disk_stands_still_is_not_silent(cluster, help, monkeypatch):
    made = await following(cluster)
    client = made.client()
    await client.update([help.write(1, b"before")])
    gate, store = asyncio.Event(), made.store(1, 2)
    stage = store.stage

    async def stuck(*update):
        await gate.wait()
        return await stage(*update)

    monkeypatch.setattr(store, "stage", stuck)
    writing = asyncio.ensure_future(client.update([help.write(1, b"slowly")]))
    # Asked several times over, for longer than silence would have been borne.
    await help.until(lambda: len(made.network.requests("Find")) >= 3)
    assert not report_of(made, 1).unreachable
    gate.set()
    assert (await writing)[0].code is Code.OK
    assert order(made) == [1, 2, 3]


async def test_a_target_that_is_asked_under_another_version_stays(cluster, help):
    made = await following(cluster)
    shell = made.shell(1, 2)
    shell.on_leave_request(7)
    assert shell.local_state() is LocalState.UPTODATE
    shell.on_leave_request(1)
    assert shell.local_state() is LocalState.OFFLINE
    await help.until(lambda: order(made, OFFLINE) == [2])
    await help.until(lambda: order(made) == [1, 3, 2])
