"""Directed runs of users that try what is not theirs, with security. Each says what went wrong, "" when nothing did."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any

from fs3.api.client import Client
from fs3.api.kvcache.cache import KVCache
from fs3.api.kvcache.results import Status
from fs3.base.errors import FS3Error, NoPermission, NotFound
from fs3.base.ids import ChainId, ChunkId, file_chunk
from fs3.base.limits import capability_lifetime_ms
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.client.connector import Connector
from fs3.core.kvcache.pages import page_chunks
from fs3.core.security.capability import READ, WRITE, Capability, Subject, SubjectKind, seal_capability, subject_key, subject_of
from fs3.core.security.seal import KeyRing, SealKind, seal
from fs3.model.inode import Inode, User
from fs3.model.method import Method
from fs3.model.routing import Role
from fs3.sim.checkers import refusals
from fs3.sim.ring2.authority import Authority
from fs3.sim.ring2.scene_cluster import SceneCluster
from fs3.sim.ring2.workloads.secured_files import SecuredFileWorkload
from fs3.wire.methods import STORAGE
from fs3.wire.storage_needs import NEEDS, NO_NEED

CAPABILITY_USERS = tuple(User(1000 + number, 1000 + number) for number in range(1, 8))
"""Of the clients from the first on. The last one is an administrator."""
_ADMINISTRATOR = "client-8"
_CONTENT = b"only for its owner. " * 50
_GARBAGE_SECONDS = 70
LOAD_SECONDS = 125


def _authority(stage: SceneCluster) -> Authority:
    authority = stage.cluster.authority
    assert authority is not None, "the scene is not of a cluster with security"
    return authority


class Chunk:
    """The first chunk of a file."""

    def __init__(self, inode: Inode) -> None:
        self.content = inode.content_id
        self.id = file_chunk(inode.content_id, 0)
        self.chain: ChainId = inode.layout.chains[0]


async def make(stage: SceneCluster, owner: str, path: str, mode: int) -> Chunk:
    """A file of a client."""

    async def work(client: Client) -> Inode:
        file = await client.open(path, "w", permissions=mode)
        await client.pwrite(file, _CONTENT, 0)
        await client.close(file)
        return await client.stat(path)

    return Chunk(await stage.call(owner, work))


async def make_directory(stage: SceneCluster) -> None:
    """One in which all may make files."""

    async def work(client: Client) -> None:
        await client.mkdir("/shared", mode=0o777)
        await client.chmod("/shared", 0o777)

    await stage.call(_ADMINISTRATOR, work)


class Stranger:
    """A client that speaks to storage nodes by itself, as another program of its user would."""

    def __init__(self, stage: SceneCluster, name: str) -> None:
        self._stage = stage
        self._name = name
        self._connector = Connector([stage.cluster.hosts[name].transport()], "")

    async def ask(self, method: Method, message: Any, node: Any, shown: Iterable[bytes] = ()) -> Code:
        """What a node says to a request that shows these capabilities. OK: it was served."""
        if method in NEEDS:
            del message.capabilities[:]
            message.capabilities.extend(shown)

        async def work(_: Client) -> Code:
            try:
                await self._connector.channel(node.endpoints).call(method, message, timeout_ns=2 * SECOND)
            except FS3Error as refusal:
                return refusal.code
            return Code.OK

        return await self._stage.call(self._name, work)

    async def try_chunk(self, method: Method, chunk: Chunk, shown: Sequence[bytes] = ()) -> list[Code]:
        """What the nodes of a chunk's chain say."""
        routing = self._stage.cluster.clients[self._name].manager.routing
        chain = routing.chains[chunk.chain]
        codes = []
        for slot in chain.serving_slots():
            message = request_about(method, chunk.id, chunk.chain, chain.version)
            codes.append(await self.ask(method, message, routing.nodes[slot.node], shown))
        return codes

    def held(self, chunk: ChunkId, right: int) -> bytes:
        """The capability that the client has of a chunk."""
        capabilities = self._stage.cluster.clients[self._name].storage.capabilities
        assert capabilities is not None
        held = capabilities.find(subject_key(subject_of(chunk)), right)
        assert held is not None, f"{self._name} has no capability of {chunk.hex()}"
        return held.message


