"""Another user of the machine, and another user of the cluster, against a secured cluster: every verb on both wires, as another
OS user, with tickets of all kinds. What they are after stays as it was, and none of it is told."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

import fs3
from fs3.api.client import Client
from fs3.base.errors import NoPermission
from fs3.base.ids import file_chunk
from fs3.base.status import Code
from fs3.cli.local import LocalCluster
from fs3.cli.manager_client import ask_cluster_of
from fs3.core.security.seal import KeyRing
from fs3.core.security.tickets import open_ticket, seal_ticket
from fs3.drill.intruder import FramedAttack, GrpcAttack, IntruderPlan
from fs3.drill.tickets import fetch_keys, fetch_ticket
from fs3.drivers.framed.tcp import TcpTransport
from fs3.drivers.os.clock import OsClock
from fs3.model.method import Method
from fs3.model.principal import Principal, PrincipalKind, Right
from fs3.wire.methods import META, METHODS, MGMTD, PROCESS, STORAGE
from fs3.wire.pb import common_pb2, meta_pb2, mgmtd_pb2, storage_pb2
from fs3.wire.process import authenticate_to_pb
from tests.space import SpaceGuard

pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(300 + int(os.environ.get("FS3_INTRUDER_REQUESTS", "0")) // 50),
    pytest.mark.skipif(os.geteuid() != 0, reason="takes root, who may become another user"),
]

REQUESTS = int(os.environ.get("FS3_INTRUDER_REQUESTS", "6000"))
"""Of the drill: `FS3_INTRUDER_REQUESTS=100000` is the long one."""
MARK = bytes.fromhex("f53c0de5ec4e7b1a5eedbadc0ffee123")
REFUSALS = (Code.NOT_AUTHENTICATED, Code.PERMISSION, Code.ACCESS, Code.NO_CAPABILITY)
CHUNKS = (STORAGE.Read, STORAGE.Update)
SMALL, LARGE = MARK * 64, MARK * (1 << 17)


@dataclass
class Secured:
    """A cluster with security, of one chain of three replicas, and the tokens of its users."""

    cluster: LocalCluster
    tokens: dict[str, str]

    @property
    def home(self) -> Path:
        """Where its processes keep their data."""
        return self.cluster.directory.path

    def run(self, *arguments: str, user: str = "admin", **options: Any) -> str:
        """The command line as one of its users."""
        environment = {**os.environ, "FS3_TOKEN": self.tokens.get(user, "")}
        command = [sys.executable, "-m", "fs3.cli.main", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, **options)
        assert not done.returncode, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @property
    def names(self) -> list[str]:
        """Of its storage processes."""
        return [name for name in self.cluster.shape.names() if name.startswith("storage")]

    @asynccontextmanager
    async def client(self, user: str) -> AsyncIterator[Client]:
        """One of its users."""
        client = await fs3.connect(self.cluster.url, token=self.tokens[user])
        try:
            yield client
        finally:
            await client.aclose()


@pytest.fixture(scope="module")
def secured(space_guard: SpaceGuard) -> Iterator[Secured]:
    """With files of Ann's; Bob and Eve are users too."""
    with space_guard.lend("secured") as home, LocalCluster(home / "cluster", targets=1) as cluster:
        found = Secured(cluster, {})
        found.run("security", "on", cluster.address, "--token-file", str(home / "admin.token"))
        found.tokens["admin"] = (home / "admin.token").read_text().strip()
        for uid, name in enumerate(("ann", "bob", "eve"), 1000):
            found.run("user", "add", name, "--uid", str(uid), "--cluster", cluster.address)
            found.tokens[name] = found.run("user", "token", name, "--cluster", cluster.address).strip()
        asyncio.run(_lay_out(found))
        yield found


async def _lay_out(secured: Secured) -> None:
    async with secured.client("admin") as admin:
        await admin.mkdir("/ann")
        await admin.chown("/ann", 1000, 1000)
        await admin.mkdir("/bob")
        await admin.chown("/bob", 1001, 1001)
    async with secured.client("ann") as ann:
        await ann.chmod("/ann", 0o700)
        for name, data in (("small", SMALL), ("large", LARGE)):
            file = await ann.open(f"/ann/{name}", "w", permissions=0o600)
            await ann.pwrite(file, data)
            await ann.close(file)


