"""Directed runs of a user that asks in the name of another one's client, with security."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from fs3.api.client import Client
from fs3.api.file import File
from fs3.base.errors import FS3Error
from fs3.base.ids import CLIENT_ID_BYTES
from fs3.base.status import Code
from fs3.core.files.file_clients import FileClientKind, make_file_client
from fs3.core.security.capability import WRITE
from fs3.model.method import Method
from fs3.model.routing import Role
from fs3.sim.ring2.capability_scenes import Chunk, Stranger, make, make_directory, request_about, restart
from fs3.sim.ring2.scene_cluster import SceneCluster
from fs3.wire.methods import META, STORAGE
from fs3.wire.pb import common_pb2, meta_pb2

_FILES_MAX = 32
_TRIES = 20
"""Seconds that a metadata service may take to be back."""
_OWN_ID = b"of a stranger!!!"


async def a_client_is_its_users(stage: SceneCluster) -> str:
    """A user has found out the ids of another one's client. It can neither end that one's locks and sessions, nor learn what its
    requests were answered, nor use up the numbers of its updates, or those of a file; before and after the metadata service was
    started anew."""
    await make_directory(stage)
    secret = await make(stage, "client-1", "/shared/secret", 0o600)
    file = await stage.call("client-1", _open_and_lock)
    stranger, links = Stranger(stage, "client-2"), stage.cluster.links
    for when in ("", " after a restart"):
        for what, method, message in _attempts(stage.cluster.clients["client-1"]):
            if (code := await _ask_meta(stage, stranger, method, message)) is not Code.PERMISSION:
                return f"another user {what}{when}: {code.name}"
        if not when:
            # The stranger is the first that the new process hears of.
            links.block("client-1", "meta-1")
            await restart(stage, "meta-1")
    links.unblock("client-1", "meta-1")
    stage.cluster.network.release()
    if problem := await _try_updates(stage, stranger, secret):
        return problem

    async def go_on(client: Client) -> str:
        try:
            await client.pwrite(file, b"goes on", 0)
            await client.unlock(file)
            await client.close(file)
        except FS3Error as failure:
            return f"the owner of the client hears {failure}"
        return ""

    return await stage.call("client-1", go_on)


async def _open_and_lock(client: Client) -> File:
    file = await client.open("/shared/secret", "r+")
    await client.lock(file)
    return file


def _attempts(victim: Client) -> Iterator[tuple[str, Method, Any]]:
    """What may be done in the name of a client."""
    client_id = victim.meta._caller.client_id
    caller = common_pb2.Caller(client_id=client_id, request_seq=1 << 40)
    yield "says that it lives", META.KeepAlive, meta_pb2.KeepAliveRequest(caller=caller)
    release = meta_pb2.LOCK_STEP_RELEASE_CLIENT
    yield "ends its locks", META.Lock, meta_pb2.LockRequest(caller=caller, inode_id=1, step=release)
    for seq in range(1, 4):
        asked = common_pb2.Caller(client_id=client_id, request_seq=seq)
        path = {"parent": 1, "path": "shared/other"}
        yield f"repeats its request {seq}", META.Mkdir, meta_pb2.MkdirRequest(caller=asked, path=path, mode=0o777)
    yield "looks as it", META.Stat, meta_pb2.StatRequest(caller=caller, path={"parent": 1, "path": "shared"})


async def _ask_meta(stage: SceneCluster, stranger: Stranger, method: Method, message: Any) -> Code:
    routing = stage.cluster.clients["client-2"].manager.routing
    (meta,) = (node for node in routing.nodes.values() if node.role is Role.META)
    for _ in range(_TRIES):
        code = await stranger.ask(method, message, meta)
        if code is not Code.UNAVAILABLE:
            break
        await asyncio.sleep(1)
    return code


async def _try_updates(stage: SceneCluster, stranger: Stranger, secret: Chunk) -> str:
    """Of a file of its own, on the chain of one that the other client has written."""
    for number in range(_FILES_MAX):
        own = await make(stage, "client-2", f"/shared/own-{number}", 0o600)
        if own.chain == secret.chain:
            break
    else:
        return "no file is on the chain of another one"
    shown = stranger.held(own.id, WRITE)
    routing = stage.cluster.clients["client-2"].manager.routing
    chain = routing.chains[own.chain]
    head = routing.nodes[chain.serving_slots()[0].node]
    victim = stage.cluster.clients["client-1"].storage._client_id
    for client_ids, expected in (
        (victim, Code.PERMISSION),
        (_OWN_ID, Code.OK),
        (_OWN_ID + victim, Code.PERMISSION),
        (make_file_client(FileClientKind.APPEND, own.content), Code.OK),
        (make_file_client(FileClientKind.APPEND, secret.content), Code.PERMISSION),
        (make_file_client(FileClientKind.TRIM, own.content), Code.PERMISSION),
        (make_file_client(FileClientKind.MOVE, own.content), Code.PERMISSION),
    ):
        message = request_about(STORAGE.Update, own.id, chain.id, chain.version)
        for _ in range(len(client_ids) // CLIENT_ID_BYTES - 1):
            message.MergeFrom(request_about(STORAGE.Update, own.id, chain.id, chain.version))
        message.client_ids = client_ids
        message.seqs[:] = [1 << 40] * len(message.seqs)
        if (code := await stranger.ask(STORAGE.Update, message, head, [shown])) is not expected:
            return f"an update in the name of {client_ids!r} is answered {code.name}"
    return ""


CLIENT_SCENES: dict[str, Callable[[SceneCluster], Awaitable[str]]] = {"a_client_is_its_users": a_client_is_its_users}
