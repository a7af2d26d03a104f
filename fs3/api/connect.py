"""Connecting: where the client meets its drivers."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from fs3.api.client import Client
from fs3.api.embedded import EmbeddedServices
from fs3.api.io.buffer_budget import buffer_budget
from fs3.api.proving import start_proving
from fs3.api.tls import choose_tls, framed_wire, read_tls
from fs3.api.tracing import tracing
from fs3.api.url import cluster_addresses
from fs3.base.errors import error
from fs3.base.ids import ClientId
from fs3.base.secret import Secret
from fs3.base.status import Code
from fs3.client.connector import Connector
from fs3.client.meta.client import MetaClient
from fs3.client.mgmtd.client import MgmtdClient
from fs3.client.security.credentials import CredentialSource, or_certificate, token_credentials
from fs3.client.security.session import LoginSession
from fs3.client.storage.client import StorageClient
from fs3.core.files.file_clients import draw_client_id
from fs3.drivers.os.clock import OsClock
from fs3.drivers.os.host import host_identity, pid_space
from fs3.drivers.os.host_files import OsHostFiles
from fs3.drivers.rpc.rpc_counts import RpcCounts
from fs3.drivers.tls.credentials import TlsCredentials
from fs3.model.inode import User
from fs3.model.metrics import catalogue
from fs3.model.metrics.metric import Sample
from fs3.ports.clock import Clock
from fs3.ports.host_files import HostFiles
from fs3.ports.rpc import Transport
from fs3.ports.security import TicketSource
from fs3.runtime.metric_sources import MetricSources
from fs3.runtime.process_metrics import ProcessMetrics
from fs3.runtime.token_sources import find_token_source

TRANSPORTS = ("auto", "tcp", "local", "grpc")
"""auto: Unix sockets where both sides are on one host, else TCP."""


@dataclass(frozen=True, slots=True)
class LastingClient:
    """A client that several processes are one after another, as those of a mount. To the metadata services it is one: its
    sessions and locks stay."""

    client_id: ClientId
    seqs: Iterator[int]
    """Numbers of requests that no earlier process has used."""


async def connect(
    url: str,
    *,
    transport: str = "auto",
    user: User | None = None,
    verify: bool = True,
    relatime: bool = False,
    count: bool = True,
    short_circuit: bool = True,
    lasting: LastingClient | None = None,
    token: str | Secret | None = None,
    token_file: str | os.PathLike[str] | None = None,
    credentials: CredentialSource | None = None,
    tls_ca: str | None = None,
    tls_cert: str | None = None,
    tls_key: str | None = None,
) -> Client:
    """A client of the cluster a URL names: "fs3://host:port[,host:port]", "host:port", or "fs3://" with FS3_CLUSTER set.

    `transport`: which wire reaches meta and storage (the manager is always asked over TCP); where FS3_RDMA names
    devices, payloads on TCP connections travel by RDMA (docs/transports.md). `user`: who asks; None means this process's user and
    groups. `verify`: check every byte read against its checksum. `relatime`: reads bring access times up to
    date, as those of a mount. `count`: count calls and their times for `Client.metrics`. `short_circuit`: small ranges of chunks
    that are on this host are read from the files of their node, without asking it. `lasting`: which client it is, where it
    was one before. `token`, or `token_file`, which only its owner can read: of the user who asks, in a cluster with security;
    None: FS3_TOKEN, or FS3_TOKEN_FILE. `credentials`: what else it logs in with. `tls_ca`: PEM file of
    the authorities that the cluster's certificates are of; it is spoken to by TLS. `tls_cert`, `tls_key`: PEM files of a
    certificate of this client's own. Without all three FS3_TLS_CA, FS3_TLS_CERT and FS3_TLS_KEY count.

    Unreachable when no manager answers; NoPermission when the cluster asks who calls and the token is missing or refused.
    """
    if transport not in TRANSPORTS:
        raise error(Code.INVALID, f"transport is {transport!r}, not one of {', '.join(TRANSPORTS)}")
    managers = cluster_addresses(url)
    clock = OsClock()
    tls = read_tls(choose_tls(managers, tls_ca, tls_cert, tls_key), clock)
    addresses = [f"{'tcp' if tls is None else 'tls'}://{address}" for address in managers]
    counts = RpcCounts(clock) if count else None
    host = host_identity()
    credentials = credentials or token_credentials(find_token_source(token, token_file))
    if tls is not None and tls.files.cert:
        credentials = or_certificate(credentials)
    session = LoginSession(credentials, clock)
    async with AsyncExitStack() as stack:
        services = Connector(_transports(transport, clock, counts, session, tls), host)
        stack.push_async_callback(services.close)
        control = services
        if transport in ("local", "grpc"):
            control = Connector(_transports("tcp", clock, counts, session, tls), host)
            stack.push_async_callback(control.close)
        files = OsHostFiles() if short_circuit and transport in ("auto", "local") else None
        return await _build_client(
            stack, control, services, addresses, clock, counts, host, user, verify, relatime, lasting, session, files
        )


async def connect_embedded(
    path: str | os.PathLike[str], *, user: User | None = None, verify: bool = True, relatime: bool = False
) -> Client:
    """A client of a cluster that runs inside this process, in a thread of its own, and keeps its data in a directory.

    One process at a time can have a directory open, and all loops and threads of it may. Closing the last client of a directory
    stops its services.
    """
    async with AsyncExitStack() as stack:
        addresses, release = await EmbeddedServices.take(path)
        stack.push_async_callback(release)
        return await _build_embedded(stack, addresses, user, verify, relatime)


async def connect_running(addresses: list[str]) -> Client:
    """A client of embedded services that another process of this user has running; `addresses`: endpoints of their manager. It
    ends when that process does."""
    async with AsyncExitStack() as stack:
        return await _build_embedded(stack, addresses, None, True, False)


async def _build_embedded(stack: AsyncExitStack, addresses: list[str], user: User | None, verify: bool, relatime: bool) -> Client:
    from fs3.drivers.framed.local import EmbeddedTransport

    clock = OsClock()
    counts = RpcCounts(clock)
    connector = Connector([EmbeddedTransport(clock, counts=counts)], host="")
    stack.push_async_callback(connector.close)
    return await _build_client(stack, connector, connector, addresses, clock, counts, "", user, verify, relatime)


async def _build_client(
    stack: AsyncExitStack,
    control: Connector,
    services: Connector,
    addresses: list[str],
    clock: Clock,
    counts: RpcCounts | None,
    host: str,
    user: User | None,
    verify: bool,
    relatime: bool,
    lasting: LastingClient | None = None,
    session: LoginSession | None = None,
    files: HostFiles | None = None,
) -> Client:
    """The three parts, started; what `stack` holds is closed with the client, or here when something fails. `files`: see
    `StorageClient`."""
    tracing.read_environment()
    identity = draw_client_id(os.urandom)
    manager = MgmtdClient(control, addresses, clock, session=session)
    stack.push_async_callback(manager.close)
    await manager.start()
    # Storage knows updates by the numbers that one process gave them, so each process is another client to it.
    named, seqs = (identity, None) if lasting is None else (lasting.client_id, lasting.seqs)
    meta = MetaClient(manager, services, clock, named, user or this_user(), seqs=seqs)
    stack.push_async_callback(meta.close)
    storage = StorageClient(manager, services, clock, identity, verify=verify, host=host, files=files)
    stack.push_async_callback(storage.close)
    if session is not None:
        stack.push_async_callback(start_proving(clock, manager, meta, storage, session).close)
    sources = MetricSources()
    sources.add("process", ProcessMetrics("client", Path(sys.argv[0] or "python").name).samples)
    if counts is not None:
        sources.add("calls", counts.samples)
    sources.add("chunks", storage.samples)
    sources.add("spans", tracing.samples)
    sources.add("buffers", lambda: [Sample(catalogue.MEMORY, ("buffers",), buffer_budget.held)])
    client = Client(manager, meta, storage, stack.pop_all().aclose, umask=this_umask(), relatime=relatime, sources=sources)
    client.locks.pid_space = pid_space()
    return client


def _transports(
    transport: str, clock: Clock, counts: RpcCounts | None, tickets: TicketSource, tls: TlsCredentials | None
) -> list[Transport]:
    # Imported when needed: a process that has loaded grpc cannot use it after fork(), and DataLoaders fork.
    if transport == "grpc":
        from fs3.drivers.grpc import GrpcTransport

        return [GrpcTransport(clock, counts=counts, tickets=tickets, credentials=tls)]
    from fs3.drivers.framed.local import LocalTransport
    from fs3.drivers.rdma.paths import rdma_paths
    from fs3.drivers.rdma.settings import allowed_devices

    local = LocalTransport(clock, counts=counts, tickets=tickets)
    if transport == "local":
        return [local]
    wire = framed_wire(tls, clock, counts=counts, tickets=tickets, paths=rdma_paths(clock, allowed_devices()))
    return [wire] if transport == "tcp" else [local, wire]


def this_user() -> User:
    """This process's user and groups."""
    return User(os.geteuid(), os.getegid(), tuple(os.getgroups()))


def this_umask() -> int:
    """This process's umask, read without changing it; 0o022 where the system does not tell."""
    try:
        found = re.search(r"^Umask:\s*([0-7]+)$", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    except (OSError, UnicodeDecodeError):
        return 0o022
    return int(found[1], 8) if found else 0o022