async def _snapshot(secured: Secured) -> dict[str, Any]:
    """What must be the same afterwards."""
    async with secured.client("ann") as ann:
        found: dict[str, Any] = {}
        for path in ("/", "/ann", "/bob", "/ann/small", "/ann/large"):
            inode = await ann.stat(path)
            found[path] = (inode.mode, inode.uid, inode.gid, inode.length)
        for path in ("/ann/small", "/ann/large"):
            file = await ann.open(path, "r")
            found[f"bytes of {path}"] = bytes(await ann.pread(file, 1 << 22, 0))
            await ann.close(file)
        routing = ann.manager.routing
        found["nodes"] = [(node.name, node.role, node.alive) for node in routing.nodes.values()]
        found["chains"] = {chain.id: (chain.version, chain.slots) for chain in routing.chains.values()}
    found["users"] = json.loads(secured.run("user", "list", "--json", "--cluster", secured.cluster.address))
    return found


async def _wait_refused(endpoint: str, ticket: bytes) -> None:
    """Until a process has heard that a ticket does not count any more. A new connection for each question: many refusals on one
    end it."""
    transport = TcpTransport(OsClock())
    while True:
        channel = transport.connect(endpoint)
        try:
            await channel.call(PROCESS.Authenticate, authenticate_to_pb(ticket))
        except NoPermission:
            return
        finally:
            await channel.close()
        await asyncio.sleep(0.05)


async def _plan(secured: Secured) -> IntruderPlan:
    """What an intruder may find out, and more: it is told everything but secrets."""
    address = secured.cluster.address
    async with secured.client("ann") as ann:
        inode = await ann.stat("/ann/large")
        routing = ann.manager.routing
        chain = next(iter(routing.chains.values()))
        endpoints = [endpoint for node in routing.nodes.values() for endpoint in node.endpoints]
    endpoints += [endpoint for manager in (await ask_cluster_of(address)).managers for endpoint in manager.endpoints]
    ticket, state = await fetch_keys(address, "storage-1", secured.home / "storage-1")
    now_ms = open_ticket(state.ring, ticket, 0).expires_ms
    bob = Principal(PrincipalKind.USER, "bob", Right.USER, 1001, 1001, expires_ms=now_ms)
    root = msgspec.structs.replace(bob, rights=Right.USER | Right.ADMIN | Right.STORAGE, uid=0)
    good = seal_ticket(state.ring, bob)
    eve = await fetch_ticket(address, secured.tokens["eve"])
    secured.run("security", "revoke", "eve", address)
    for endpoint in endpoints:
        if endpoint.startswith("tcp://"):
            await _wait_refused(endpoint, eve)
    forged = seal_ticket(KeyRing(state.ring.cluster, {state.ring.newest: bytes(32)}, state.ring.newest), root)
    bad = {
        "none": [b""],
        "wrong": [b"?", bytes(64), good[:6] + bytes(64), os.urandom(100)],
        "forged": [forged],
        "expired": [seal_ticket(state.ring, msgspec.structs.replace(root, expires_ms=1))],
        "swapped": [forged[: len(forged) - 16] + good[-16:], good[:-16] + eve[-16:], good + eve],
        "of another cluster": [seal_ticket(KeyRing(b"another cluster!", state.ring.keys, state.ring.newest), root)],
        "revoked": [eve],
    }
    knowledge = {
        "path": "/ann/small",
        "parent": 1,
        "inode_id": inode.id,
        "content_id": inode.id,
        "inodes": [inode.id],
        "client_id": "ab" * 16,
        "client_ids": "ab" * 16,
        "uid": 0,
        "gid": 0,
        "groups": [0],
        "mode": 0o777,
        "name": "storage-1",
        "cluster": routing.cluster.hex(),
        "node_id": 1,
        "role": 1,
        "target_id": chain.slots[0].target,
        "from_target": chain.slots[0].target,
        "chunks": file_chunk(inode.id, 0).hex(),
        "chunk": file_chunk(inode.id, 0).hex(),
        "chain": chain.id,
        "chains": [chain.id],
        "chain_version": chain.version,
        "chain_versions": [chain.version],
        "kinds": [0],
        "offsets": [0],
        "lengths": [4096],
        "versions": [0],
        "channels": [1],
        "seqs": [1],
        "reserves": [0],
        "repair_version": 1,
        "toml": "",
        "user": "bob",
    }
    sockets = [str(path) for path in sorted(secured.home.rglob("*")) if path.is_socket() or path.is_file()]
    tickets = {kind: [each.hex() for each in those] for kind, those in bad.items()}
    return IntruderPlan(endpoints, MARK.hex(), knowledge, tickets, address, private_files=sockets)


