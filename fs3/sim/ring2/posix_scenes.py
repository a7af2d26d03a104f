"""Directed runs of several users of a namespace, and of times that are set while files are written. Each says what went wrong, ""
when nothing did."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from fs3.api.client import Client
from fs3.base.errors import FS3Error
from fs3.base.ids import InodeId
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.model.inode import InodeType, User
from fs3.model.namespace import PathRef, RemoveKind, RenameMode
from fs3.model.requests import Mkdir, Remove, SetAttributes, Stat
from fs3.sim.namespace_model import ModelError, ModelNode, NamespaceModel
from fs3.sim.ring2.checks import explain_namespace
from fs3.sim.ring2.scene_cluster import SceneCluster

STEPS = 400
"""Of all users together."""
STEPS_BETWEEN_TROUBLE = 25
STEPS_BETWEEN_LOOKS = 20
CLIENTS = ("client-1", "client-2", "client-3")
USERS = (User(0, 0), User(1000, 1000, (50,)), User(1001, 1001), User(1002, 1002, (1000,)))
NAMES = ("a", "b", "é", "\udcc3", "\udcff")
"""The last two are bytes that are not UTF-8."""
MODES = (0o777, 0o1777, 0o1777, 0o750, 0o2775)
DEVICE = 0x801
PAST = 1_000_000_000_000_000_000

_KINDS = {
    "f": (0, InodeType.FILE),
    "d": (0, InodeType.DIRECTORY),
    "l": (0, InodeType.SYMLINK),
    "p": (stat.S_IFIFO, InodeType.FIFO),
    "s": (stat.S_IFSOCK, InodeType.SOCKET),
    "b": (stat.S_IFBLK, InodeType.BLOCK_DEVICE),
    "c": (stat.S_IFCHR, InodeType.CHARACTER_DEVICE),
}

Ask = Callable[[Client], Coroutine[Any, Any, Any]]
Step = tuple[str, Callable[[], ModelNode], Ask]
"""(what it is, what the model does, what a client is asked)."""


async def users_change_a_tree(stage: SceneCluster) -> str:
    """Four users of three clients create, move, link and remove what they may, one after the other, while answers are lost and
    the service is killed. Each answer, and the tree that any client sees, is what a model of the namespace says."""
    prng = Prng(7)
    model = NamespaceModel()
    await stage.call(CLIENTS[0], lambda client: client.chmod("/", model.root.mode))
    granted = 0
    for number in range(STEPS):
        user = prng.pick(USERS)
        what, expected, ask = _draw_step(prng, model, user)
        client = prng.pick(CLIENTS)
        work = stage.start(client, lambda client, user=user, ask=ask: _answer(ask(_view(client, user))))  # type: ignore[misc]
        if number % STEPS_BETWEEN_TROUBLE == 0:
            await _lose_answers(stage, client)
        try:
            expected()
            said = Code.OK
        except ModelError as refusal:
            said = refusal.code
        found = await work
        if found is not said:
            return f"user {user.uid}: {what} is answered {found.name}, and should be {said.name}"
        granted += found is Code.OK
        if number % STEPS_BETWEEN_LOOKS and number < STEPS - 1:
            continue
        if problem := await stage.call(prng.pick(CLIENTS), lambda client: _explain_tree(_view(client, USERS[0]), model)):
            return f"after {what} of user {user.uid}: {problem}"
    if granted < STEPS // 4:
        return f"hardly a step is granted: {granted} of {STEPS}"
    return explain_namespace(stage.cluster)


async def _find_wrong_mtime(stage: SceneCluster, reader: str, path: str, *, is_written_after: bool) -> str:
    """Of a file whose mtime was set to `PAST`, and that was written after that or not; "": it is right."""
    mtime = (await stage.call(reader, lambda client: client.stat(path))).mtime_ns
    if is_written_after is not (mtime == PAST):
        return ""
    return f"{path}: its mtime is {'what was set before the last write' if is_written_after else 'not what was set after it'}"


async def times_are_set_while_a_file_is_written(stage: SceneCluster) -> str:
    """An mtime is set before or after the last write of a file that is open, and before a truncation, while the service is
    killed. Another client looks."""

    async def write(client: Client, path: str, *, after: bool, sync: bool) -> None:
        file = await client.open(path, "w")
        await client.pwrite(file, b"first")
        await client.utimes(path, mtime_ns=PAST)
        if after:
            await client.pwrite(file, b"second")
        if sync:
            await client.fsync(file)
        await client.close(file)

    for sync in (False, True):
        for after in (False, True):
            path = f"/{'synced' if sync else 'closed'}-{'later' if after else 'before'}"
            work = stage.start("client-1", lambda client: write(client, path, after=after, sync=sync))  # noqa: B023
            await asyncio.sleep(0.003)
            _restart(stage)
            await work
            if problem := await _find_wrong_mtime(stage, "client-2", path, is_written_after=after):
                return problem
    await stage.call("client-1", lambda client: client.utimes("/closed-before", mtime_ns=PAST))
    await stage.call("client-3", lambda client: client.truncate("/closed-before", 1))
    if (await stage.call("client-2", lambda client: client.stat("/closed-before"))).mtime_ns == PAST:
        return "a truncation does not show in the mtime"
    return ""


async def others_set_times_while_a_file_is_written(stage: SceneCluster) -> str:
    """Another client sets the mtime of a file that is open for writing, before or after the last write of it, while the service
    is killed. The writer knows nothing of that, and closes or syncs."""

    async def write(client: Client, path: str, *, after: bool, sync: bool) -> None:
        file = await client.open(path, "w")
        await client.pwrite(file, b"first")
        await asyncio.sleep(4)
        if after:
            await client.pwrite(file, b"second")
        await asyncio.sleep(2)
        if sync:
            await client.fsync(file)
        await client.close(file)

    for sync in (False, True):
        for after in (False, True):
            path = f"/{'synced' if sync else 'closed'}-{'later' if after else 'before'}"
            work = stage.start("client-1", lambda client: write(client, path, after=after, sync=sync))  # noqa: B023
            await asyncio.sleep(1)
            setting = stage.start("client-2", lambda client: client.utimes(path, mtime_ns=PAST))  # noqa: B023
            _restart(stage)
            await setting
            await work
            if problem := await _find_wrong_mtime(stage, "client-3", path, is_written_after=after):
                return problem
    return ""


async def a_working_directory_is_removed(stage: SceneCluster) -> str:
    """A client goes on in a directory that another one has removed."""
    made = await stage.call("client-1", lambda client: client.mkdir("/d"))
    await stage.call("client-2", lambda client: client.rmdir("/d"))
    _restart(stage)
    here = InodeId(made.id)
    asked: tuple[tuple[Any, Code], ...] = (
        (Stat(PathRef(here, "x")), Code.NOT_FOUND),
        (Stat(PathRef(here, "..")), Code.NOT_FOUND),
        (Mkdir(PathRef(here, "x")), Code.NOT_FOUND),
        (Remove(PathRef(here, "x")), Code.NOT_FOUND),
        (Stat(PathRef(here)), Code.STALE),
    )
    for request, said in asked:
        found = await stage.call("client-1", lambda client, request=request: _answer(client.meta.ask(request)))  # type: ignore[misc]
        if found is not said:
            return f"in a directory that was removed {request} is answered {found.name}, and should be {said.name}"
    return ""


def _view(client: Client, user: User) -> Client:
    return client.as_user(user.uid, user.gid, user.groups, umask=0)


async def _answer(work: Awaitable[Any]) -> Code:
    try:
        await work
    except FS3Error as refusal:
        return refusal.code
    return Code.OK


def _draw_step(prng: Prng, model: NamespaceModel, user: User) -> Step:
    paths = model.list_paths()
    directories = [path for path, node in paths if node.kind == "d"]
    there = prng.pick([path for path, _ in paths])
    above = prng.pick(directories)
    absent = f"{above}/{prng.pick(NAMES)}" if above else prng.pick(NAMES)
    mode = prng.pick(MODES)
    match prng.below(9):
        case 0 | 1:
            return f"mkdir {absent!r}", lambda: model.mkdir(user, absent, mode, False), lambda client: client.mkdir(absent, mode)
        case 2 | 3:
            kind = prng.pick(tuple("ffpsbc"))
            bits = _KINDS[kind][0] | mode
            return (
                f"mknod {absent!r} {kind}",
                lambda: model.mknod(user, absent, kind, mode, DEVICE),
                lambda client: client.mknod(absent, bits, DEVICE),
            )
        case 4:
            target = f"/{there}" if prng.chance(1, 2) else prng.pick(NAMES)
            return (
                f"symlink {absent!r} to {target!r}",
                lambda: model.symlink(user, absent, target),
                lambda client: client.symlink(target, absent),
            )
        case 5:
            return (
                f"link {there!r} {absent!r}",
                lambda: model.link(user, there, absent),
                lambda client: client.link(there, absent),
            )
        case 6:
            other = prng.pick((absent, prng.pick([path for path, _ in paths])))
            how = prng.pick((RenameMode.REPLACE, RenameMode.REPLACE, RenameMode.NOREPLACE, RenameMode.EXCHANGE))
            return (
                f"rename {there!r} {other!r} {how.name}",
                lambda: model.rename(user, there, other, how),
                lambda client: client.rename(there, other, how),
            )
        case 7:
            kind_of_removal = prng.pick((RemoveKind.FILE, RemoveKind.DIRECTORY))
            return (
                f"remove {there!r} {kind_of_removal.name}",
                lambda: model.remove(user, there, kind_of_removal),
                lambda client: client.meta.ask(Remove(PathRef.of(there), kind_of_removal)),
            )
        case _:
            owner = prng.pick(USERS)
            change = SetAttributes(PathRef.of(there), follow=False, uid=owner.uid, gid=owner.gid)
            return (
                f"chown {there!r} {owner.uid}",
                lambda: model.chown(user, there, owner.uid, owner.gid),
                lambda client: client.set_attributes(change),
            )


async def _explain_tree(client: Client, model: NamespaceModel) -> str:
    """How the tree that a client sees differs from that of the model."""
    todo = [("", model.root)]
    while todo:
        path, directory = todo.pop()
        entries = await client.list_all(path, with_inodes=True)
        names = [entry.name for entry in entries]
        if sorted(names) != sorted(directory.entries):
            return f"{path!r} has the names {names}, and should have {sorted(directory.entries)}"
        if names:
            behind = [entry.name async for entry in client.list(path, after=names[len(names) // 2])]
            if behind != names[len(names) // 2 + 1 :]:
                return f"behind {names[len(names) // 2]!r} of {names} come {behind}"
        for entry in entries:
            node, inode = directory.entries[entry.name], entry.inode
            assert inode is not None
            found = inode.type, inode.mode, inode.uid, inode.gid, inode.nlink, inode.rdev, inode.link_target
            said = _KINDS[node.kind][1], node.mode, node.uid, node.gid, model.count_links(node), node.rdev, node.target
            if found != said:
                return f"{path}/{entry.name!r} is {found}, and should be {said}"
            if node.kind == "d":
                todo.append((f"{path}/{entry.name}", node))
    return ""


async def _lose_answers(stage: SceneCluster, client: str) -> None:
    """What a client asks arrives, and its answers do not, until the service is another process."""
    stage.cluster.links.block("meta-1", client)
    await asyncio.sleep(0.1)
    stage.cluster.links.unblock("meta-1", client)
    stage.cluster.network.cut("meta-1", client)
    _restart(stage)


def _restart(stage: SceneCluster) -> None:
    host = stage.cluster.hosts["meta-1"]
    host.kill()
    host.start()


POSIX_SCENES: dict[str, Callable[[SceneCluster], Awaitable[str]]] = {
    "users_change_a_tree": users_change_a_tree,
    "times_are_set_while_a_file_is_written": times_are_set_while_a_file_is_written,
    "others_set_times_while_a_file_is_written": others_set_times_while_a_file_is_written,
    "a_working_directory_is_removed": a_working_directory_is_removed,
}