def request_about(method: Method, chunk: ChunkId, chain: int, version: int) -> Any:
    """A request of a kind about one chunk."""
    message = method.request()
    fields = message.DESCRIPTOR.fields_by_name
    about = message.pages if "pages" in fields else message
    if "chunks" in about.DESCRIPTOR.fields_by_name:
        about.chunks = chunk
        about.chains.append(chain)
        if "chain_versions" in about.DESCRIPTOR.fields_by_name:
            about.chain_versions.append(version)
    if "places" in about.DESCRIPTOR.fields_by_name:
        about.places = bytes(2)
    if method is STORAGE.Read:
        message.offsets.append(0)
        message.lengths.append(100)
    if method is STORAGE.Update:
        message.kinds.append(3)  # removed
        for column in (message.offsets, message.lengths, message.versions, message.channels, message.seqs, message.reserves):
            column.append(0)
        message.client_ids = bytes(16)
    return message


def _is_refused(codes: Iterable[Code]) -> bool:
    return all(code in (Code.NO_CAPABILITY, Code.PERMISSION, Code.NOT_AUTHENTICATED) for code in codes)


async def _try_all(stage: SceneCluster) -> str:
    secret = await make(stage, "client-1", "/shared/secret", 0o600)
    public = await make(stage, "client-1", "/shared/public", 0o644)
    own = await make(stage, "client-2", "/shared/own", 0o600)
    stranger, owner = Stranger(stage, "client-2"), Stranger(stage, "client-1")
    of_own, stolen = stranger.held(own.id, WRITE), owner.held(secret.id, WRITE)
    if any(code is not Code.OK for code in await stranger.try_chunk(STORAGE.Read, own, [of_own])):
        return "what opens its own file is refused"
    ring = _authority(stage).ring
    of_secret = Capability(Subject(SubjectKind.CONTENT, secret.content), READ | WRITE, 1 << 50, "client-2")
    foreign = KeyRing(b"another cluster.", ring.keys, ring.newest)
    forged = [
        stolen[:-1] + bytes([stolen[-1] ^ 1]),
        seal_capability(foreign, of_secret),
        seal_capability(KeyRing(ring.cluster, {ring.newest: bytes(32)}, ring.newest), of_secret),
        seal(ring, SealKind.TICKET, seal_capability(ring, of_secret)[6:-16]),
        b"",
        b"?" * 5000,
    ]
    for what, shown in (
        ("nothing", []),
        ("what opens another file", [of_own]),
        ("what was made out to another user", [stolen]),
        ("what is forged", forged),
    ):
        if not _is_refused(codes := await stranger.try_chunk(STORAGE.Read, secret, shown)):
            return f"a file of another user is read by showing {what}: {codes}"
    for method, need in NEEDS.items():
        if need is not NO_NEED and not _is_refused(codes := await _try_verb(stage, stranger, method, secret)):
            return f"{method!r} needs no capability: {codes}"
    await stage.call("client-2", lambda client: _read(client, "/shared/public"))
    read_only = stranger.held(public.id, READ)
    if not _is_refused(codes := await stranger.try_chunk(STORAGE.Update, public, [read_only])):
        return f"what allows to read has changed a file: {codes}"
    if await stage.call("client-1", lambda client: _read(client, "/shared/public")) != _CONTENT:
        return "the bytes of a file have changed"
    return ""


async def _try_verb(stage: SceneCluster, stranger: Stranger, method: Method, chunk: Chunk) -> list[Code]:
    message = method.request()
    if "capabilities" in message.DESCRIPTOR.fields_by_name:
        if "namespace_id" in message.DESCRIPTOR.fields_by_name:
            message.namespace_id = 1
            routing = stage.cluster.clients["client-2"].manager.routing
            nodes = [node for node in routing.nodes.values() if node.role is Role.STORAGE]
            return [await stranger.ask(method, message, node) for node in nodes]
        return await stranger.try_chunk(method, chunk)
    return [Code.PERMISSION]  # of services: admission knows that by the method alone


