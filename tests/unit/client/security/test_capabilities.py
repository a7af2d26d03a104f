"""What a client holds, asks for and has renewed; and what its channels show."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from fs3.base.errors import FS3Error, NoPermission, error
from fs3.base.ids import InodeId, file_chunk, page_chunk
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.client.security import capabilities as module
from fs3.client.security.capabilities import Capabilities, Wanted
from fs3.client.security.proving_channel import ProvingChannel
from fs3.core.security.capability import READ, WRITE, Capability, Subject, SubjectKind, seal_capability, subject_key
from fs3.core.security.seal import KeyRing
from fs3.ports.rpc import Reply
from fs3.wire.methods import STORAGE

RING = KeyRing(bytes(16), {1: b"k" * 32}, 1)
LIFETIME_MS = 1000
FILE, SPACE = Subject(SubjectKind.CONTENT, 5), Subject(SubjectKind.NAMESPACE, 9)
KEY = subject_key(FILE)


class Clock:
    """Moves when it is told."""

    def __init__(self) -> None:
        self.time = 50 * SECOND

    def now(self) -> int:
        """See `Clock.now`."""
        return self.time


class Services:
    """What is asked, and what is answered."""

    def __init__(self) -> None:
        self.asked: list[list[Wanted]] = []
        self.refusal: Code | FS3Error | None = None
        self.made = 0
        self.gate: asyncio.Event | None = None

    async def ask(self, wanted: Sequence[Wanted]) -> list[bytes | Code]:
        """See `AskFor`."""
        self.asked.append(list(wanted))
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(self.refusal, FS3Error):
            raise self.refusal
        if self.refusal is not None:
            return [self.refusal] * len(wanted)
        return [self.seal(each.subject, each.rights) for each in wanted]

    def seal(self, subject: Subject, rights: int) -> bytes:
        """Each is another one."""
        self.made += 1
        return seal_capability(RING, Capability(subject, rights, self.made, "ann", LIFETIME_MS))


class Scene:
    """A client."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.services = Services()
        self.held = Capabilities(self.clock, self.services.ask, self.services.ask)  # type: ignore[arg-type]
        self.wire = Wire()
        self.channel = ProvingChannel(self.wire, self.held, self.clock)  # type: ignore[arg-type]


class Wire:
    """A channel that keeps what it was to send."""

    activity = 0

    def __init__(self) -> None:
        self.connections = 1
        self.sent: list[list[bytes]] = []
        self.failure: FS3Error | None = None
        self.futures: list[asyncio.Future[Reply]] = []

    def start(self, method: Any, request: Any, parts: Any = (), into: Any = None, timeout_ns: int = 0) -> asyncio.Future[Reply]:
        """See `Channel.start`."""
        self.sent.append(list(getattr(request, "capabilities", ())))
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.futures.append(future)
        if self.failure is not None:
            future.set_exception(self.failure)
        else:
            future.set_result(Reply(None))
        return future


@pytest.fixture
def scene() -> Scene:
    """With nothing held."""
    return Scene()


def read(*files: int) -> Any:
    return STORAGE.Read.request(chunks=b"".join(file_chunk(InodeId(file), 0) for file in files))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_was_learned_is_found_by_each_of_its_rights_until_it_ends(scene: Scene) -> None:
    scene.held.learn(scene.services.seal(FILE, READ | WRITE))
    assert scene.held.find(KEY, READ) is scene.held.find(KEY, WRITE) is not None
    scene.held.learn(b"nothing that makes sense")
    scene.clock.time += LIFETIME_MS * MILLISECOND
    assert scene.held.find(KEY, READ) is None


async def test_many_who_want_one_ask_once_and_all_of_a_turn_together(scene: Scene) -> None:
    await asyncio.gather(*(scene.held.fetch([KEY, subject_key(Subject(SubjectKind.CONTENT, 6))], READ) for _ in range(3)))
    await scene.held.fetch([subject_key(SPACE)], READ)
    assert [[each.subject.id for each in asked] for asked in scene.services.asked] == [[5, 6], [9]]
    assert scene.held.fetched == 3