def _intrude(secured: Secured, plan: IntruderPlan, space: Path, requests: int) -> dict[str, Any]:
    """The report of an intruder that is another user of the machine."""
    file = space / "plan.json"
    file.write_bytes(msgspec.json.encode(plan))
    command = [sys.executable, "-m", "fs3.drill.intruder", str(file), "--requests", str(requests), "--user", "nobody"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280 + REQUESTS / 50)
    assert done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_no_verb_tells_or_changes_anything_without_a_good_ticket(secured: Secured, tmp_path: Path) -> None:
    before = asyncio.run(_snapshot(secured))
    plan = asyncio.run(_plan(secured))
    report = _intrude(secured, plan, tmp_path, REQUESTS)
    assert report["breaches"] == []
    refused = sum(count for what, count in report["answers"].items() if what.endswith(" NOT_AUTHENTICATED"))
    assert refused > REQUESTS // 2
    verbs = {method.full_name for method in METHODS.values() if not method.rights & Right.ANYONE}
    assert set(report["refused_verbs"]) == verbs
    for wire in ("framed", "grpc"):
        for kind in plan.bad_tickets:
            assert report["answers"][f"{wire} {kind} NOT_AUTHENTICATED"]
    assert asyncio.run(_snapshot(secured)) == before


def test_another_user_gets_nothing_that_is_not_its_own(secured: Secured, tmp_path: Path) -> None:
    before = asyncio.run(_snapshot(secured))
    plan = asyncio.run(_plan(secured))
    plan.bad_tickets = {"none": [""]}
    plan.token = secured.tokens["bob"]
    report = _intrude(secured, plan, tmp_path, REQUESTS)
    assert report["breaches"] == []
    assert report["answers"]["framed good PERMISSION"]
    assert report["answers"]["grpc good PERMISSION"]
    after = asyncio.run(_snapshot(secured))
    # A user may open namespaces, for which there may be chains of another length then. Those that were there are as they were.
    after["chains"] = {number: chain for number, chain in after["chains"].items() if number in before["chains"]}
    assert after == before


async def _deeds(secured: Secured) -> tuple[dict[str, str], list[tuple[str, Method, Any, bytes]]]:
    """What all could do before there was security: endpoints by whose they are; and for each deed where it is done."""
    async with secured.client("ann") as ann:
        inode, routing = await ann.stat("/ann/large"), ann.manager.routing
    chain = routing.chains[inode.layout.chains[0]]
    head, after = chain.slots[:2]
    endpoints = {node.name: next(each for each in node.endpoints if each.startswith("tcp://")) for node in routing.nodes.values()}
    endpoints["mgmtd"] = f"tcp://{secured.cluster.address}"
    first, second = (routing.nodes[slot.node].name for slot in (head, after))
    caller = common_pb2.Caller(client_id=b"i" * 16, request_seq=1, uid=0, gid=0)
    chunk = {"chunks": file_chunk(inode.id, 0), "chains": [chain.id], "chain_versions": [chain.version], "offsets": [0]}
    write = {**chunk, "lengths": [16], "kinds": [0], "client_ids": b"i" * 16, "channels": [1], "seqs": [1], "reserves": [0]}
    forward = {**write, "from_target": head.target, "versions": [9], "serials": [1 << 60]}
    return endpoints, [
        ("meta", META.SetAttr, meta_pb2.SetAttrRequest(caller=caller, path={"path": "/ann/small"}, mode=0o777), b""),
        (first, STORAGE.Read, storage_pb2.ReadRequest(**chunk, lengths=[4096]), b""),
        (first, STORAGE.Update, storage_pb2.UpdateRequest(**write, versions=[0]), b"x" * 16),
        (second, STORAGE.Update, storage_pb2.UpdateRequest(**forward), b"x" * 16),
        ("mgmtd", MGMTD.SetConfig, mgmtd_pb2.SetConfigRequest(role=mgmtd_pb2.ROLE_STORAGE, toml="read_only = true"), b""),
        ("mgmtd", MGMTD.Heartbeat, mgmtd_pb2.HeartbeatRequest(node_id=after.node, incarnation=1 << 40, seq=1, leaving=True), b""),
        ("mgmtd", MGMTD.RegisterNode, mgmtd_pb2.RegisterNodeRequest(name=second, role=3, endpoints=["tcp://127.0.0.1:1"]), b""),
        (first, STORAGE.AcceptLoss, storage_pb2.AcceptLossRequest(target_id=head.target), b""),
    ]