async def _read(client: Client, path: str) -> bytes:
    file = await client.open(path)
    buffer = bytearray(file.length)
    await client.pread_into(file, buffer, 0)
    return bytes(buffer)


async def capabilities_open_nothing_else(stage: SceneCluster) -> str:
    """A user speaks to storage nodes by itself, and shows what it has, what it has found, and what it has made."""
    await make_directory(stage)
    return await _try_all(stage)


async def a_removed_file_leaves_nothing_open(stage: SceneCluster) -> str:
    """A user keeps the capability of a file that it removes. Others make files when its chunks are gone: none of them is opened
    by it."""
    await make_directory(stage)
    own = await make(stage, "client-2", "/shared/own", 0o600)
    stranger = Stranger(stage, "client-2")
    ring = _authority(stage).ring
    # Made out anew, so that it is not its age that it is refused for.
    kept = Capability(Subject(SubjectKind.CONTENT, own.content), READ | WRITE, 1 << 50, "client-2")
    await stage.call("client-2", lambda client: client.unlink("/shared/own"))
    await asyncio.sleep(_GARBAGE_SECONDS)
    shown = [seal_capability(ring, kept)]
    for number in range(3):
        later = await make(stage, "client-1", f"/shared/later-{number}", 0o600)
        if not _is_refused(await stranger.try_chunk(STORAGE.Read, later, shown)):
            return f"the capability of content {own.content} opens content {later.content} of another user"
    return ""


