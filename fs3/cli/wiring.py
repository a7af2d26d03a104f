"""Builds one service out of its drivers: the only place, with `embedded`, that knows all of them."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from functools import partial

import msgspec

from fs3.api.tls import framed_wire
from fs3.base.errors import error
from fs3.base.ids import TargetId
from fs3.base.limits import manager_lease_ns, manager_lock_lease_ns
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.cli.directory import host_port
from fs3.cli.exposure import check_exposure
from fs3.cli.observer import ProcessObserver
from fs3.cli.options import ServeOptions, ServiceRole
from fs3.cli.stores import STORE_KEY, describe_store, open_store
from fs3.client.connector import Connector
from fs3.client.mgmtd.client import MgmtdClient
from fs3.client.mgmtd.member import Member
from fs3.client.security.credentials import machine_credentials, node_credentials
from fs3.client.security.keys import ServiceKeys
from fs3.client.storage.client import StorageClient
from fs3.core.files.file_clients import draw_client_id
from fs3.core.membership.config import MgmtdConfig
from fs3.core.security.login import stored_of
from fs3.core.security.state import SecurityState
from fs3.drivers.chunks.store import FileChunkStore
from fs3.drivers.framed.bulk_path import BulkPaths
from fs3.drivers.framed.local import LocalTransport
from fs3.drivers.grpc import GrpcTransport
from fs3.drivers.http.dashboard_site import DashboardSite
from fs3.drivers.os.clock import OsClock
from fs3.drivers.os.data_directories import DataDirectories
from fs3.drivers.os.host import host_identity
from fs3.drivers.os.host_files import OsHostFiles
from fs3.drivers.os.short_turns import take_short_turns
from fs3.drivers.rdma.paths import rdma_paths
from fs3.drivers.rdma.settings import allowed_devices
from fs3.drivers.rpc.activity import ActivityMeter
from fs3.drivers.rpc.rpc_counts import RpcCounts
from fs3.drivers.tls.issuer import MachineIssuer
from fs3.model.machine import MachineProof
from fs3.model.routing import Role
from fs3.model.security import NodeKey
from fs3.ports.chunk_store import ChunkStore
from fs3.ports.disks import StoreFactory
from fs3.ports.rpc import Bindings, Transport
from fs3.runtime.config import load_config
from fs3.runtime.durable_files import measure_space
from fs3.runtime.incarnation import IncarnationFile
from fs3.runtime.metric_sources import MetricSources
from fs3.runtime.node_key import ensure_node_key
from fs3.runtime.store_scrub import StoreScrub
from fs3.runtime.ticket_gate import TicketGate
from fs3.services.meta.config import MetaConfig
from fs3.services.meta.metrics import MetaMetrics
from fs3.services.meta.service import MetaService
from fs3.services.mgmtd.dashboard import DashboardFeed, ServiceSource
from fs3.services.mgmtd.manager_tickets import ManagerTickets
from fs3.services.mgmtd.metrics import MgmtdMetrics
from fs3.services.mgmtd.process_survey import ProcessSurvey
from fs3.services.mgmtd.service import MgmtdService
from fs3.services.storage.config import StorageConfig
from fs3.services.storage.metrics import StorageMetrics
from fs3.services.storage.service import StorageService

STOP_GRACE_NS = 5 * SECOND

SCHEMAS: dict[Role, type[msgspec.Struct]] = {Role.META: MetaConfig, Role.STORAGE: StorageConfig}
"""What the manager accepts as distributed configuration."""


async def start_service(options: ServeOptions, stack: AsyncExitStack) -> dict[str, str]:
    """Start the service and its listeners; `stack` stops them in reverse. Returns its endpoints by scheme."""
    options.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    clock = OsClock()
    observer = ProcessObserver(options, clock)
    observer.start(stack)
    if options.role is not ServiceRole.mgmtd:
        observer.serve(stack)
    match options.role:
        case ServiceRole.mgmtd:
            return await _start_mgmtd(options, stack, clock, observer)
        case ServiceRole.meta:
            return await _start_meta(options, stack, clock, observer)
        case ServiceRole.storage:
            return await _start_storage(options, stack, clock, observer)


class _Listeners:
    """The endpoints of one process, on every wire."""

    def __init__(
        self,
        options: ServeOptions,
        stack: AsyncExitStack,
        clock: OsClock,
        observer: ProcessObserver,
        security: SecurityState,
        paths: BulkPaths | None = None,
    ) -> None:
        self._options = options
        self._stack = stack
        counts, gate = observer.counts, TicketGate(security, clock, audit=observer.audit)
        observer.sources.add("tickets", gate.samples)
        self._gate = gate
        self._transports: list[tuple[Transport, str]] = [
            (
                framed := framed_wire(options.tls, clock, counts=counts, gate=gate, paths=paths),
                _endpoint(framed, options.listen, "--listen"),
            ),
            (
                grpc := GrpcTransport(clock, counts=counts, gate=gate, credentials=options.tls),
                _endpoint(grpc, options.grpc_listen, "--grpc-listen"),
            ),
        ]
        if options.local_listen:
            self._transports.append((LocalTransport(clock, counts=counts, gate=gate), f"local://{options.local_listen}"))

    async def open(self, bindings: Bindings) -> dict[str, str]:
        """Listen; returns {scheme: endpoint others should use}."""
        endpoints = {}
        for wanted in (self._options.listen, self._options.grpc_listen):
            check_exposure(wanted, is_secured=self._gate.is_on, is_insecure=self._options.is_insecure)
        for transport, wanted in self._transports:
            listener = await transport.serve(wanted, bindings)
            self._stack.push_async_callback(listener.close, STOP_GRACE_NS)
            endpoints[transport.scheme] = self._advertise(transport.scheme, listener.endpoint)
        return endpoints

    def _advertise(self, scheme: str, endpoint: str) -> str:
        if scheme == "local" or not self._options.advertise:
            return endpoint
        return f"{scheme}://{host_port(self._options.advertise, int(endpoint.rpartition(':')[2]))}"


def _endpoint(transport: Transport, address: str, option: str) -> str:
    return f"{transport.scheme}://{_host_port(address, option)}"


def _host_port(text: str, option: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise error(Code.INVALID, f"{option} {text!r} is not host:port")
    return text


async def _connect_mgmtd(
    options: ServeOptions, stack: AsyncExitStack, clock: OsClock, counts: RpcCounts | None, keys: ServiceKeys
) -> MgmtdClient:
    """Services talk to the manager on the framed wire, unless an address says gRPC: heartbeats are all that a cluster at rest
    does, and on gRPC one costs several times as much and keeps four threads of each process from sleeping."""
    endpoints = manager_endpoints(options)
    spoken = {endpoint.partition("://")[0] for endpoint in endpoints}
    wires: list[Transport] = [
        framed_wire(options.tls, clock, counts=counts, tickets=keys.session),
        GrpcTransport(clock, counts=counts, tickets=keys.session, credentials=options.tls),
    ]
    connector = Connector([wire for wire in wires if wire.scheme in spoken], host="")
    stack.push_async_callback(connector.close)
    mgmtd = MgmtdClient(connector, endpoints, clock, expected_cluster=_expected_cluster(options), session=keys.session)
    stack.push_async_callback(mgmtd.close)
    await mgmtd.start()
    return mgmtd


def _service_keys(options: ServeOptions, clock: OsClock) -> ServiceKeys:
    """What the process proves itself with: the key of its machine, or one of its own."""
    if options.machine is not None:
        return ServiceKeys(machine_credentials(options.machine.proof, options.name), clock, certificate=options.tls)
    key = ensure_node_key(options.data_dir)
    return ServiceKeys(node_credentials(options.name, key), clock, stored_of(key), options.tls)


def _expected_cluster(options: ServeOptions) -> bytes:
    """Id of the cluster the machine has joined; b"" where none has to."""
    return options.machine.require_cluster() if options.machine is not None else b""


def _proof(options: ServeOptions) -> MachineProof | None:
    return options.machine.proof if options.machine is not None else None


def manager_endpoints(options: ServeOptions) -> list[str]:
    """Where the managers are, as the process was told."""
    return [manager_endpoint(address, has_tls=options.tls is not None) for address in options.mgmtd]


def manager_endpoint(address: str, *, has_tls: bool = False) -> str:
    """Where a manager is, as `--mgmtd` says it: host:port on the framed wire, or a URL. FS3Error INVALID for neither."""
    scheme, _, rest = address.rpartition("://")
    framed, grpc = ("tls", "grpcs") if has_tls else ("tcp", "grpc")
    if scheme not in ("", framed, grpc):
        raise error(Code.INVALID, f"--mgmtd {address!r}: managers are reached by {framed}:// or {grpc}://")
    return f"{scheme or framed}://{_host_port(rest, '--mgmtd')}"


def _activity(observer: ProcessObserver) -> ActivityMeter | None:
    return ActivityMeter(observer.counts) if observer.counts is not None else None


def _data_connector(
    options: ServeOptions,
    stack: AsyncExitStack,
    clock: OsClock,
    counts: RpcCounts | None,
    keys: ServiceKeys,
    paths: BulkPaths | None = None,
) -> Connector:
    """Data between services travels on the framed wire."""
    wires = [
        LocalTransport(clock, counts=counts, tickets=keys.session),
        framed_wire(options.tls, clock, counts=counts, tickets=keys.session, paths=paths),
    ]
    connector = Connector(wires, host_identity())
    stack.push_async_callback(connector.close)
    return connector


async def _start_mgmtd(options: ServeOptions, stack: AsyncExitStack, clock: OsClock, observer: ProcessObserver) -> dict[str, str]:
    config = load_config(MgmtdConfig, options.config, besides=(STORE_KEY,))
    if options.config is None:
        config = MgmtdConfig(storage_nodes=options.storage, replicas=options.replicas, targets_per_node=options.targets)
    lock_lease_ns = config.manager_lease_ns * manager_lock_lease_ns // manager_lease_ns
    on_given_up = options.shutdown.fail
    store = options.store()
    kv = await open_store(store, ServiceRole.mgmtd, clock, on_given_up=on_given_up, lock_lease_ns=lock_lease_ns)
    stack.push_async_callback(kv.close)
    scrub = StoreScrub(kv, clock)
    stack.push_async_callback(scrub.stop)
    scrub.start()
    measure = partial(measure_space, [options.data_dir, *store.directories])
    node_key = NodeKey(options.name, stored_of(ensure_node_key(options.data_dir))) if options.machine is None else None
    service = MgmtdService(
        kv,
        clock,
        config,
        os.urandom,
        name=options.name,
        schemas=SCHEMAS,
        on_given_up=on_given_up,
        measure_space=measure,
        describe_store=lambda: describe_store(store, kv),
        expected_cluster=_expected_cluster(options),
        keeps_events=True,
        audit=observer.audit,
        node_key=node_key,
        issuer=MachineIssuer(),
    )
    observer.add_disks(measure)
    observer.sources.add("store", kv.samples)
    observer.sources.add("cluster", MgmtdMetrics(service, clock).samples)
    page = observer.serve(stack, _dashboard_site(options, clock, observer, service))
    await service.start()
    endpoints = await _Listeners(options, stack, clock, observer, service.security).open(
        {**service.bindings(), **observer.bindings()}
    )
    service.announce([*endpoints.values(), *([page] if page else [])])
    observer.admit_readers(service.security, [endpoints["tcp" if options.tls is None else "tls"]])
    stack.push_async_callback(service.stop)
    return endpoints


def _dashboard_site(options: ServeOptions, clock: OsClock, observer: ProcessObserver, service: MgmtdService) -> DashboardSite:
    tickets = ManagerTickets(service.security, clock, options.name)
    survey = ProcessSurvey(clock, lambda: Connector([framed_wire(options.tls, clock, tickets=tickets)], host=""), tickets)
    feed = DashboardFeed(ServiceSource(service, clock), clock, survey, options.name)
    return DashboardSite(feed, observer.site_names())


async def _start_meta(options: ServeOptions, stack: AsyncExitStack, clock: OsClock, observer: ProcessObserver) -> dict[str, str]:
    config = load_config(MetaConfig, options.config, besides=(STORE_KEY,))
    store = options.store()
    kv = await open_store(store, ServiceRole.meta, clock, on_given_up=options.shutdown.fail)
    stack.push_async_callback(kv.close)
    scrub = StoreScrub(kv, clock)
    stack.push_async_callback(scrub.stop)
    scrub.start()
    keys = _service_keys(options, clock)
    mgmtd = await _connect_mgmtd(options, stack, clock, observer.counts, keys)
    connector = _data_connector(options, stack, clock, observer.counts, keys)
    storage = StorageClient(mgmtd, connector, clock, draw_client_id(os.urandom))
    stack.push_async_callback(storage.close)
    service = MetaService(kv, clock, mgmtd, storage, config, os.urandom, security=keys.state)
    observer.add_disks(partial(measure_space, [options.data_dir, *store.directories]))
    observer.sources.add("store", kv.samples)
    observer.sources.add("operations", MetaMetrics(service).samples)
    observer.sources.add("retries", storage.samples)
    await service.start()
    endpoints = await _Listeners(options, stack, clock, observer, keys.state).open({**service.bindings(), **observer.bindings()})
    stack.push_async_callback(service.stop)
    starts = IncarnationFile(options.data_dir / "incarnation", store.directories)
    member = Member(
        mgmtd, clock, starts, name=options.name, role=Role.META, configured=service, kept=scrub, proof=_proof(options),
        keys=keys,
        activity=_activity(observer),
    )  # fmt: skip
    addresses = list(endpoints.values())
    await member.register(mgmtd.cluster, addresses, host_identity(), os.getpid(), by_directory=store.is_remote)
    if store.is_remote:
        service.use_tally(member.node)
    member.start()
    stack.push_async_callback(member.stop)
    observer.admit_readers(keys.state, manager_endpoints(options))
    return endpoints


async def _start_storage(
    options: ServeOptions, stack: AsyncExitStack, clock: OsClock, observer: ProcessObserver
) -> dict[str, str]:
    take_short_turns()
    config = load_config(StorageConfig, options.config)
    directories = [options.data_dir, *options.disks]
    disks = DataDirectories(directories, options.name)
    keys = _service_keys(options, clock)
    mgmtd = await _connect_mgmtd(options, stack, clock, observer.counts, keys)
    paths = rdma_paths(clock, allowed_devices())
    if paths is not None:
        paths.log_devices()
    connector = _data_connector(options, stack, clock, observer.counts, keys, paths)
    stores = chunk_store_factory(disks, clock, observer.sources)
    proof, activity = _proof(options), _activity(observer)
    service = StorageService(
        disks, stores, clock, mgmtd, connector, config, proof, options.domain, keys, activity, files=OsHostFiles()
    )
    observer.add_disks(partial(measure_space, directories))
    observer.sources.add("targets", StorageMetrics(service).samples)
    listeners = _Listeners(options, stack, clock, observer, keys.state, paths)
    endpoints = await listeners.open({**service.bindings(), **observer.bindings()})

    async def stop() -> None:
        await service.stop(hand_over=options.shutdown.hand_over)

    stack.push_async_callback(stop)
    await service.start(list(endpoints.values()), host_identity())
    observer.admit_readers(keys.state, manager_endpoints(options))
    return endpoints


def chunk_store_factory(disks: DataDirectories, clock: OsClock, sources: MetricSources | None = None) -> StoreFactory:
    """Opens or makes the store of a target in its place on the disks, and has it say its readings among `sources`."""

    async def open_store(target: TargetId) -> ChunkStore:
        store = FileChunkStore.open(disks.ensure_target_dir(target), target, clock, cluster=disks.cluster)
        if sources is not None:
            sources.add(f"store of target {target}", partial(store.samples, target))
        return store

    return open_store
