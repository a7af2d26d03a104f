"""Logins, renewals, keys and revocations between a real manager, nodes and users, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeVar

import pytest

from fs3.base.errors import FS3Error, NoPermission
from fs3.base.limits import key_settle_ms, security_silence_ns, ticket_lifetime_ms
from fs3.base.secret import Secret
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.client.mgmtd.member import Member
from fs3.client.mgmtd.security_admin import SecurityAdmin
from fs3.client.security.credentials import CERTIFICATE, CredentialSource, node_credentials, token_credentials
from fs3.client.security.keys import ServiceKeys
from fs3.client.security.session import LoginSession, login_retry_min_ns, refused_ns_max
from fs3.core.security.login import stored_of
from fs3.core.security.login_pacing import refusals_apart_ns
from fs3.core.security.seal import SealError
from fs3.core.security.throttle import free_failures, wait_max_ns
from fs3.drivers.memory.kv import MemoryKV
from fs3.model.principal import Right
from fs3.model.routing import Role
from fs3.model.security import PutUser
from fs3.runtime.incarnation import GivenIncarnation
from fs3.runtime.token_sources import GivenToken
from fs3.services.mgmtd import MgmtdConfig
from fs3.sim.ring2.loop import open_loop
from tests.unit.conftest import LoopClock, World

T = TypeVar("T")
CONFIG = MgmtdConfig()
KEY = b"k" * 32


def simulate(scene: Callable[[World], Awaitable[T]]) -> T:
    """Run a scene in virtual time."""

    async def run() -> T:
        world = World()
        try:
            return await scene(world)
        finally:
            await world.close()

    with open_loop(1) as loop:
        return loop.run_until_complete(run())


class Told:
    """An audit log that is kept."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def record(self, what: str, *, who: str = "", source: str = "", result: str = "ok", **details: str | int) -> None:
        self.lines.append({"what": what, "who": who, "source": source, "result": result, **details})


class NoWallClock(LoopClock):
    """Of a process that never looks at the time of day."""

    def wall(self) -> NoReturn:
        raise AssertionError("the time of day decides nothing here")


async def make_user(world: World, name: str = "ann", **more: Any) -> str:
    """A user with a token; the token."""
    admin = SecurityAdmin(await world.started())
    await admin.put_user(PutUser(name, must_be_new=True, uid=1000, gid=100, **more))
    return await admin.add_token(name)


def session_of(world: World, credentials: CredentialSource | str) -> LoginSession:
    source = token_credentials(GivenToken(Secret(credentials))) if isinstance(credentials, str) else credentials
    return LoginSession(source, NoWallClock(), lambda count: b"r" * count)


async def log_in(world: World, credentials: CredentialSource | str) -> LoginSession:
    session = session_of(world, credentials)
    await world.started(session=session)
    return session


async def node_of(world: World, name: str = "storage-1") -> ServiceKeys:
    """A storage node that sends heartbeats."""
    keys = ServiceKeys(node_credentials(name, KEY), world.clock, stored_of(KEY))
    client = await world.started(session=keys.session)
    member = Member(client, world.clock, GivenIncarnation(1), name=name, role=Role.STORAGE, keys=keys)
    await member.register(b"", ["tcp://s:1"], "h", 1)
    member.start()
    world._closing.append(member.stop)
    return keys


def test_a_user_stays_logged_in_for_as_long_as_it_likes() -> None:
    async def scene(world: World) -> None:
        manager = await world.serve(config=CONFIG)
        session = await log_in(world, await make_user(world))
        seen = {session.ticket}
        for _ in range(300):
            await asyncio.sleep(1)
            principal = manager.security.open_ticket(session.ticket, world.clock.now())
            assert (principal.name, principal.uid, principal.rights) == ("ann", 1000, Right.ANYONE | Right.USER)
            seen.add(session.ticket)
        assert 300_000 // ticket_lifetime_ms <= len(seen) <= 300_000 * 5 // (2 * ticket_lifetime_ms) + 1

    simulate(scene)


def test_a_session_waits_for_a_cluster_to_know_of_users() -> None:
    async def scene(world: World) -> None:
        manager = await world.serve(config=CONFIG)
        keys = await node_of(world)
        assert keys.session.ticket == b""
        await make_user(world)
        await asyncio.sleep(6)
        assert manager.security.open_ticket(keys.session.ticket, world.clock.now()).name == "storage-1"
        assert keys.state.ring == manager.security.ring

    simulate(scene)


