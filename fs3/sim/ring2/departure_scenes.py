"""Directed runs of targets that go on without another one, and of when the manager has heard of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fs3.base.status import Code
from fs3.base.units import MILLISECOND
from fs3.sim.ring2.network import SimLinks
from fs3.sim.ring2.scene_cluster import POLL_SECONDS, SceneCluster, SlowLinks

_POLLS = 30_000
_NEWS_BYTES = 200
"""What the manager sends is routing info if it is longer, else an answer to a heartbeat."""
_MANAGER = "mgmtd-1"


class _LateNews:
    """Storage nodes hear late of routing info that is new."""

    def __init__(self, links: SimLinks) -> None:
        self._links = links

    def carry(self, source: str, target: str, size: int) -> int:
        """See `LinkPolicy.carry`."""
        verdict = self._links.carry(source, target, size)
        is_news = source == _MANAGER and target.startswith("storage") and size > _NEWS_BYTES
        return verdict + 500 * MILLISECOND if is_news and verdict > 0 else verdict


async def heard_when_the_chain_has_gone_on(stage: SceneCluster) -> str:
    """Two targets know that the third has left, and could not say so: the chain has begun anew with the third when the manager
    answers their heartbeats. What they have pending is lost to the chain by then, and must not be acknowledged."""
    cluster, links = stage.cluster, stage.cluster.links
    first, second, third = stage.initial_order
    await stage.write("client-1", b"old")
    links.block(second, third)
    links.block(third, _MANAGER)
    links.block(_MANAGER, "client-2")
    await asyncio.sleep(2)
    writing = stage.write("client-2", b"new")  # which the head answers within one attempt of the client
    # What they say takes long, so it has not arrived when they are cut off.
    cluster.network.policy = SlowLinks(links, "storage", _MANAGER, 400)
    before = stage.current_chain_version()
    if problem := await _wait("the third leaves", lambda: min(_knows(stage, first), _knows(stage, second)) > before):
        return problem
    for name in (first, second):
        links.block(name, _MANAGER)
        links.block(_MANAGER, name)
        cluster.network.cut(name, _MANAGER)
    cluster.network.policy = links
    if problem := await _wait("no target serves", lambda: not stage.serving_hosts()):
        return problem
    links.unblock(third, _MANAGER)
    cluster.network.release()
    if problem := await _wait("the third serves alone", lambda: stage.serving_hosts() == [third]):
        return problem
    # They are answered, and hear only later what has become of the chain.
    cluster.network.policy = _LateNews(links)
    for name in (first, second):
        cluster.network.cut(_MANAGER, name)
        links.unblock(_MANAGER, name)
        links.unblock(name, _MANAGER)
    cluster.network.release()
    result = await writing
    found = await stage.read("client-1")
    lost = result.code is Code.OK and found != b"new"
    return f"a write was acknowledged, and {found!r} is read" if lost else ""


def _knows(stage: SceneCluster, storage: str) -> int:
    """Which version of the chain a node has heard of."""
    return stage.cluster.storages[storage]._mgmtd.routing.chains[stage.chain].version


async def _wait(what: str, holds: Callable[[], bool]) -> str:
    for _ in range(_POLLS):
        if holds():
            return ""
        await asyncio.sleep(POLL_SECONDS)
    return f"it never is that {what}"


DEPARTURE_SCENES: dict[str, Callable[[SceneCluster], Awaitable[str]]] = {
    "heard_when_the_chain_has_gone_on": heard_when_the_chain_has_gone_on,
}
