"""Who may read the metrics port of a process, by the token that is shown."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.cli import metrics_door
from fs3.cli.metrics_door import (
    MetricsDoor,
    strangers_waiting_max,
    token_kept_ns,
    token_known_ns,
    token_refused_ns,
    tokens_remembered_max,
)
from fs3.core.security.revocations import Revocations
from fs3.core.security.seal import KeyRing
from fs3.core.security.state import SecurityState
from fs3.drivers.http.metrics_server import MetricsServer, scrapers_max
from fs3.model.principal import Principal, PrincipalKind, Right
from fs3.sim.conformance.transport_harness import eventually
from tests.tls_files import Authority

RING = KeyRing(bytes(16), {1: b"k" * 32}, 1)
PATIENCE_NS = 600 * SECOND
USERS = {"reader": Right.USER | Right.READ_METRICS, "admin": Right.USER | Right.ADMIN, "ann": Right.USER}


class Clock:
    """Stands still."""

    def __init__(self) -> None:
        self.time = 1000 * SECOND

    def now(self) -> int:
        """See `Clock.now`."""
        return self.time


class Door(MetricsDoor):
    """One whose logins are told here; tokens are the names of users."""

    def __init__(self, directory: Path, *, has_tls: bool = True) -> None:
        self.clock = Clock()
        super().__init__(self.clock, Authority.make(directory).client() if has_tls else None)  # type: ignore[arg-type]
        self.logins: list[str] = []
        self.problem: FS3Error | None = None
        self.stuck = asyncio.Event()
        """Logins with tokens that begin with "slow" last until it is set."""
        self.security = SecurityState()
        self.security.update(is_on=True, ring=RING, revoked=Revocations())
        self.admit_readers(self.security, ["tls://m:1"])

    async def _log_in(self, token: str, security: SecurityState) -> Principal:
        self.logins.append(token)
        await asyncio.sleep(0)
        if token.startswith("slow"):
            await self.stuck.wait()
        if self.problem is not None:
            raise self.problem
        if token not in USERS:
            raise error(Code.NOT_ADMITTED, "not known here")
        return Principal(PrincipalKind.USER, token, int(USERS[token]))

    async def status(self, token: str) -> int:
        """200: it is admitted."""
        refusal = await self.refuse(token)
        return 200 if refusal is None else refusal.status


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path)


async def test_readers_and_administrators_are_admitted(door: Door) -> None:
    assert [await door.status(token) for token in ("reader", "admin", "ann", "wrong", "")] == [200, 200, 403, 401, 401]
    told = await door.refuse("ann")
    assert told is not None
    assert "fs3 user set ann --reads-metrics" in told.why


async def test_a_process_that_has_not_heard_of_security_answers_nothing(door: Door) -> None:
    door._security = None
    assert await door.status("reader") == 503
    door.admit_readers(door.security, [])
    door.security.update(is_on=False, ring=RING, revoked=Revocations())
    assert await door.status("") == 200
    assert not door.logins


async def test_no_token_is_taken_where_it_could_be_read_on_its_way(tmp_path: Path) -> None:
    door = Door(tmp_path, has_tls=False)
    assert await door.status("reader") == 403
    assert not door.logins


async def test_managers_are_asked_now_and_then(door: Door) -> None:
    assert set(await asyncio.gather(*(door.status("reader") for _ in range(strangers_waiting_max)))) == {200}
    assert set(await asyncio.gather(*(door.status("wrong") for _ in range(strangers_waiting_max)))) == {401}
    assert door.logins == ["reader", "wrong"]
    door.clock.time += token_refused_ns
    await door.status("wrong")
    await door.status("reader")
    assert door.logins == ["reader", "wrong", "wrong"]
    door.clock.time += token_known_ns
    await door.status("reader")
    assert door.logins[3:] == ["reader"]


async def test_a_revoked_user_is_refused_at_once(door: Door) -> None:
    assert await door.status("reader") == 200
    door.security.update(is_on=True, ring=RING, revoked=Revocations(6, {"reader": 6}))
    assert await door.status("reader") == 401


async def test_metrics_are_read_on_while_no_manager_answers(door: Door) -> None:
    assert await door.status("reader") == 200
    assert await door.status("wrong") == 401
    door.problem = error(Code.UNAVAILABLE, "no manager")
    door.clock.time += token_known_ns
    assert await door.status("reader") == 200
    assert await door.status("wrong") == 503
    assert await door.status("admin") == 503
    door.clock.time += token_kept_ns
    assert await door.status("reader") == 503


async def test_what_is_remembered_is_bounded(door: Door) -> None:
    for number in range(200):
        await door.status(f"wrong {number}")
    known: Any = door._known
    assert len(known) <= tokens_remembered_max


async def test_wrong_tokens_drive_no_users_out_of_memory(door: Door) -> None:
    assert await door.status("reader") == 200
    for number in range(2 * tokens_remembered_max):
        await door.status(f"wrong {number}")
    door.problem = error(Code.UNAVAILABLE, "no manager")
    assert await door.status("reader") == 200


async def test_wrong_tokens_keep_others_waiting_to_a_bound(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_door, "login_ns", PATIENCE_NS)
    assert await door.status("reader") == 200
    slow = [asyncio.ensure_future(door.status(f"slow {number}")) for number in range(strangers_waiting_max)]
    await asyncio.sleep(0)
    # All but what is known already is answered at once, and a user's token is renewed.
    assert await door.status("slow one more") == 503
    assert await door.status("admin") == 503
    assert await door.status("reader") == 200
    door.clock.time += token_known_ns
    assert await door.status("reader") == 200
    assert door.logins == ["reader", "slow 0", "reader"]
    door.stuck.set()
    assert set(await asyncio.gather(*slow)) == {401}
    assert await door.status("admin") == 200


async def test_probes_and_scrapers_are_answered_while_tokens_are_looked_at(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_door, "login_ns", PATIENCE_NS)
    server = MetricsServer(list, doorkeeper=door)
    port = server.start("127.0.0.1", 0)[1]

    async def status(path: str, token: str) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
            return int((await reader.readline()).split()[1])
        finally:
            writer.close()

    try:
        assert await status("/metrics", "reader") == 200
        slow = [asyncio.ensure_future(status("/metrics", f"slow{number}")) for number in range(strangers_waiting_max)]
        await eventually(lambda: door._strangers_waiting == strangers_waiting_max)
        for number in range(scrapers_max):
            assert await status("/metrics", f"slow-too{number}") == 503
            assert await status("/healthz", "") == 200
            assert await status("/metrics", "reader") == 200
        assert server._loop is not None
        server._loop.call_soon_threadsafe(door.stuck.set)
        assert set(await asyncio.gather(*slow)) == {401}
    finally:
        await asyncio.to_thread(server.close)
