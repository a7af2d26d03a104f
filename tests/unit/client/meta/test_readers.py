"""What a client tells of its read handles: when, how much, and what becomes of what has no name any more."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest

from fs3.base.errors import FS3Error, error
from fs3.base.ids import InodeId, SessionId
from fs3.base.status import Code
from fs3.base.units import MILLISECOND
from fs3.client.meta import readers as module
from fs3.client.meta.readers import Readers
from fs3.model.inode import NO_LAYOUT, Inode, InodeType
from fs3.model.namespace import OpenResult, PathRef
from fs3.model.requests import Close, Hold, KeepAlive, Mkdir, Put, Remove

MINE = SessionId(1 << 63)
NEVER = 1 << 40


def inode_of(number: int) -> Inode:
    return Inode(InodeId(number), InodeType.FILE, 0o644, 0, 0, 0, 5, 0, 0, 0, 0, 1, InodeId(0), NO_LAYOUT)


class Handle:
    def __init__(self, number: int) -> None:
        self.inode = inode_of(number)
        self.closed = False


class Services:
    """What the services know, as far as this is about it."""

    def __init__(self) -> None:
        self.unnamed: set[int] = set()
        self.held: set[int] = set()
        self.told: list[list[int]] = []
        self.failure: FS3Error | None = None

    async def ask(self, request: Any) -> Any:
        if self.failure is not None:
            raise self.failure
        if isinstance(request, KeepAlive):
            assert len(request.open_contents) <= module.open_contents_per_request_max
            self.told.append(list(request.open_contents))
            return [content for content in request.open_contents if content in self.unnamed]
        if isinstance(request, Hold):
            if request.content not in self.unnamed:
                raise error(Code.STALE, "gone")
            self.held.add(request.content)
            return OpenResult(inode_of(request.content), MINE)
        assert isinstance(request, Close)
        if request.content not in self.held:
            raise error(Code.NO_SESSION, "none")
        assert request.session == MINE
        self.held.remove(request.content)
        return inode_of(request.content)

    async def batch(self, requests: Any) -> list[Any]:
        answers: list[Any] = []
        for request in requests:
            try:
                answers.append(await self.ask(request))
            except FS3Error as why:
                answers.append(why)
        return answers


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if holds():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never comes to that")


@pytest.fixture
def services() -> Services:
    return Services()


@pytest.fixture
def opened() -> list[SessionId]:
    """What has to be kept alive."""
    return []


@pytest.fixture
def readers(services: Services, opened: list[SessionId]) -> Readers:
    return Readers(services, MINE, opened.append, NEVER)


async def test_what_was_open_at_the_last_look_is_told(services: Services, readers: Readers) -> None:
    old = [Handle(5), Handle(6), Handle(5)]
    for handle in old:
        readers.add(handle)
    await readers._look()
    assert services.told == []
    young = Handle(7)
    readers.add(young)
    old[1].closed = True
    readers.discard(old[1])
    await readers._look()
    assert services.told == [[5]]
    del old, handle
    gc.collect()
    await readers._look()
    assert services.told == [[5], [7]]


async def test_what_has_no_name_is_kept_until_its_last_handle_is_closed(
    services: Services, readers: Readers, opened: list[SessionId]
) -> None:
    first, second = Handle(5), Handle(5)
    readers.add(first)
    readers.add(second)
    services.unnamed = {5}
    await readers._look()
    await readers._look()
    assert services.held == {5}
    assert readers.is_held(InodeId(5))
    assert opened == [MINE]
    await readers._look()
    assert services.told == [[5]], "it has a session now"
    readers.discard(first)
    await readers._look()
    assert services.held == {5}
    readers.discard(second)
    await readers._look()
    assert services.held == set()
    assert not readers.has_sessions


async def test_what_was_told_with_a_request_is_asked_about_whatever_its_age(services: Services, readers: Readers) -> None:
    handles = [Handle(5), Handle(6)]
    for handle in handles:
        readers.add(handle)
    assert list(readers.told_with(Mkdir(PathRef.of("/d")))) == []
    assert list(readers.told_with(Put(PathRef.of("/f"), b"", exclusive=True))) == []
    assert sorted(readers.told_with(Remove(PathRef.of("/f")))) == [5, 6]
    services.unnamed, services.held = {5}, {5}
    readers.discard(handles[0])
    await readers._look()
    assert services.told == [[6, 5]]
    assert services.held == set(), "it is not open any more"
    assert list(readers.told_with(Close(InodeId(6), SessionId(3)))) == [6]
    assert list(readers.told_with(Close(InodeId(7), SessionId(3)))) == []
    assert list(readers.told_with(Close(InodeId(6), MINE))) == []


async def test_there_are_bounds(services: Services, readers: Readers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "open_contents_told_max", 1000)
    handles = [Handle(number) for number in range(1, 2001)]
    for handle in handles:
        readers.add(handle)
    await readers._look()
    await readers._look()
    assert [len(told) for told in services.told] == [512, 488]
    assert services.told[0][0] == 1, "the oldest first"
    told = readers.told_with(Remove(PathRef.of("/f")))
    assert (len(told), told[0]) == (512, 2000), "the newest"


async def test_who_was_not_heard_of_asks_anew(services: Services, readers: Readers) -> None:
    handle = Handle(5)
    readers.add(handle)
    services.unnamed = {5}
    await readers.hold(InodeId(5))
    services.held.clear()
    readers.on_return()
    assert not readers.is_held(InodeId(5))
    await readers._look()
    assert services.held == {5}


async def test_a_service_that_does_not_answer_is_asked_again(services: Services) -> None:
    readers = Readers(services, MINE, lambda session: None, MILLISECOND)
    handle = Handle(5)
    services.failure = error(Code.UNAVAILABLE, "no service")
    readers.attach(asyncio.get_running_loop())
    readers.add(handle)
    readers.told_with(Remove(PathRef.of("/f")))
    services.unnamed = {5}
    await until(lambda: readers._task is not None)
    services.failure = None
    await until(lambda: bool(services.held))
    await readers.stop()


async def test_handles_of_other_threads_are_told_of(services: Services) -> None:
    readers = Readers(services, MINE, lambda session: None, MILLISECOND)
    readers.attach(asyncio.get_running_loop())
    handle = Handle(5)
    thread = threading.Thread(target=readers.add, args=(handle,))
    thread.start()
    thread.join()
    await until(lambda: bool(services.told))
    await readers.end()
    told = len(services.told)
    readers.add(handle)
    await asyncio.sleep(0)
    assert readers._timer is None
    assert len(services.told) == told


async def test_a_client_that_ends_lets_go(services: Services, readers: Readers) -> None:
    handle = Handle(5)
    readers.add(handle)
    services.unnamed = {5}
    await readers.hold(InodeId(5))
    await readers.end()
    assert services.held == set()


async def test_what_is_gone_is_said(services: Services, readers: Readers) -> None:
    with pytest.raises(FS3Error) as caught:
        await readers.hold(InodeId(5))
    assert caught.value.code is Code.STALE
    assert not readers.has_sessions