async def test_long_lists_are_asked_for_in_pieces(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "capabilities_per_request_max", 3)
    await scene.held.fetch([subject_key(Subject(SubjectKind.CONTENT, number)) for number in range(1, 8)], READ)
    assert [len(asked) for asked in scene.services.asked] == [3, 3, 1]


async def test_why_there_is_none_is_told(scene: Scene) -> None:
    scene.services.refusal = Code.ACCESS
    with pytest.raises(NoPermission, match="permission denied"):
        await scene.channel.start(STORAGE.Read, read(5))
    scene.services.refusal = error(Code.UNAVAILABLE, "no service")
    with pytest.raises(FS3Error, match="no service"):
        await scene.channel.start(STORAGE.Read, read(5))
    assert scene.wire.sent == []


async def test_a_connection_is_shown_each_once(scene: Scene) -> None:
    await scene.channel.start(STORAGE.Read, read(5))
    await scene.channel.start(STORAGE.Read, read(5, 5))
    await scene.channel.start(STORAGE.Read, read(5, 6))
    await scene.channel.start(STORAGE.Update, STORAGE.Update.request(chunks=read(5).chunks))
    assert [len(shown) for shown in scene.wire.sent] == [1, 0, 1, 1]
    scene.wire.connections = 2
    await scene.channel.start(STORAGE.Read, read(5, 6))
    assert len(scene.wire.sent[-1]) == 2
    scene.wire.connections = 0  # it is not known which connection it is
    for _ in range(2):
        await scene.channel.start(STORAGE.Read, read(5))
        assert len(scene.wire.sent[-1]) == 1


async def test_pages_and_namespaces_are_asked_of_the_manager_by_their_id(scene: Scene) -> None:
    request = STORAGE.Lease.request()
    request.pages.chunks = page_chunk(9, bytes(12))
    await scene.channel.start(STORAGE.Lease, request)
    await scene.channel.start(STORAGE.CacheUsage, STORAGE.CacheUsage.request(namespace_id=9))
    assert [asked[0].subject for asked in scene.services.asked] == [SPACE]
    assert [len(shown) for shown in scene.wire.sent] == [1, 0]


async def test_what_needs_nothing_goes_straight_through(scene: Scene) -> None:
    await scene.channel.start(STORAGE.GetSpace, STORAGE.GetSpace.request())
    await scene.channel.start(STORAGE.Find, STORAGE.Find.request())
    assert scene.wire.sent == [[], []]
    assert not scene.channel.submit(STORAGE.Read, read(5), lambda *_: None)


async def test_it_is_renewed_in_the_background_before_it_ends(scene: Scene) -> None:
    await scene.channel.start(STORAGE.Read, read(5))
    scene.clock.time += LIFETIME_MS * MILLISECOND // 2
    scene.services.gate = asyncio.Event()
    for _ in range(3):
        await scene.channel.start(STORAGE.Read, read(5))
    assert [len(shown) for shown in scene.wire.sent] == [1, 0, 0, 0]
    await settle()
    assert len(scene.services.asked) == 2
    assert scene.services.asked[1][0].held == scene.wire.sent[0][0]
    scene.services.gate.set()
    await settle()
    await scene.channel.start(STORAGE.Read, read(5))
    assert len(scene.wire.sent[-1]) == 1
    assert scene.wire.sent[-1] != scene.wire.sent[0]
    await scene.held.close()


