"""What is stored of security outlives managers, and goes with a copy of their store."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import pytest

from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.client.mgmtd.security_admin import SecurityAdmin
from fs3.client.security.credentials import node_credentials
from fs3.client.security.session import LoginSession
from fs3.core.membership.groups import groups_per_page_max
from fs3.core.membership.state import FORMAT, ClusterRow, State
from fs3.core.security.login import stored_of
from fs3.core.txn import ReadTxn, Txn
from fs3.drivers.memory.kv import MemoryKV
from fs3.model.group import Group, PutGroup
from fs3.model.security import NodeKey, PutUser, SecurityPhase
from fs3.services.mgmtd.store import MgmtdStore


async def copy_of(kv: MemoryKV) -> MemoryKV:
    """Another store with the rows of this one."""

    async def read(txn: ReadTxn) -> list[tuple[bytes, bytes]]:
        return await txn.scan(b"", b"\xff", 1000)

    rows = await kv.read(read)
    other = MemoryKV()

    async def write(txn: Txn) -> None:
        for key, value in rows:
            txn.put(key, value)

    await other.transact(write)
    return other


async def test_users_keys_and_time_are_in_every_copy(world: Any) -> None:
    kv = MemoryKV()
    await world.serve(kv=kv, node_key=NodeKey("mgmtd", stored_of(b"k" * 32)))
    admin = SecurityAdmin(await world.started())
    await admin.put_user(PutUser("ann", must_be_new=True, uid=1000, gid=100, certificates=("CN=ann",)))
    await admin.put_user(PutUser("bob", must_be_new=True, uid=1001, gid=100))
    await admin.add_token("ann", "laptop")
    await admin.remove_user("bob")
    await admin.put_group(PutGroup("physics", must_be_new=True, gid=100))
    await admin.put_group(PutGroup("gone", must_be_new=True, gid=101))
    await admin.remove_group("gone")
    await admin.admit_nodes([NodeKey("storage-1", b"s" * 32)])
    await admin.set_security(on=True)
    first = await MgmtdStore(kv).load()
    restored = await copy_of(kv)
    again = await MgmtdStore(restored).load()
    assert first is not None
    assert again is not None
    assert (again.security, again.users, again.node_keys) == (first.security, first.users, first.node_keys)
    assert again.groups == first.groups == {"physics": Group("physics", 100)}
    assert list(again.users) == ["ann"]
    assert again.users["ann"].tokens[0].name == "laptop"
    assert sorted(again.node_keys) == ["mgmtd", "storage-1"]
    assert again.security.phase is SecurityPhase.ON
    assert "bob" in again.security.revoked
    await world.serve(kv=restored, endpoint="tcp://m:2", sole=True)
    session = LoginSession(node_credentials("mgmtd", b"k" * 32), world.clock)
    found = SecurityAdmin(await world.started("tcp://m:2", session=session))
    assert (await found.status()).phase is SecurityPhase.ON
    assert [account.name for account in await found.list_users()] == ["ann"]
    assert await found.list_groups() == [Group("physics", 100)]


async def test_a_store_from_before_has_none_of_it(world: Any) -> None:
    kv = MemoryKV()
    await world.serve(kv=kv)
    state = await MgmtdStore(kv).load()
    assert state is not None
    assert (state.security, state.users, state.node_keys) == (State(ClusterRow(FORMAT, b"", "")).security, {}, {})
    assert state.groups == {}
    assert (await SecurityAdmin(await world.started()).status()).phase is SecurityPhase.OFF


async def test_groups_are_kept_with_what_was_refused(world: Any) -> None:
    await world.serve(kv=MemoryKV())
    admin = SecurityAdmin(await world.started())
    await admin.put_user(PutUser("ann", must_be_new=True, uid=1000, gid=100))
    made = [Group(f"g{number:04}", number) for number in range(groups_per_page_max + 2)]
    for group in made:
        assert await admin.put_group(PutGroup(group.name, must_be_new=True, gid=group.gid)) == group
    assert await admin.list_groups() == made
    refusals: list[tuple[Awaitable[Group], Code]] = [
        (admin.put_group(PutGroup("g0100", must_be_new=False, gid=9999)), Code.NOT_EMPTY),
        (admin.remove_group("g0100"), Code.NOT_EMPTY),
        (admin.put_group(PutGroup("other", must_be_new=True, gid=7)), Code.EXISTS),
        (admin.remove_group("other"), Code.NOT_FOUND),
    ]
    for action, code in refusals:
        with pytest.raises(FS3Error) as refused:
            await action
        assert refused.value.code is code
    assert await admin.remove_group("g0100", also_used=True) == Group("g0100", 100)
    assert (await admin.list_users())[0].gid == 100
    assert len(await admin.list_groups()) == len(made) - 1
