"""Requests that are lost, refused, or meet a service that is not there: who asks again, and with what effect."""

import asyncio

import pytest

from fs3.base.errors import DeadlineExceeded, Exists, Unreachable, error
from fs3.base.limits import call_timeout_ns
from fs3.base.status import Code
from fs3.client.meta.client import MetaClient
from fs3.model.namespace import PathRef, RemoveKind, RenameMode
from fs3.model.requests import Mkdir, Open, Remove, Stat, Symlink


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch, cluster):
    """Pauses of the clients take no time, but the clock shows them."""

    async def pause(client, backoff, deadline):
        cluster.clock.advance(backoff.next_ns() / 1e9)
        await asyncio.sleep(0)

    monkeypatch.setattr(MetaClient, "_pause", pause)


CHANGES = {
    "mkdir": lambda meta: meta.mkdir("new"),
    "create": lambda meta: meta.open("new", write=True, create=True, exclusive=True),
    "remove": lambda meta: meta.remove("old", RemoveKind.DIRECTORY),
    "rename": lambda meta: meta.rename("old", "new"),
    "exchange": lambda meta: meta.rename("old", "old2", RenameMode.EXCHANGE),
    "symlink": lambda meta: meta.symlink("new", "x"),
    "setattr": lambda meta: meta.setattr("old", mode=0o711),
}


@pytest.mark.parametrize("verb", CHANGES)
async def test_a_change_whose_answer_was_lost_happens_once(cluster, meta, verb):
    await meta.mkdir("old")
    await meta.mkdir("old2")
    first = await meta.stat("old")
    cluster.wire.mishaps = ["lost", Code.BUSY, "lost", Code.UNAVAILABLE, "lost"]
    answer = await CHANGES[verb](meta)
    assert not cluster.wire.mishaps
    assert answer
    names = [entry.name for entry in (await meta.list("")).entries]
    assert names == {"remove": ["old2"], "rename": ["new", "old2"], "exchange": ["old", "old2"], "setattr": ["old", "old2"]}.get(
        verb, ["new", "old", "old2"]
    )
    if verb == "exchange":
        assert (await meta.stat("old2")).id == first.id, "exchanged once, not there and back"
    if verb == "create":
        inode = await meta.close_file(answer.inode.id, answer.session, length=1)
        assert (await meta.stat("new")) == inode


async def test_a_repetition_is_recognised_after_a_restart_of_the_service(cluster, meta, monkeypatch):
    restarted = asyncio.Event()

    async def pause(client, backoff, deadline):
        await restarted.wait()

    monkeypatch.setattr(MetaClient, "_pause", pause)
    cluster.wire.mishaps = ["lost"]
    asked = asyncio.ensure_future(meta.mkdir("d"))
    await asyncio.sleep(0)
    assert not cluster.wire.mishaps
    await cluster.stop()
    await cluster.start()
    restarted.set()
    inode = await asked
    assert inode == await meta.stat("d")
    with pytest.raises(Exists):
        await meta.mkdir("d")


async def test_a_refusal_is_final(cluster, meta):
    await meta.mkdir("d")
    cluster.wire.calls.clear()
    with pytest.raises(Exists):
        await meta.mkdir("d")
    assert len(cluster.wire.calls) == 1


async def test_a_busy_service_is_asked_again_at_the_same_node(cluster, meta, make_routing_with):
    cluster.routing.set(make_routing_with(metas=("tcp://meta-1:1", "tcp://meta-2:1"), version=6))
    cluster.wire.bindings["tcp://meta-2:1"] = cluster.wire.bindings["tcp://meta-1:1"]
    cluster.wire.mishaps = [Code.BUSY] * 5
    await meta.stat("")
    assert len({endpoint for endpoint, _ in cluster.wire.calls}) == 1
    assert len(cluster.wire.calls) == 6


async def test_another_node_takes_over(cluster, meta, make_routing_with):
    cluster.routing.set(make_routing_with(metas=("tcp://meta-1:1", "tcp://meta-2:1"), version=6))
    cluster.wire.bindings["tcp://meta-2:1"] = cluster.wire.bindings["tcp://meta-1:1"]
    await meta.stat("")
    used = cluster.wire.calls[-1][0]
    bindings = cluster.wire.bindings.pop(used)
    await meta.mkdir("d")
    assert cluster.wire.calls[-1][0] != used
    cluster.wire.calls.clear()
    await meta.stat("d")
    assert len(cluster.wire.calls) == 1, "it stays where it found an answer"
    cluster.wire.bindings[used] = bindings