async def a_capability_ends(stage: SceneCluster) -> str:
    """A user shows the same capability for longer than it lives; its client has it renewed meanwhile and reads on."""
    await make_directory(stage)
    own = await make(stage, "client-2", "/shared/own", 0o600)
    stranger = Stranger(stage, "client-2")
    kept = stranger.held(own.id, WRITE)

    async def read_on(client: Client) -> str:
        file = await client.open("/shared/own")
        buffer = bytearray(len(_CONTENT))
        for _ in range(10 + 2 * capability_lifetime_ms * MILLISECOND // SECOND):
            await client.pread_into(file, buffer, 0)
            if buffer != _CONTENT:
                return "other bytes are read"
            await asyncio.sleep(1)
        return ""

    reading = stage.start("client-2", read_on)
    await asyncio.sleep(capability_lifetime_ms * MILLISECOND / SECOND + 2)
    if not _is_refused(codes := await stranger.try_chunk(STORAGE.Read, own, [kept])):
        return f"a capability counts although its time is over: {codes}"
    return await reading


async def a_key_goes_out_of_use(stage: SceneCluster) -> str:
    """A key became known to a user, who makes a capability with it. Once keys have rotated, what that has opened is closed, also
    on the connection that has shown it."""
    await make_directory(stage)
    authority = _authority(stage)
    secret = await make(stage, "client-1", "/shared/secret", 0o600)
    stranger = Stranger(stage, "client-2")
    made = seal_capability(authority.ring, Capability(Subject(SubjectKind.CONTENT, secret.content), READ, 1 << 50, "client-2"))
    if any(code is not Code.OK for code in await stranger.try_chunk(STORAGE.Read, secret, [made])):
        return "what is made with a key in use is refused"
    await authority.rotate()
    await authority.rotate()
    await asyncio.sleep(2)
    if not _is_refused(codes := await stranger.try_chunk(STORAGE.Read, secret)):
        return f"a connection is served for what was made with a key that is not in use any more: {codes}"
    return ""


async def keys_rotate_and_users_go_under_load(stage: SceneCluster) -> str:
    """Six users read, write and make files for two minutes, while keys rotate, storage and metadata services are
    killed, one user is revoked and one removed. The others are never refused; the revoked one is within two seconds, the removed
    one when its capabilities have ended."""
    cluster, authority = stage.cluster, _authority(stage)
    await make_directory(stage)
    history = refusals.RefusalHistory()
    works = []
    for number in range(1, 7):
        name = f"client-{number}"
        work = SecuredFileWorkload(name, cluster.clients[name], history, cluster.loop)
        works.append(stage.start(name, lambda _, work=work: work.run(LOAD_SECONDS)))  # type: ignore[misc]

    async def trouble() -> None:
        for second, what in (
            (15, partial(restart, stage, "storage-2")),
            (25, authority.rotate),
            (40, partial(restart, stage, "meta-1")),
            (45, partial(_end, history, "client-5", authority.revoke, cluster.loop)),
            (50, partial(_end, history, "client-6", authority.ban, cluster.loop)),
            (60, partial(restart, stage, "storage-1")),
            (85, authority.rotate),
            (100, partial(restart, stage, "storage-3")),
        ):
            await asyncio.sleep(max(0.0, second - (cluster.loop.now - begun) / SECOND))
            await what()

    begun = cluster.loop.now
    await trouble()
    await asyncio.wait(works)
    return refusals.explain(history)


async def restart(stage: SceneCluster, name: str) -> None:
    """Kill a process, and start it anew a second later."""
    stage.cluster.hosts[name].kill()
    await asyncio.sleep(1)
    stage.cluster.hosts[name].start()


async def _end(history: refusals.RefusalHistory, user: str, how: Callable[[str], None], loop: Any) -> None:
    how(user)
    patience_ns = refusals.REVOKED_NS if how.__name__ == "revoke" else refusals.REMOVED_NS
    history.ended[user] = loop.now + patience_ns


async def tenants_do_not_meet(stage: SceneCluster) -> str:
    """A user of one tenant stores pages; a user of another one learns neither of the namespace nor of its keys."""
    keys = [b"prompt-%d" % number for number in range(8)]

    async def store(client: Client) -> tuple[int, bytes]:
        cache = await KVCache.of(client, namespace="model", page_bytes=64)
        statuses = await cache.put_from(keys, [bytes(64)] * len(keys))
        found = await cache.lookup(keys)
        assert set(statuses) == {Status.OK}, statuses
        assert found.hits == len(keys), found
        usage = await KVCache.list_usage(client)
        assert [each.pages for each in usage] == [len(keys)], usage
        return cache.namespace_id, cache.salt

    namespace_id, salt = await stage.call("client-1", store)

    async def look(client: Client) -> str:
        if await KVCache.list_namespaces(client):
            return "the namespaces of another tenant are listed"
        for name, attempt in (
            ("opened", lambda: KVCache.of(client, namespace="model", page_bytes=64)),
            ("cleared", lambda: client.manager.clear_namespace("model", namespace_id)),
        ):
            try:
                await attempt()
            except (NoPermission, NotFound):
                continue
            return f"the namespace of another tenant is {name}"
        (answer,) = await client.manager.get_namespace_capabilities([namespace_id])
        if answer is not Code.NO_NAMESPACE:
            return "a capability for the namespace of another tenant is given"
        return ""

    if problem := await stage.call("client-2", look):
        return problem
    stranger = Stranger(stage, "client-2")
    routing = stage.cluster.clients["client-2"].manager.routing
    page = page_chunks(namespace_id, salt, keys)[0]
    for method in (STORAGE.Contains, STORAGE.Find, STORAGE.Read, STORAGE.Lease, STORAGE.Pin, STORAGE.TouchPages):
        for chain in routing.chains.values():
            message = request_about(method, page, chain.id, chain.version)
            node = routing.nodes[chain.serving_slots()[0].node]
            if not _is_refused([code := await stranger.ask(method, message, node)]):
                return f"{method!r} tells of a page of another tenant: {code.name}"
    return ""


CAPABILITY_SCENES: dict[str, Callable[[SceneCluster], Awaitable[str]]] = {
    "capabilities_open_nothing_else": capabilities_open_nothing_else,
    "a_removed_file_leaves_nothing_open": a_removed_file_leaves_nothing_open,
    "a_capability_ends": a_capability_ends,
    "a_key_goes_out_of_use": a_key_goes_out_of_use,
    "keys_rotate_and_users_go_under_load": keys_rotate_and_users_go_under_load,
    "tenants_do_not_meet": tenants_do_not_meet,
}