def test_a_revocation_reaches_every_service_within_two_seconds_and_its_user_logs_in_again() -> None:
    async def scene(world: World) -> None:
        await world.serve(config=CONFIG)
        keys = await node_of(world)
        session = await log_in(world, await make_user(world))
        await asyncio.sleep(6)
        before = session.ticket
        keys.state.open_ticket(before, world.clock.now())
        admin = SecurityAdmin(await world.started())
        await admin.revoke("ann")
        await asyncio.sleep(2)
        with pytest.raises(SealError, match="revoked"):
            keys.state.open_ticket(before, world.clock.now())
        assert session.on_refused(before, "s:1")
        await asyncio.sleep(1)
        assert keys.state.open_ticket(session.ticket, world.clock.now()).name == "ann"

    simulate(scene)


def test_keys_change_and_no_ticket_fails_at_a_service() -> None:
    async def scene(world: World) -> None:
        await world.serve(config=CONFIG)
        keys = await node_of(world)
        session = await log_in(world, await make_user(world))
        admin = SecurityAdmin(await world.started())
        await asyncio.sleep(6)
        newest = keys.state.ring.newest
        await admin.rotate()
        for _ in range(2 * (key_settle_ms + ticket_lifetime_ms) // 100):
            await asyncio.sleep(0.1)
            keys.state.open_ticket(session.ticket, world.clock.now())
        assert keys.state.ring.newest == newest + 1
        assert list(keys.state.ring.keys) == [newest + 1]
        await admin.rotate(at_once=True)
        await asyncio.sleep(1)
        assert session.on_refused(session.ticket, "s:1")
        await asyncio.sleep(1)
        assert keys.state.open_ticket(session.ticket, world.clock.now()).name == "ann"

    simulate(scene)


def test_a_service_that_hears_nothing_refuses_everything() -> None:
    async def scene(world: World) -> None:
        await world.serve(config=CONFIG)
        keys = await node_of(world)
        session = await log_in(world, await make_user(world))
        await asyncio.sleep(6)
        world.network.frozen.add("tcp://m:1")
        await asyncio.sleep(security_silence_ns / SECOND - 2)
        keys.state.open_ticket(session.ticket, world.clock.now())
        await asyncio.sleep(3)
        with pytest.raises(SealError, match="not heard"):
            keys.state.open_ticket(session.ticket, world.clock.now())
        world.network.frozen.clear()
        await asyncio.sleep(5)
        keys.state.open_ticket(session.ticket, world.clock.now())

    simulate(scene)


def test_the_next_manager_goes_on_with_tickets_keys_and_time() -> None:
    async def scene(world: World) -> None:
        shared = MemoryKV()
        first = await world.serve(shared, CONFIG)
        session = await log_in(world, await make_user(world))
        keys = await node_of(world)
        await asyncio.sleep(6)
        second = await world.serve(shared, CONFIG, "tcp://m:2", name="mgmtd-2")
        await asyncio.sleep(3)
        assert not second.is_primary
        assert second.security.open_ticket(session.ticket, world.clock.now()).name == "ann"
        said = first.security.time.now_ms(world.clock.now())
        world.kill("tcp://m:1")
        await asyncio.sleep(10)
        assert second.is_primary
        assert second.security.time.now_ms(world.clock.now()) >= said + 9_000
        await asyncio.sleep(ticket_lifetime_ms / 1000)
        for state in (second.security, keys.state):
            assert state.open_ticket(session.ticket, world.clock.now()).name == "ann"

    simulate(scene)


def test_a_manager_that_stands_by_since_the_store_was_empty_takes_tickets_before_it_is_asked_anything() -> None:
    async def scene(world: World) -> None:
        shared = MemoryKV()
        managers = await asyncio.gather(
            *(world.serve(shared, CONFIG, f"tcp://m:{number}", name=f"mgmtd-{number}") for number in (1, 2))
        )
        await asyncio.sleep(10)
        (standby,) = (manager for manager in managers if not manager.is_primary)
        assert standby is managers[1], "the one that no client asks"
        session = await log_in(world, await make_user(world))
        await asyncio.sleep(3)
        assert standby.security.open_ticket(session.ticket, world.clock.now()).name == "ann"

    simulate(scene)


def test_failed_logins_wait_and_nothing_else_does() -> None:
    async def scene(world: World) -> None:
        audit = Told()
        await world.serve(config=CONFIG, audit=audit)
        token = await make_user(world)
        wrong = token[:-1] + ("0" if token[-1] != "0" else "1")
        unknown = f"{token[:14]}ffffffff{token[22:]}"
        client = await world.started()
        said, took = set(), []
        for attempt in range(free_failures + 12):
            began = world.clock.now()
            with pytest.raises(NoPermission) as refused:
                await session_of(world, (wrong, unknown)[attempt % 2])._renew(client)
            said.add(str(refused.value))
            took.append(world.clock.now() - began)
        assert len(said) == 1
        assert took == sorted(took)
        assert took[-1] >= wait_max_ns
        began = world.clock.now()
        await session_of(world, token)._renew(client)
        assert world.clock.now() - began < SECOND
        refusals = [line for line in audit.lines if line["result"] == "NOT_ADMITTED"]
        assert len(refusals) == len(took)
        secrets = {each.rpartition("-")[2] for each in (token, wrong)}
        assert not any(secret in str(audit.lines) for secret in secrets)

    simulate(scene)


def test_what_a_session_cannot_log_in_with_is_told() -> None:
    async def scene(world: World) -> None:
        await world.serve(config=CONFIG)
        token = await make_user(world)
        client = await world.started()
        for text, code in (
            (f"fs3u-00000000{token[13:]}", Code.WRONG_CLUSTER),
            ("fs3-0-0-0", Code.INVALID),
            ("hunter2", Code.INVALID),
        ):
            with pytest.raises(FS3Error) as refused:
                await session_of(world, text)._renew(client)
            assert refused.value.code is code
            assert text not in str(refused.value)
        with pytest.raises(NoPermission, match="no client certificate"):
            await session_of(world, lambda: CERTIFICATE)._renew(client)
        with pytest.raises(NoPermission, match="not known here"):
            await session_of(world, node_credentials("storage-9", KEY))._renew(client)

    simulate(scene)


def test_a_session_that_is_refused_for_good_says_so_in_the_end() -> None:
    async def scene(world: World) -> None:
        await world.serve(config=CONFIG)
        session = await log_in(world, await make_user(world))
        assert session.on_refused(b"another", "s:1")
        waited = 0
        while session.on_refused(session.ticket, "s:1"):
            await asyncio.sleep(1)
            waited += SECOND
        assert waited >= refused_ns_max
        admin = SecurityAdmin(await world.started())
        await asyncio.sleep(refusals_apart_ns / SECOND)
        await admin.put_user(PutUser("ann", must_be_new=False, is_disabled=True))
        assert session.on_refused(session.ticket, "s:1")
        await asyncio.sleep(2)
        assert not session.on_refused(session.ticket, "s:1")
        await admin.put_user(PutUser("ann", must_be_new=False, is_disabled=False))
        await asyncio.sleep(6)
        assert session.on_refused(session.ticket, "s:1")

    simulate(scene)


def test_a_node_that_refuses_everything_does_not_make_its_clients_log_in_back_to_back() -> None:
    async def scene(world: World) -> None:
        await world.serve(config=CONFIG)
        session = await log_in(world, await make_user(world))
        logins = 0

        def on_ticket() -> None:
            nonlocal logins
            logins += 1

        session.subscribe(on_ticket)
        seconds = 30
        for _ in range(100 * seconds):
            session.on_refused(session.ticket, "s:1")
            await asyncio.sleep(0.01)
        assert 3 <= logins <= 12
        # Another one, which does not know the newest key yet, has the client log in at once.
        before = session.ticket
        session.on_refused(before, "s:2")
        await asyncio.sleep(0.05)
        assert session.ticket != before

    simulate(scene)


def test_a_manager_that_is_away_is_not_asked_back_to_back() -> None:
    async def scene(world: World) -> None:
        await world.serve(config=CONFIG)
        session = await log_in(world, await make_user(world))
        world.kill("tcp://m:1")
        asked = 0
        begin = session._credentials

        def count() -> Any:
            nonlocal asked
            asked += 1
            return begin()

        session._credentials = count
        for _ in range(2000):
            session.on_refused(session.ticket, "s:1")
            await asyncio.sleep(0.01)
        assert 1 <= asked <= 1 + 20 * SECOND // login_retry_min_ns // 3

    simulate(scene)


def test_tokens_are_over_by_the_managers_time_of_day_alone() -> None:
    async def scene(world: World) -> None:
        await world.serve(config=CONFIG)
        await make_user(world)
        admin = SecurityAdmin(await world.started())
        token = await admin.add_token("ann", lifetime_ms=3_600_000)
        session = await log_in(world, token)  # by a clock that has no time of day
        world.clock.added = 3_600_000 * MILLISECOND
        with pytest.raises(NoPermission, match="has expired 0 s ago"):
            await session._renew(await world.started())

    simulate(scene)


def test_a_node_whose_key_was_remembered_is_that_node_alone() -> None:
    async def scene(world: World) -> None:
        await world.serve(config=CONFIG)
        await make_user(world)
        await node_of(world)
        client = await world.started()
        with pytest.raises(NoPermission, match="not known here, or is not the right one"):
            await session_of(world, node_credentials("storage-1", b"o" * 32))._renew(client)
        session = session_of(world, node_credentials("storage-1", KEY))
        await session._renew(client)
        assert session.name == "storage-1"

    simulate(scene)
