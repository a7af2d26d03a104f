"""Directed runs of several appenders of one file. Each says what went wrong, "" when nothing did."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from fs3.base.prng import Prng
from fs3.base.units import MILLISECOND
from fs3.model.requests import Append, AppendStep, Request
from fs3.sim.checkers import appends
from fs3.sim.ring2.scene_cluster import POLL_SECONDS, POLLS_MAX, SceneCluster
from fs3.sim.ring2.workloads.appends import AppendHistory, AppendWorkload


def _appender(stage: SceneCluster, number: int, history: AppendHistory) -> AppendWorkload:
    client = stage.cluster.clients[f"client-{number}"]
    return AppendWorkload(number, client, Prng(number), history, stage.cluster.hosts["meta-1"].clock)


async def _explain(stage: SceneCluster, history: AppendHistory) -> str:
    """After one more read."""
    await stage.call("client-1", lambda _: _appender(stage, 1, history).read())
    problem = appends.explain(history.appends, history.reads)
    return f"{history.path}: {problem}" if problem else ""


async def several_appenders_of_one_file(stage: SceneCluster) -> str:
    """They append short and long records and read, while services and appenders are killed, and one is stopped for a while."""
    cluster = stage.cluster
    histories = [AppendHistory(f"/log-{number}") for number in range(2)]
    works = []
    for number in range(1, 9):
        for history in histories:
            work = _appender(stage, number, history)
            works.append(stage.start(f"client-{number}", lambda _, work=work: work.run(12, 30 * MILLISECOND)))  # type: ignore[misc]
    victims = ["meta-1", stage.initial_order[0], "client-8", "meta-1", stage.initial_order[2], "client-7"]
    stopped = cluster.hosts["client-6"].process
    assert stopped is not None
    for victim in victims:
        await asyncio.sleep(0.4)
        cluster.hosts[victim].kill()
        if not victim.startswith("client"):
            cluster.hosts[victim].start()
        if victim == "client-8":
            cluster.loop.pause(stopped)
    await asyncio.sleep(5)
    cluster.loop.resume(stopped)
    await asyncio.wait([work for work in works if work.process is not None and work.process.name not in ("client-7", "client-8")])
    for history in histories:
        if problem := await _explain(stage, history):
            return problem
        if sum(record.ended < appends.NEVER for record in history.appends) < 20:
            return f"{history.path}: hardly an append ends well"
    return ""


async def _append_beside_a_stopped_appender(stage: SceneCluster, *, has_stored: bool) -> str:
    """An appender that has the turn falls silent, another one appends, then the first is heard again."""
    cut, history = stage.cluster.links, AppendHistory("/log")
    first, second = _appender(stage, 1, history), _appender(stage, 2, history)
    await stage.call("client-2", lambda _: second.append(100))
    for name in stage.initial_order:
        cut.block("client-1", name)
    late = stage.start("client-1", lambda _: first.append(70_000))
    await _wait_turn(stage, history.path)
    cut.block("client-1", "meta-1")
    if has_stored:
        _unblock(stage, stage.initial_order)
        await asyncio.sleep(0.3)
    await stage.call("client-2", lambda _: second.append(40_000))
    await stage.call("client-2", lambda _: second.read())
    _unblock(stage, ["meta-1"] if has_stored else ["meta-1", *stage.initial_order])
    await late
    return await _explain(stage, history)


async def append_while_updates_of_an_appender_are_late(stage: SceneCluster) -> str:
    """The turn of an appender is taken over while its chunk updates are on their way."""
    return await _append_beside_a_stopped_appender(stage, has_stored=False)


async def append_while_an_appender_cannot_publish(stage: SceneCluster) -> str:
    """The turn of an appender is taken over when its bytes are durable, and not published."""
    return await _append_beside_a_stopped_appender(stage, has_stored=True)


async def append_while_the_answer_is_lost(stage: SceneCluster) -> str:
    """An append is published, and its client is not told: it asks again."""
    cluster, history = stage.cluster, AppendHistory("/log")
    first, second = _appender(stage, 1, history), _appender(stage, 2, history)
    await stage.call("client-2", lambda _: second.append(100))
    meta, published = cluster.clients["client-1"].meta, False
    ask = meta.ask

    async def ask_unheard(request: Request[Any], **options: Any) -> Any:
        nonlocal published
        if isinstance(request, Append) and request.step is AppendStep.PUBLISH and not published:
            published = True
            cluster.links.block("meta-1", "client-1")
        return await ask(request, **options)

    meta.ask = ask_unheard  # type: ignore[method-assign]
    late = stage.start("client-1", lambda _: first.append(1000))
    await _wait_length(stage, history.path)
    cluster.links.unblock("meta-1", "client-1")
    cluster.network.cut("meta-1", "client-1")
    await late
    await stage.call("client-2", lambda _: second.append(100))
    return await _explain(stage, history)


async def _wait_length(stage: SceneCluster, path: str) -> None:
    for _ in range(POLLS_MAX):
        if (await stage.call("client-8", lambda client: client.stat(path))).length > 1000:
            return
        await asyncio.sleep(POLL_SECONDS)
    raise TimeoutError("the append is not published")


async def bury_an_appender(stage: SceneCluster) -> str:
    """An appender dies with its bytes durable and not published; its session is ended."""
    cluster, history = stage.cluster, AppendHistory("/log")
    first, second = _appender(stage, 1, history), _appender(stage, 2, history)
    await stage.call("client-2", lambda _: second.append(100))
    for name in stage.initial_order:
        cluster.links.block("client-3", name)
    third = _appender(stage, 3, history)
    stage.start("client-3", lambda _: third.append(20_000))
    await _wait_turn(stage, history.path)
    cluster.links.block("client-3", "meta-1")
    for name in stage.initial_order:
        cluster.links.unblock("client-3", name)
    cluster.network.release()
    await asyncio.sleep(0.3)
    cluster.hosts["client-3"].kill()
    # Nobody can append the record any more.
    history.appends[-1].is_refused = True
    await asyncio.sleep(cluster.swarm.session_silence_ms / 1000 + 40)
    await stage.call("client-2", lambda _: second.read())
    await stage.call("client-1", lambda _: first.append(10))
    return await _explain(stage, history)


def _unblock(stage: SceneCluster, names: list[str]) -> None:
    for name in names:
        stage.cluster.links.unblock("client-1", name)
    stage.cluster.network.release()


async def _wait_turn(stage: SceneCluster, path: str) -> None:
    for _ in range(POLLS_MAX):
        if (await stage.call("client-8", lambda client: client.stat(path))).append is not None:
            return
        await asyncio.sleep(POLL_SECONDS)
    raise TimeoutError("nobody takes the turn")


APPEND_SCENES: dict[str, Callable[[SceneCluster], Awaitable[str]]] = {
    "several_appenders_of_one_file": several_appenders_of_one_file,
    "append_while_updates_of_an_appender_are_late": append_while_updates_of_an_appender_are_late,
    "append_while_an_appender_cannot_publish": append_while_an_appender_cannot_publish,
    "append_while_the_answer_is_lost": append_while_the_answer_is_lost,
    "bury_an_appender": bury_an_appender,
}