async def test_a_node_the_manager_calls_dead_is_the_last_resort(cluster, meta, make_routing_with):
    routing = make_routing_with(metas=("tcp://gone:1", "tcp://meta-1:1"), version=6)
    nodes = {key: type(node)(**{**_fields(node), "alive": node.name == "meta-2"}) for key, node in routing.nodes.items()}
    cluster.routing.set(type(routing)(routing.cluster, 6, nodes, routing.chains, routing.tables))
    await meta.stat("")
    assert cluster.wire.calls == [("tcp://meta-1:1", "Stat")]
    nodes = {key: type(node)(**{**_fields(node), "alive": False}) for key, node in nodes.items()}
    cluster.routing.set(type(routing)(routing.cluster, 7, nodes, routing.chains, routing.tables))
    await meta.stat("")


def _fields(node):
    return {name: getattr(node, name) for name in node.__struct_fields__}


async def test_nobody_there_until_the_deadline(cluster, meta):
    await cluster.stop()
    begun = cluster.clock.ns
    with pytest.raises(Unreachable, match="nobody listens") as raised:
        await meta.stat("a/b")
    assert raised.value.filename == "a/b"
    assert call_timeout_ns <= cluster.clock.ns - begun < 2 * call_timeout_ns
    assert 10 < len(cluster.wire.calls) < 500


async def test_no_service_in_routing(cluster, meta, make_routing_with):
    cluster.routing.set(make_routing_with(metas=(), version=9))
    with pytest.raises(Unreachable, match="routing version 9 has no metadata service"):
        await meta.stat("")


async def test_a_change_that_may_have_happened_says_so(cluster, meta):
    cluster.wire.mishaps = ["lost"] + [Code.UNAVAILABLE] * 1000
    with pytest.raises(DeadlineExceeded, match="may have happened"):
        await meta.mkdir("d")
    cluster.wire.mishaps = [Code.UNAVAILABLE] * 1000
    with pytest.raises(Unreachable):
        await meta.mkdir("e")
    cluster.wire.mishaps = []
    assert [entry.name for entry in (await meta.list("")).entries] == ["d"]


async def test_creating_a_file_waits_for_the_first_chain_table(cluster, meta, make_routing_with):
    cluster.routing.set(make_routing_with(chains=0, version=6))
    await meta.mkdir("d")
    creating = asyncio.ensure_future(meta.open("d/f", write=True, create=True))
    batching = asyncio.ensure_future(
        meta.batch([Mkdir(PathRef(path="e")), Open(PathRef(path="e/f"), create=True), Stat(PathRef(path="e/f"))])
    )
    for _ in range(50):
        await asyncio.sleep(0)
    assert not creating.done()
    assert not batching.done()
    cluster.routing.set(make_routing_with(version=7))
    assert (await creating).inode.layout.chains
    answers = await batching
    assert answers[1].inode == answers[2]
    cluster.routing.set(make_routing_with(chains=0, version=8))
    with pytest.raises(Unreachable, match="no chain table yet"):
        await meta.open("d/g", write=True, create=True)
    answers = await meta.batch([Open(PathRef(path="d/g"), create=True), Stat(PathRef(path="d/f"))])
    assert answers[0].code is Code.UNAVAILABLE
    assert answers[1].id


async def test_items_of_a_batch_that_were_refused_for_now_are_sent_again_in_order(cluster, meta, monkeypatch):
    """The lane takes three of them, and has no room for the rest at first."""
    kv = cluster.kv
    submit, counted = kv.submit, []

    def full_after_three(op, done):
        counted.append(1)
        if len(counted) in (4, 5, 6):
            done(None, error(Code.BUSY, "full"))
        else:
            submit(op, done)

    monkeypatch.setattr(kv, "submit", full_after_three)
    answers = await meta.batch([Mkdir(PathRef(path="/".join("abcdef"[: depth + 1]))) for depth in range(6)])
    assert [type(answer).__name__ for answer in answers] == ["Inode"] * 6
    assert [name for _, name in cluster.wire.calls] == ["Batch", "Batch"]


async def test_a_batch_whose_answer_was_lost_happens_once(cluster, meta):
    await meta.mkdir("d")
    cluster.wire.mishaps = ["lost", "lost"]
    answers = await meta.batch(
        [Symlink(PathRef(path="d/s"), target="x"), Remove(PathRef(path="d/s")), Symlink(PathRef(path="d/s"), target="y")]
    )
    assert answers[2].target == "y"
    assert (await meta.stat("d/s", follow=False)).id == answers[2].id
    assert (await meta.stat("d")).length == 1
