"""Directed runs of several users with ACLs and extended attributes. Each says what went wrong, "" when nothing did."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from fs3.api.client import Client
from fs3.api.xattrs import XATTR_CREATE
from fs3.base.errors import FS3Error, NoPermission
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.model.inode import User
from fs3.sim.acl_model import ModelAcl
from fs3.sim.ring2.checks import explain_namespace
from fs3.sim.ring2.scene_cluster import SceneCluster

STAFF = 50
ALICE, BOB, CAROL, DAVE = User(1000, 1000), User(1001, 1001), User(1002, 1002, (STAFF,)), User(1003, 1003)
USERS = (User(0, 0), ALICE, BOB, CAROL, DAVE)
"""Of the first clients. Bob is named by ACLs, Carol's group is, Dave is one of the others."""
ROOTS, ALICES, BOBS, CAROLS, DAVES = [f"client-{number}" for number in range(1, 6)]
ACCESS_ACL, DEFAULT_ACL = "system.posix_acl_access", "system.posix_acl_default"
CAPABILITY = "security.capability"
NAMES = 24
"""Of attributes that each of several clients sets."""

Work = Callable[[Client], Coroutine[Any, Any, Any]]


async def users_share_a_directory(stage: SceneCluster) -> str:
    """Alice lets Bob write and Carol's group read what is created in her directory, and takes that back. The service is killed
    between the steps, so what counts is what is stored."""
    shared = ModelAcl(7, 0, 0, {ALICE.uid: 7, BOB.uid: 7}, {STAFF: 5}, 7)
    await stage.call(ROOTS, lambda client: client.mkdir("/d"))
    await stage.call(ROOTS, lambda client: client.chown("/d", ALICE.uid, ALICE.gid))
    for name in (ACCESS_ACL, DEFAULT_ACL):
        await stage.call(ALICES, lambda client, name=name: client.set_xattr("/d", name, shared.attribute()))  # type: ignore[misc]
    await stage.call(BOBS, lambda client: client.mkdir("/d/e"))
    for path in ("/d/f", "/d/e/f"):
        await stage.call(ALICES, lambda client, path=path: _write(client, path, "w", b"first"))  # type: ignore[misc]
        _restart(stage)
        for user, mode, may in ((BOBS, "r+", True), (CAROLS, "r", True), (CAROLS, "r+", False), (DAVES, "r", False)):
            if problem := await _explain_open(stage, user, path, mode, may):
                return problem
        await stage.call(ALICES, lambda client, path=path: client.chmod(path, 0o640))  # type: ignore[misc]
        for user, mode, may in ((BOBS, "r", True), (BOBS, "r+", False), (CAROLS, "r", True), (DAVES, "r", False)):
            if problem := await _explain_open(stage, user, path, mode, may):
                return f"{problem} since its mode is 640"
    return explain_namespace(stage.cluster)


async def a_file_with_attributes_is_changed(stage: SceneCluster) -> str:
    """A file with a capability and other attributes is written in place, and is replaced as a whole by another client. At last it
    is removed."""
    await stage.call(ROOTS, lambda client: _write(client, "/f", "w", b"first"))
    await stage.call(ROOTS, lambda client: client.chmod("/f", 0o666))
    await stage.call(ROOTS, lambda client: client.chmod("/", 0o777))
    changes: tuple[tuple[str, Work], ...] = (
        (BOBS, lambda client: _write(client, "/f", "r+", b"second")),
        (ROOTS, lambda client: _write(client, "/f", "r+", b"third!")),
        (BOBS, lambda client: client.truncate("/f", 3)),
        (BOBS, _replace),
    )
    await stage.call(BOBS, lambda client: client.set_xattr("/f", "user.note", b"kept"))
    for user, change in changes:
        await stage.call(ROOTS, lambda client: client.set_xattr("/f", CAPABILITY, b"\1\0\0\2" + bytes(16)))
        await stage.call(user, change)
        _restart(stage)
        found = await stage.call(DAVES, lambda client: client.list_xattr("/f"))
        if found != ["user.note"]:
            return f"after a change by {user} the file has the attributes {found}"
    await stage.call(ROOTS, lambda client: client.unlink("/f"))
    await asyncio.sleep(_reclaim_seconds(stage))
    return explain_namespace(stage.cluster)


async def clients_create_attributes(stage: SceneCluster) -> str:
    """Several clients create attributes of one file, each its own and once, and remove some, while answers are lost and the
    service is killed. None is told that its own is there already, or gone."""
    await stage.call(ROOTS, lambda client: _write(client, "/f", "w", b""))
    await stage.call(ROOTS, lambda client: client.chmod("/f", 0o666))
    works = [stage.start(user, lambda client, user=user: _create(client, user)) for user in (ALICES, BOBS, CAROLS)]  # type: ignore[misc]
    for user in (ALICES, BOBS, CAROLS):
        # Requests arrive, and their answers do not.
        stage.cluster.links.block("meta-1", user)
        await asyncio.sleep(0.1)
        stage.cluster.links.unblock("meta-1", user)
        stage.cluster.network.cut("meta-1", user)
        await asyncio.sleep(0.1)
        _restart(stage)
    problems = [await work for work in works]
    if problem := next(filter(None, problems), ""):
        return problem
    found = await stage.call(DAVES, lambda client: client.list_xattr("/f"))
    expected = sorted(f"user.{user}.{number}" for user in (ALICES, BOBS, CAROLS) for number in range(1, NAMES, 2))
    return "" if found == expected else f"there are the attributes {found}"


async def _create(client: Client, user: str) -> str:
    prng = Prng(len(user))
    for number in range(NAMES):
        name = f"user.{user}.{number}"
        await asyncio.sleep(prng.below(60 * MILLISECOND) / SECOND)
        try:
            await client.set_xattr("/f", name, b"once", XATTR_CREATE)
            if number % 2 == 0:
                await client.remove_xattr("/f", name)
        except FS3Error as refusal:
            if refusal.code in (Code.EXISTS, Code.NO_ATTRIBUTE):
                return f"{user} is told of {name}, which it sets once: {refusal}"
            raise
    return ""


async def _explain_open(stage: SceneCluster, user: str, path: str, mode: str, may: bool) -> str:
    async def attempt(client: Client) -> bool:
        try:
            await client.close(await client.open(path, mode))
        except NoPermission:
            return False
        return True

    found = await stage.call(user, attempt)
    return "" if found == may else f"{user} {'may' if found else 'may not'} open {path} with {mode!r}"


async def _write(client: Client, path: str, mode: str, data: bytes) -> None:
    file = await client.open(path, mode)
    await client.pwrite(file, data)
    await client.close(file)


async def _replace(client: Client) -> None:
    file = await client.open_unnamed("/", becomes="/f")
    await client.pwrite(file, b"replaced")
    await client.close(file, publish="/f")


def _restart(stage: SceneCluster) -> None:
    host = stage.cluster.hosts["meta-1"]
    host.kill()
    host.start()


def _reclaim_seconds(stage: SceneCluster) -> float:
    """Readers of what was removed are given some time, and duties come round."""
    return stage.cluster.swarm.garbage_delay_ms / 1000 + 75


XATTR_SCENES: dict[str, Callable[[SceneCluster], Awaitable[str]]] = {
    "users_share_a_directory": users_share_a_directory,
    "a_file_with_attributes_is_changed": a_file_with_attributes_is_changed,
    "clients_create_attributes": clients_create_attributes,
}