async def test_deeds_that_needed_no_more_than_a_port(secured: Secured) -> None:
    def snapshot() -> dict[str, Any]:
        return asyncio.run(_snapshot(secured))

    before = await asyncio.to_thread(snapshot)
    endpoints, deeds = await _deeds(secured)
    address, home = secured.cluster.address, secured.home
    third = (set(secured.names) - {where for where, *_ in deeds}).pop()
    tickets = {
        "a stranger": None,
        "bob": await fetch_ticket(address, secured.tokens["bob"]),
        third: (await fetch_keys(address, third, home / third))[0],
        "meta": (await fetch_keys(address, "meta", home / "meta"))[0],
    }
    for who, ticket in tickets.items():
        for where, method, request, payload in deeds:
            if who in (third, "meta") and method in CHUNKS and not method.is_forward(request):
                continue  # services are trusted with chunks; what they may not is to speak for another
            asked = [(method, request.SerializeToString(), payload)]
            send = partial(FramedAttack(endpoints[where]).send, ticket, asked)
            ((_, code, message, data),) = await asyncio.to_thread(lambda send=send: list(send()))
            told = f"{method!r} by {who}: {code.name} {message}"
            assert MARK not in data, told
            if code is Code.OK:  # each of the chunks is answered by itself
                assert method in CHUNKS, told
                assert all(method.reply.FromString(data).codes), told
            else:
                assert code in REFUSALS, told
    assert await asyncio.to_thread(snapshot) == before


async def test_the_client_of_another_user_is_not_asked_for(secured: Secured) -> None:
    """Who has found out its id can neither end what it holds nor learn what it was answered: on both wires."""
    ticket = await fetch_ticket(secured.cluster.address, secured.tokens["bob"])
    async with secured.client("ann") as ann:
        file = await ann.open("/ann/large", "r+")
        await ann.lock(file)
        endpoints = [each for node in ann.manager.routing.nodes.values() if node.name == "meta" for each in node.endpoints]
        hers = common_pb2.Caller(client_id=ann.meta._caller.client_id, request_seq=1)
        release = meta_pb2.LOCK_STEP_RELEASE_CLIENT
        deeds: list[tuple[Method, Any]] = [
            (META.KeepAlive, meta_pb2.KeepAliveRequest(caller=hers)),
            (META.Lock, meta_pb2.LockRequest(caller=hers, inode_id=1, step=release)),
            (META.Mkdir, meta_pb2.MkdirRequest(caller=hers, path={"parent": 1, "path": "bob/hers"}, mode=0o700)),
            (META.Stat, meta_pb2.StatRequest(caller=hers, path={"parent": 1, "path": "bob"})),
        ]
        asked = [(method, request.SerializeToString(), b"") for method, request in deeds]
        for attack in (
            FramedAttack(next(each for each in endpoints if each.startswith("tcp://"))),
            GrpcAttack(next(each for each in endpoints if each.startswith("grpc://"))),
        ):
            answers = await asyncio.to_thread(lambda attack=attack: list(attack.send(ticket, asked)))
            assert len(answers) == len(deeds)
            for method, code, message, _ in answers:
                assert code is Code.PERMISSION, f"{method!r} on {attack.wire}"
                assert hers.client_id.hex() in message
        await ann.unlock(file)
        await ann.close(file)
    async with secured.client("bob") as bob:
        with pytest.raises(FileNotFoundError):
            await bob.stat("/bob/hers")


async def test_another_user_is_told_so_by_the_library(secured: Secured) -> None:
    async with secured.client("bob") as bob:
        for refused in (
            bob.stat("/ann/small"),
            bob.open("/ann/small", "r"),
            bob.open("/ann/new", "w"),
            bob.chmod("/ann", 0o777),
            bob.chown("/bob", 0, 0),
            bob.unlink("/ann/small"),
            bob.rename("/ann/small", "/bob/small"),
        ):
            with pytest.raises(NoPermission):
                await refused
    number = secured.tokens["bob"].rpartition("-")[0]
    with pytest.raises(NoPermission):
        await fs3.connect(secured.cluster.url, token=f"{number}-{'0' * 64}")
    with pytest.raises(NoPermission):
        await fs3.connect(secured.cluster.url)