async def test_what_is_held_is_renewed_now_and_then_although_it_is_not_used(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: asyncio.Queue[float] = asyncio.Queue()
    over = asyncio.Semaphore(0)
    sleep = asyncio.sleep

    async def pause(seconds: float) -> None:
        if not seconds:
            await sleep(0)
            return
        pauses.put_nowait(seconds)
        await over.acquire()

    monkeypatch.setattr("asyncio.sleep", pause)
    await scene.held.fetch([KEY, subject_key(SPACE)], READ)
    first = scene.held.find(KEY, READ)
    scene.clock.time += 3600 * SECOND
    scene.held.keep_fresh()
    scene.held.keep_fresh()
    assert await pauses.get() == module.refresh_ns / SECOND
    over.release()
    await pauses.get()
    assert first is not None
    assert [(each.subject, each.held) for each in scene.services.asked[-1]] == [(FILE, first.message)]
    assert scene.held.find(KEY, READ) is not first
    scene.services.refusal = Code.BUSY
    over.release()
    await pauses.get()
    assert scene.held.find(KEY, READ) is not None
    await scene.held.close()


async def test_a_renewal_that_fails_leaves_what_there_is(scene: Scene) -> None:
    await scene.channel.start(STORAGE.Read, read(5))
    scene.services.refusal = Code.BUSY
    scene.clock.time += LIFETIME_MS * MILLISECOND * 3 // 4
    await scene.channel.start(STORAGE.Read, read(5))
    await settle()
    await scene.channel.start(STORAGE.Read, read(5))
    assert len(scene.services.asked) == 2
    scene.services.refusal = None
    scene.clock.time += LIFETIME_MS * MILLISECOND // 4
    await scene.channel.start(STORAGE.Read, read(5))
    assert len(scene.wire.sent[-1]) == 1


async def test_after_a_refusal_everything_is_shown_again_and_renewed(scene: Scene) -> None:
    await scene.channel.start(STORAGE.Read, read(5))
    scene.clock.time += MILLISECOND
    scene.wire.failure = error(Code.NO_CAPABILITY, "none was shown")
    with pytest.raises(NoPermission) as refused:
        await scene.channel.start(STORAGE.CacheEvents, STORAGE.CacheEvents.request(namespace_id=9))
    await settle()
    assert refused.value.code is Code.NO_CAPABILITY
    scene.wire.failure = None
    await scene.channel.start(STORAGE.Read, read(5))
    assert scene.wire.sent[-1] == scene.wire.sent[0]
    await settle()
    await scene.channel.start(STORAGE.Read, read(5))
    assert len(scene.wire.sent[-1]) == 1
    assert scene.wire.sent[-1] != scene.wire.sent[0]


async def test_giving_a_call_up_while_it_waits_sends_nothing(scene: Scene) -> None:
    scene.services.gate = asyncio.Event()
    waiting = scene.channel.start(STORAGE.Read, read(5))
    other = scene.channel.start(STORAGE.Read, read(5))
    await settle()
    waiting.cancel()
    scene.services.gate.set()
    await other
    assert waiting.cancelled()
    assert len(scene.wire.sent) == 1


async def test_a_client_that_needs_none_shows_none(scene: Scene) -> None:
    scene.services.refusal = error(Code.UNSUPPORTED, "this caller needs no capabilities")
    await scene.channel.start(STORAGE.Read, read(5))
    await scene.channel.start(STORAGE.Read, read(6))
    assert scene.wire.sent == [[], []]
    assert len(scene.services.asked) == 1
    scene.services.refusal = None
    scene.channel.on_failure(error(Code.NO_CAPABILITY, "now it does"))
    await scene.channel.start(STORAGE.Read, read(6))
    assert len(scene.wire.sent[-1]) == 1


async def test_a_client_remembers_so_many(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "capabilities_held_max", 16)
    for number in range(1, 40):
        scene.held.learn(scene.services.seal(Subject(SubjectKind.CONTENT, number), READ))
    found = [number for number in range(1, 40) if scene.held.find(subject_key(Subject(SubjectKind.CONTENT, number)), READ)]
    assert found[-1] == 39
    assert len(found) <= 16


async def test_closing_ends_what_is_asked(scene: Scene) -> None:
    scene.services.gate = asyncio.Event()
    waiting = scene.channel.start(STORAGE.Read, read(5))
    await settle()
    await scene.held.close()
    with pytest.raises(FS3Error, match="closed"):
        await waiting
